// A build as it goes on. Without this script the page reloads itself every two seconds.
"use strict";

const watch = document.getElementById("watch");
const log = document.getElementById("log");
const { prefix, xsrf } = document.body.dataset;
const LINES = 500;
let lines = [];
let drawn = false;

function draw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.textContent = lines.join("\n");
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
}

function row(part) {
  return watch.querySelector(`tr[data-part="${CSS.escape(part)}"]`);
}

function onPhase(event) {
  const found = event.part && row(event.part);
  if (!found) return;
  found.querySelector(".state").textContent = event.message ? `${event.phase}: ${event.message}` : event.phase;
  if (event.phase === "ready") found.querySelector("progress").value = 100;
}

function onProgress(event) {
  const found = row(event.part);
  if (found && event.percent !== undefined) found.querySelector("progress").value = event.percent;
}

function onLog(event) {
  lines.push(`[${event.part}] ${event.message}`);
  if (lines.length > LINES) lines = lines.slice(-LINES);
  draw();
}

const source = new EventSource(`${prefix}api/builds/${watch.dataset.build}/events?_xsrf=${encodeURIComponent(xsrf)}`);
source.addEventListener("phase", (message) => onPhase(JSON.parse(message.data)));
source.addEventListener("progress", (message) => onProgress(JSON.parse(message.data)));
source.addEventListener("log", (message) => onLog(JSON.parse(message.data)));
source.addEventListener("end", () => {
  source.close();
  // The server is being started in this user's name: the page leads there once the hub has taken it up.
  setTimeout(() => location.reload(), 150);
});
