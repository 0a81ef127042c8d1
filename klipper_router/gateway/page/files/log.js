// The event and route log: newest first, filtered, held while somebody reads.

import { toTheSecond } from "./format.js";

const MAX_LINES = 200;

const byId = (id) => document.getElementById(id);

export class Log {
  constructor() {
    this.entries = [];
    this.held = false;
    this.list = byId("log");
    this.printer = byId("log-printer");
    this.kind = byId("log-kind");
    this.hold = byId("log-hold");
    this.printer.onchange = this.kind.onchange = () => this.showAll();
    this.hold.onclick = () => {
      this.held = !this.held;
      this.hold.setAttribute("aria-pressed", String(this.held));
      if (!this.held) this.showAll();
    };
  }

  /** Which printers can be chosen. */
  choose(names) {
    const chosen = this.printer.value;
    const options = ["", ...names].map((name) => new Option(name || "all", name, false, name === chosen));
    this.printer.replaceChildren(...options);
    if (this.printer.value !== chosen) this.showAll();
  }

  reset(entries) {
    this.entries = entries.slice(-MAX_LINES);
    this.showAll();
  }

  /** An entry of an id that is there already takes its place, at the top: the same happened again. */
  add(entries) {
    const ids = new Set(entries.map((entry) => entry.id));
    this.entries = [...this.entries.filter((entry) => !ids.has(entry.id)), ...entries].slice(-MAX_LINES);
    if (this.held) {
      this.hold.textContent = "Hold (more has come)";
      return;
    }
    for (const element of [...this.list.children]) if (ids.has(Number(element.dataset.id))) element.remove();
    this.list.prepend(...entries.filter((entry) => this.wanted(entry)).reverse().map(line));
    while (this.list.childElementCount > MAX_LINES) this.list.lastElementChild.remove();
    this.showEmpty();
  }

  showAll() {
    this.hold.textContent = "Hold";
    this.list.replaceChildren(...this.entries.filter((entry) => this.wanted(entry)).reverse().map(line));
    this.showEmpty();
  }

  showEmpty() {
    byId("log-empty").hidden = this.list.childElementCount > 0;
    byId("log-empty").textContent = this.entries.length
      ? "Nothing of this kind."
      : "Nothing yet: calls, events and callbacks between printers appear here.";
  }

  wanted(entry) {
    const { value: printer } = this.printer;
    const { value: kind } = this.kind;
    return (!printer || entry.source === printer || entry.target === printer) && (!kind || entry.kind === kind);
  }
}

function line(entry) {
  const element = document.createElement("li");
  element.dataset.kind = entry.kind;
  element.dataset.id = entry.id;
  const time = document.createElement("time");
  time.dateTime = new Date(entry.time * 1000).toISOString();
  time.textContent = toTheSecond(entry.time);
  const who = entry.target && entry.target !== entry.source ? `${entry.source} → ${entry.target}` : entry.source;
  const what = entry.count > 1 ? `${entry.text}  ×${entry.count}` : entry.text;
  element.append(time, span("kind", entry.kind), span("who", who), span("what", what));
  return element;
}

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}
