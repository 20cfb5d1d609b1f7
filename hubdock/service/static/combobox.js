// A text field with a list below it: the editable combobox of the ARIA Authoring Practices (https://www.w3.org/WAI/ARIA/apg/patterns/combobox/).
// Whatever is typed stays allowed; the list only helps. Without this script the field's own <datalist> does so.
import { plain } from "./plain.js";

const MOST = 200;
let count = 0;

export class Combobox {
  // `picked` is called with the value that was chosen in the list.
  constructor(input, label, picked) {
    this.input = input;
    this.picked = picked;
    this.items = [];
    this.active = -1;
    this.id = `combobox-${(count += 1)}`;
    input.removeAttribute("list");
    this.box = Object.assign(document.createElement("div"), { className: "combobox" });
    const focused = document.activeElement === input;
    input.replaceWith(this.box);
    this.list = Object.assign(document.createElement("ul"), { className: "dropdown-menu", id: this.id, hidden: true });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", label);
    this.box.append(input, this.list);
    if (focused) input.focus();
    const marks = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": this.id };
    for (const [name, value] of Object.entries(marks)) input.setAttribute(name, value);
    input.addEventListener("input", () => this.open(this.find(input.value)));
    input.addEventListener("keydown", (event) => this.press(event));
    input.addEventListener("click", () => (this.shown ? this.close() : this.open(this.items)));
    input.addEventListener("blur", () => this.close());
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.pick(option.dataset.value);
    });
  }

  get shown() {
    return !this.list.hidden;
  }

  // Each item has a `value`, and a `mark` that is shown beside it.
  fill(items) {
    this.items = items;
    if (this.shown) this.open(this.find(this.input.value));
  }

  // Names that start with what was typed come first, then those that hold it. One that is there whole needs no list.
  find(text) {
    const typed = text.trim().toLowerCase();
    if (!typed) return this.items;
    const held = this.items.filter((item) => `${item.value} ${item.words ?? ""}`.toLowerCase().includes(typed));
    const first = held.filter((item) => item.value.toLowerCase().startsWith(typed));
    const found = [...first, ...held.filter((item) => !first.includes(item))];
    return found.length === 1 && found[0].value === text ? [] : found;
  }

  open(items) {
    const found = items.slice(0, MOST);
    this.list.replaceChildren(...found.map((item, number) => this.draw(item, number)));
    this.show(found.length > 0);
    this.move(-1);
  }

  draw(item, number) {
    const option = Object.assign(document.createElement("li"), { id: `${this.id}-${number}`, className: "dropdown-item", textContent: plain(item.value, 300) });
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    option.dataset.value = item.value;
    const mark = Object.assign(document.createElement("small"), { className: "text-body-secondary", textContent: plain(item.mark, 120) });
    if (item.mark) option.append(" ", mark);
    return option;
  }

  show(shown) {
    this.list.hidden = !shown;
    this.list.classList.toggle("show", shown);
    this.input.setAttribute("aria-expanded", String(shown));
  }

  close() {
    this.show(false);
    this.move(-1);
  }

  move(number) {
    const options = [...this.list.children];
    this.active = number;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === number)));
    if (options[number]) {
      this.input.setAttribute("aria-activedescendant", options[number].id);
      options[number].scrollIntoView({ block: "nearest" });
    } else {
      this.input.removeAttribute("aria-activedescendant");
    }
  }

  pick(value) {
    this.input.value = value;
    this.close();
    this.picked(value);
  }

  press(event) {
    const count = this.list.children.length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!this.shown) this.open(this.items);
      else if (count) this.move(event.key === "ArrowDown" ? (this.active + 1) % count : (this.active - 1 + count) % count);
      if (this.shown && this.active < 0 && !event.altKey) this.move(event.key === "ArrowDown" ? 0 : this.list.children.length - 1);
    } else if (event.key === "Enter" && this.shown && this.active >= 0) {
      event.preventDefault();
      this.pick(this.list.children[this.active].dataset.value);
    } else if (event.key === "Escape" && this.shown) {
      event.preventDefault();
      this.close();
    }
  }
}
