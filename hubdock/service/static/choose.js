// Branches as soon as a repository is there, and the plan as soon as a choice is: what the buttons "List branches" and "Show plan" do without this script.
import { Combobox } from "./combobox.js";
import { plain } from "./plain.js";

const PLAN_PAUSE = 100;
const REPO_PAUSE = 400; // each pause asks the remote
const KIND_PAUSE = 700; // a field that is being typed into is told of its fault later

const { prefix, xsrf } = document.body.dataset;
const form = document.getElementById("choose");
const field = (name) => document.getElementById(name);
const repo = field("repo");
const ref = field("ref");
const told = field("refs-told");
const panel = field("plan");
const FIELDS = ["repo", "ref", "new_branch", "cpu", "memory", "shm", "gpu"];

// What the server said of the last try stays until something is changed.
let wrong = FIELDS.some((name) => field(name)?.hasAttribute("aria-invalid")) || field("general").children.length > 0;

for (const button of form.querySelectorAll(".no-script")) button.hidden = true;

// --- messages beside their fields ---

function clear(name) {
  const problem = field(`${name}-problem`);
  if (!problem || problem.hidden) return;
  problem.hidden = true;
  problem.removeAttribute("role");
  problem.replaceChildren();
  field(name)?.classList.remove("is-invalid");
  field(name)?.removeAttribute("aria-invalid");
}

function clearAll() {
  FIELDS.forEach(clear);
  field("general").replaceChildren();
}

// `words` are nodes or text. A message stands where its field is, and takes the focus from nobody.
function complain(name, words) {
  clearAll();
  const problem = FIELDS.includes(name) ? field(`${name}-problem`) : null;
  if (!problem) {
    const alert = Object.assign(document.createElement("div"), { className: "alert alert-danger" });
    alert.setAttribute("role", "alert");
    alert.append(...words);
    field("general").replaceChildren(alert);
    return;
  }
  problem.replaceChildren(...words);
  problem.setAttribute("role", "alert");
  problem.hidden = false;
  field(name)?.classList.add("is-invalid");
  field(name)?.setAttribute("aria-invalid", "true");
}

// --- the plan ---

let asking = null;
let planTimer = 0;
let faultTimer = 0;

const hint = panel.querySelector("#plan-hint") ?? "";

function forgetPlan() {
  asking?.abort();
  asking = null;
  clearTimeout(planTimer);
  clearTimeout(faultTimer);
}

// The answer is a document that the server has escaped as it does the page; nothing in it runs.
function askPlan() {
  forgetPlan();
  if (!repo.value.trim() || !ref.value.trim()) {
    panel.replaceChildren(hint);
    return;
  }
  const request = (asking = new XMLHttpRequest());
  request.open("POST", `${prefix}plan`);
  request.responseType = "document";
  panel.setAttribute("aria-busy", "true");
  request.addEventListener("load", () => showPlan(request.responseXML));
  request.addEventListener("error", () => showPlan(null));
  request.send(new URLSearchParams(new FormData(form)));
}

function showPlan(answer) {
  asking = null;
  panel.removeAttribute("aria-busy");
  const found = answer?.getElementById("plan-panel");
  if (found) {
    clearAll();
    panel.replaceChildren(document.adoptNode(found));
    field("plan-told").textContent = field("plan-sum").textContent;
    return;
  }
  panel.replaceChildren();
  const problem = answer?.getElementById("plan-problem");
  if (!problem) {
    complain("", ["The plan could not be asked for. Load the page again."]);
    return;
  }
  const name = problem.dataset.field;
  const words = [...document.adoptNode(problem).childNodes];
  // Half a name is no mistake yet: whoever is typing, or choosing from the list, is told when they stop.
  const tell = () => {
    if (name === "ref" && branches.shown) faultTimer = setTimeout(tell, KIND_PAUSE);
    else complain(name, words);
  };
  faultTimer = setTimeout(tell, document.activeElement === field(name) ? KIND_PAUSE : 0);
}

function planSoon(pause = PLAN_PAUSE) {
  forgetPlan();
  panel.setAttribute("aria-busy", "true");
  planTimer = setTimeout(askPlan, pause);
}

// --- branches ---

