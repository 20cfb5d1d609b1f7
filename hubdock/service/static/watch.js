// A start as it goes on. Without this script the page reloads itself every two seconds.
// The server sends the whole state each time and the end of the output; nothing here grows with the length of the log.
import { plain } from "./plain.js";

const LINES = 500;
const CHARACTERS = 200000;
const DRAW = 200; // milliseconds between two drawings of the log
const watch = document.getElementById("watch");
const log = document.getElementById("log");
const follow = document.getElementById("follow");
const copy = document.getElementById("copy");
const { prefix, xsrf } = document.body.dataset;
const title = document.title.replace(/^\d+ % · /, "");

let lines = log.textContent.split("\n").filter((line) => line);
let following = true;
let drawing = false;
let state = null;
let received = 0;
let most = 0;
let failures = 0;
let lost = false;
let leaving = false;

// --- the log ---

function trim() {
  let size = 0;
  let first = lines.length;
  while (first > 0 && lines.length - first < LINES && size + lines[first - 1].length < CHARACTERS) {
    first -= 1;
    size += lines[first].length + 1;
  }
  if (first > 0) document.getElementById("skipped").hidden = false;
  lines = lines.slice(first);
}

function scroll() {
  if (following) log.scrollTop = log.scrollHeight;
}

function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    if (!following) return; // what is read stands still; the lines wait
    log.textContent = lines.join("\n");
    scroll();
  }, DRAW);
}

function onLines(told) {
  if (told.skipped) {
    lines = [];
    document.getElementById("skipped").hidden = false;
  }
  for (const line of told.lines) lines.push(plain(line, 600));
  trim();
  draw();
}

function setFollowing(on) {
  following = on;
  follow.setAttribute("aria-pressed", String(on));
  follow.classList.toggle("active", on);
  if (on && watch.dataset.over === "no") draw();
  else scroll();
}

follow.hidden = watch.dataset.over === "yes";
follow.classList.add("active");
follow.addEventListener("click", () => setFollowing(!following));
log.addEventListener("scroll", () => {
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
  if (!atEnd && following && !drawing) setFollowing(false);
  else if (atEnd && !following) setFollowing(true);
});

async function copyLog() {
  const text = lines.join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page without https has no clipboard: what is selected is copied.
    const selection = window.getSelection();
    selection.selectAllChildren(log);
    document.execCommand("copy");
    selection.removeAllRanges();
  }
  copy.textContent = "Copied";
  setTimeout(() => { copy.textContent = "Copy"; }, 2000);
}
copy.hidden = false;
copy.addEventListener("click", copyLog);

// --- the stages ---

function formatSeconds(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function describe(stage) {
  const past = stage.state === "running" ? (performance.now() - received) / 1000 : 0;
  const took = formatSeconds(stage.seconds + past);
  return { running: `${took} so far`, done: `done in ${took}`, failed: `failed after ${took}`, ready: "ready", cancelled: "not done" }[stage.state] ?? "waiting";
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text) made.textContent = text;
  return made;
}

function drawStage(stage) {
  const item = element("li", "stage");
  item.dataset.state = stage.state;
  item.append(element("span", "stage-title", stage.title), " ", element("span", "stage-time", describe(stage)));
  if (stage.message) item.append(element("span", "stage-message", plain(stage.message, 300)));
  if (stage.steps.length) {
    const steps = element("ul");
    for (const step of stage.steps) {
      const entry = element("li", "", `${plain(step.title, 100)} `);
      entry.dataset.state = step.state;
      entry.append(element("span", "stage-time", describe(step)));
      steps.append(entry);
    }
    item.append(steps);
  }
  return item;
}

function set(id, text) {
  const found = document.getElementById(id);
  if (found && found.textContent !== text) found.textContent = text;
}

function drawState() {
  if (!state || lost) return;
  document.getElementById("stages").replaceChildren(...state.stages.map(drawStage));
  set("words", plain(state.words, 300));
  set("left", state.left);
  most = Math.max(most, state.percent);
  set("percent-told", `${most} %`);
  const bar = document.getElementById("percent");
  if (bar) bar.value = most;
  document.title = state.over ? title : `${most} % · ${title}`;
  const notices = document.getElementById("notices");
  const known = new Set([...notices.children].map((notice) => notice.textContent));
  for (const notice of state.notices) if (!known.has(plain(notice))) notices.append(element("div", "alert alert-info", plain(notice)));
}

// --- the stream ---

function enter() {
  // Back then leads to the choice, and not here, where there is nothing more to see.
  window.location.replace(state.url);
}

function onEnd(source) {
  source.close();
  if (leaving) return; // a reload would overtake where the form leads
  if (state && state.url) enter();
  else window.location.reload();
}

async function reconnect() {
  // An EventSource gives up when an answer is an error, as it is while the service restarts.
  failures += 1;
  if (failures % 5 === 0) {
    const answer = await fetch(`${prefix}api/builds/${watch.dataset.build}`).catch(() => null);
    if (answer && answer.ok) window.location.reload();
  }
  setTimeout(connect, Math.min(5000, 500 * failures));
}

let position = watch.dataset.from;

function connect() {
  const query = new URLSearchParams({ view: "page", from: position, _xsrf: xsrf });
  const source = new EventSource(`${prefix}api/builds/${watch.dataset.build}/events?${query}`);
  source.addEventListener("state", (message) => {
    failures = 0;
    lost = false;
    state = JSON.parse(message.data);
    received = performance.now();
    drawState();
  });
  source.addEventListener("lines", (message) => {
    position = message.lastEventId;
    onLines(JSON.parse(message.data));
  });
  source.addEventListener("end", () => onEnd(source));
  source.addEventListener("error", () => {
    lost = true;
    set("left", "The connection is lost; trying again …");
    if (source.readyState === EventSource.CLOSED) reconnect();
  });
}

document.getElementById("cancel")?.form.addEventListener("submit", () => { leaving = true; });

const failing = document.getElementById("failing");
if (watch.dataset.over === "no") {
  scroll();
  connect();
  setInterval(drawState, 1000);
} else if (failing) {
  setFollowing(false);
  log.scrollTop = failing.offsetTop - log.offsetTop - log.clientHeight / 2;
} else {
  scroll();
}
