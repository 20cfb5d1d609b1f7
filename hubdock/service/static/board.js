// Rows that hold the typed words, and what was not read yet as soon as it is. Without this script the buttons and links do the same.
const board = document.getElementById("board");
const text = document.getElementById("q");
const SOON = 1500; // ms until what was not read yet is asked for again
const LATER = 60_000; // ms between two looks at a board that lies open
const MOST = 20; // times that it is asked for soon: what can't be read is not asked for all day
let tries = 0;

// The rows of this page that lack a typed word are hidden. The button asks the server, which knows the other pages too.
function hide() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of board.querySelectorAll("section")) {
    const title = section.querySelector("h2").textContent.toLowerCase();
    const rows = [...section.querySelectorAll("tr[data-row]")];
    for (const row of rows) {
      const held = `${title} ${[...row.cells].slice(1, 3).map((cell) => cell.textContent.toLowerCase()).join(" ")}`; // branch and commit, as on the server
      row.hidden = !words.every((word) => held.includes(word));
    }
    section.hidden = words.length > 0 && rows.every((row) => row.hidden);
  }
}

function name(box) {
  return `${box.closest("section").querySelector("h2").textContent}\n${box.value}`;
}

// What was selected stays selected.
function replace(fresh) {
  const selected = new Set([...board.querySelectorAll("input:checked")].map(name));
  board.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
  board.dataset.waiting = fresh.dataset.waiting;
  for (const box of board.querySelectorAll("input[type=checkbox]")) box.checked = selected.has(name(box));
  hide();
}

// The same page once more, as the server draws it: a document of its own, in which nothing runs.
function load() {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const address = new URL(location.href);
    address.searchParams.delete("fresh");
    address.hash = "";
    request.open("GET", address);
    request.responseType = "document";
    request.onloadend = () => resolve(request.status === 200 ? request.response : null);
    request.send();
  });
}

function wait() {
  const soon = Number(board.dataset.waiting) > 0 && tries < MOST;
  tries += soon ? 1 : 0;
  setTimeout(look, soon ? SOON : LATER);
}

async function look() {
  const page = document.hidden ? null : await load();
  const fresh = page?.getElementById("board");
  // Nothing moves under somebody's hands.
  if (fresh?.children.length && !board.contains(document.activeElement)) replace(fresh);
  wait();
}

text.addEventListener("input", hide);
wait();