let listed = "";
let listTimer = 0;
const branches = new Combobox(ref, "Branches and tags", () => {
  wrong = false;
  planSoon(0);
});
branches.fill([...field("refs").options].map((option) => ({ value: option.value, mark: option.text })));

const count = (names, one, many) => `${names.length} ${names.length === 1 ? one : many}`;

async function listBranches() {
  const address = repo.value.trim();
  if (!address || address === listed) return;
  listed = address;
  told.textContent = "Asking for branches …";
  const answer = await fetch(`${prefix}api/branches?repo=${encodeURIComponent(address)}`, { headers: { "X-XSRFToken": xsrf } });
  const found = await answer.json();
  if (address !== repo.value.trim()) return;
  told.textContent = "";
  if (!answer.ok) {
    branches.fill([]);
    complain(found.error.field ?? "repo", [plain(found.error.message)]);
    return;
  }
  clear("repo");
  branches.fill([...found.branches.map((value) => ({ value, mark: "branch" })), ...found.tags.map((value) => ({ value, mark: "tag" }))]);
  const names = [...found.branches, ...found.tags];
  const some = names.slice(0, 12).map((name) => plain(name, 60)).join(", ");
  told.textContent = `${count(found.branches, "branch", "branches")}, ${count(found.tags, "tag", "tags")}: ${some}${names.length > 12 ? " …" : ""}`;
  if (!ref.value) ref.value = found.default;
  if (!wrong) planSoon(0);
}

function listSoon(pause) {
  forgetPlan();
  panel.replaceChildren(hint);
  if (field("offered")) field("offered").hidden = Boolean(repo.value);
  panel.removeAttribute("aria-busy");
  clearTimeout(listTimer);
  listTimer = setTimeout(() => listBranches().catch(() => (told.textContent = "")), pause);
}

if (repo.tagName === "INPUT") {
  const offers = [...field("offers").options].map((option) => ({ value: option.value, mark: option.text, words: option.text }));
  const repositories = new Combobox(repo, "Repositories", () => {
    wrong = false;
    listSoon(0);
  });
  repositories.fill(offers);
}

// --- a new hypothesis from here ---

const fromHere = field("from-here");
const newBranch = field("new_branch");

function showNew(shown) {
  field("new").hidden = !shown;
  fromHere.setAttribute("aria-expanded", String(shown));
  fromHere.textContent = shown ? "No new branch" : "New hypothesis from here";
}

fromHere.hidden = false;
const wantsNew = location.hash === "#new_branch"; // a link of the board
showNew(wantsNew || Boolean(newBranch.value) || newBranch.hasAttribute("aria-invalid"));
if (wantsNew) newBranch.focus();
fromHere.addEventListener("click", () => {
  showNew(field("new").hidden);
  if (!field("new").hidden) {
    newBranch.focus();
  } else if (newBranch.value) {
    newBranch.value = "";
    planSoon(0);
  }
});

// --- what is typed, ticked and clicked ---

form.addEventListener("input", (event) => {
  wrong = false;
  if (event.target === repo) listSoon(repo.tagName === "INPUT" ? REPO_PAUSE : 0);
  else planSoon();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-fill]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  wrong = false;
  const filled = field(link.dataset.fill);
  filled.value = link.dataset.value;
  clear(link.dataset.fill);
  filled.focus();
  if (filled === repo) listSoon(0);
  else planSoon(0);
});

if (repo.value && !branches.items.length) listBranches().catch(() => (told.textContent = ""));
else if (repo.value && ref.value && !wrong && !panel.querySelector("#plan-panel")) askPlan();

// A full queue: the same choice is sent again until there is room, or somebody stops it or types.
if (form.dataset.retry) {
  const waiting = field("retry");
  let left = Number(form.dataset.retry);
  waiting.hidden = false;
  const ticking = setInterval(() => {
    left -= 1;
    field("retry-seconds").textContent = left;
    if (left > 0) return;
    clearInterval(ticking);
    form.requestSubmit(field("start"));
  }, 1000);
  const stop = () => {
    clearInterval(ticking);
    waiting.hidden = true;
  };
  field("retry-stop").addEventListener("click", stop);
  form.addEventListener("input", stop);
}
