// The branches of a repository as soon as it is typed. Without this script the button "List branches" does the same.
"use strict";

const repo = document.getElementById("repo");
const ref = document.getElementById("ref");
const list = document.getElementById("refs");
const told = document.getElementById("refs-told");
const { prefix, xsrf } = document.body.dataset;
let timer = 0;
let asked = "";

async function listBranches() {
  const address = repo.value.trim();
  if (!address || address === asked) return;
  asked = address;
  told.textContent = "Asking for branches …";
  const answer = await fetch(`${prefix}api/branches?repo=${encodeURIComponent(address)}`, { headers: { "X-XSRFToken": xsrf } });
  if (address !== repo.value.trim()) return;
  const found = await answer.json();
  if (!answer.ok) {
    told.textContent = found.error.message;
    list.replaceChildren();
    return;
  }
  const names = [...found.branches, ...found.tags];
  list.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  const count = (list, one, many) => `${list.length} ${list.length === 1 ? one : many}`;
  told.textContent = `${count(found.branches, "branch", "branches")}, ${count(found.tags, "tag", "tags")}: ${names.slice(0, 12).join(", ")}${names.length > 12 ? " …" : ""}`;
  if (!ref.value) ref.value = found.default;
}

repo.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => listBranches().catch(() => (told.textContent = "")), 400);
});
if (repo.value && !list.children.length) listBranches().catch(() => (told.textContent = ""));

// A full queue: the same choice is sent again until there is room, or somebody stops it or types.
const form = document.getElementById("choose");
if (form.dataset.retry) {
  const waiting = document.getElementById("retry");
  let left = Number(form.dataset.retry);
  waiting.hidden = false;
  const ticking = setInterval(() => {
    left -= 1;
    document.getElementById("retry-seconds").textContent = left;
    if (left > 0) return;
    clearInterval(ticking);
    form.requestSubmit(document.getElementById("start"));
  }, 1000);
  const stop = () => {
    clearInterval(ticking);
    waiting.hidden = true;
  };
  document.getElementById("retry-stop").addEventListener("click", stop);
  form.addEventListener("input", stop);
}
