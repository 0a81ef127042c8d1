// One printer's card: made once, and then only the texts that changed are touched.

import { CameraRow } from "./cameras.js";
import { bySensorOrder, clock, condition, count, degrees, duration, secondsLeft, sensorName, toTheSecond } from "./format.js";

// An error that nobody minded for so long is no longer shown in red.
const OLD_AFTER_S = 600;

const template = document.getElementById("card");

const ACTIONS = {
  pause: {
    label: "Pause", endpoint: "pause_resume/pause",
    title: (name) => `Pause the print on ${name}?`, text: "Klipper runs PAUSE as soon as the current move allows.", yes: "Pause",
  },
  resume: {
    label: "Resume", endpoint: "pause_resume/resume",
    title: (name) => `Resume the print on ${name}?`, text: "Klipper runs RESUME: heaters and motors start.", yes: "Resume",
  },
  cancel: {
    label: "Cancel", endpoint: "pause_resume/cancel", danger: true,
    title: (name) => `Cancel the print on ${name}?`, text: "The print cannot be resumed afterwards.", yes: "Cancel the print",
  },
  restart: {
    label: "Firmware restart", endpoint: "gcode/firmware_restart",
    title: (name) => `Restart the firmware of ${name}?`, text: "Klipper reads its configuration anew and resets its boards.", yes: "Restart",
  },
  stop: {
    label: "Emergency stop", method: "router/emergency_stop", danger: true,
    title: (name) => `Stop ${name} at once?`,
    text: "Heaters and motors are switched off this moment and the print is lost. Afterwards Klipper needs a firmware restart.",
    yes: "Emergency stop",
  },
};

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Card {
  /** `act(name, action)` is called when a button is pressed. */
  constructor(name, act) {
    this.name = name;
    this.act = act;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.dataset.printer = name;
    this.parts = Object.fromEntries(
      ["name", "state", "message", "job", "file", "percent", "layer", "eta", "temperatures", "display", "errors", "meta", "actions", "links"]
        .map((part) => [part, this.element.querySelector(`.${part}`)]),
    );
    this.progress = this.element.querySelector("progress");
    this.cameras = new CameraRow(this.element.querySelector(".cameras"));
    this.sensors = new Map();
    this.buttons = "";
    this.shownLinks = "";
    this.shownErrors = "";
    this.parts.name.textContent = name;
    this.progress.setAttribute("aria-label", `Progress of the print on ${name}`);
  }

  show(card) {
    const { word, tone } = condition(card);
    const print = card.state === "ready" ? card.status.print_stats?.state ?? "" : "";
    this.element.dataset.tone = tone;
    this.element.dataset.state = card.state;
    this.element.dataset.print = print;
    setText(this.parts.state, word);
    setText(this.parts.message, this.message(card, print));
    this.showJob(card, print);
    this.showTemperatures(card.status);
    setText(this.parts.display, print && card.status.display_status?.message || "");
    this.showErrors(card.errors ?? []);
    setText(this.parts.meta, this.meta(card));
    this.showActions(this.actionsOf(card, print));
    this.showLinks(card.links ?? []);
    this.cameras.show(this.name, card.cameras ?? []);
  }

  message(card, print) {
    if (card.state === "disconnected") return `Klipper does not answer: ${card.message}`;
    if (card.state !== "ready") return card.message;
    if (print === "error") return card.status.print_stats.message || "The print ended in an error.";
    if (card.moonraker_problem) return `Its Moonraker does not answer: ${card.moonraker_problem}`;
    return "";
  }

  showJob(card, print) {
    const { print_stats: stats = {}, display_status: display = {}, virtual_sdcard: file = {} } = card.status;
    const busy = print === "printing" || print === "paused";
    this.parts.job.hidden = !(busy || (stats.filename && ["complete", "cancelled", "error"].includes(print)));
    if (this.parts.job.hidden) return;
    const progress = print === "complete" ? 1 : display.progress ?? file.progress ?? 0;
    const left = print === "printing" ? secondsLeft(progress, stats.print_duration) : null;
    setText(this.parts.file, stats.filename || "print without a file");
    this.progress.value = progress;
    setText(this.parts.percent, `${Math.floor(progress * 100)} %`);
    const { current_layer: layer, total_layer: layers } = stats.info ?? {};
    setText(this.parts.layer, layer != null && layers ? `Layer ${layer} of ${layers}` : "");
    let eta = "";
    if (left !== null) eta = `${duration(left)} left, done ${clock(Date.now() / 1000 + left)}`;
    else if (stats.total_duration > 0) eta = `${duration(stats.total_duration)} ${busy ? "so far" : "in all"}`;
    setText(this.parts.eta, eta);
  }

  showTemperatures(status) {
    const names = Object.keys(status).filter((name) => typeof status[name].temperature === "number").sort(bySensorOrder);
    if (names.join() !== [...this.sensors.keys()].join()) {
      this.sensors = new Map(names.map((name) => [name, sensorRow(name)]));
      this.parts.temperatures.replaceChildren(...[...this.sensors.values()].map((row) => row.element));
    }
    for (const [name, row] of this.sensors) {
      const { temperature, target } = status[name];
      setText(row.value, degrees(temperature));
      setText(row.target, target > 0 ? ` / ${Number.isInteger(target) ? target : degrees(target)}°` : "°");
      row.element.className = !(target > 0) ? "" : temperature < target - 2 ? "heating" : "at-target";
    }
  }

  showErrors(errors) {
    const last = errors.at(-1);
    this.parts.errors.hidden = !last;
    this.parts.errors.classList.toggle("old", last && Date.now() / 1000 - last.time > OLD_AFTER_S);
    const wanted = last ? String(last.number) : "";
    if (!last || wanted === this.shownErrors) return;
    this.shownErrors = wanted;
    const summary = this.parts.errors.querySelector("summary");
    setText(summary, `${toTheSecond(last.time)} ${last.text}`);
    this.parts.errors.querySelector("ol").replaceChildren(...errors.slice(0, -1).reverse().map((error) => {
      const line = document.createElement("li");
      const time = document.createElement("time");
      time.textContent = toTheSecond(error.time);
      line.append(time, error.text);
      return line;
    }));
  }

  meta(card) {
    const parts = [];
    if (card.queue) parts.push(`${count(card.queue, "script", "scripts")} in the queue`);
    if (card.subscriptions) parts.push(`followed by ${card.subscriptions}`);
    if (card.state === "ready" && !card.ready) parts.push("ROUTER_ON_READY is under way");
    return parts.join(" · ");
  }

  actionsOf(card, print) {
    const actions = [];
    if (card.status.pause_resume && print === "printing") actions.push("pause", "cancel");
    if (card.status.pause_resume && print === "paused") actions.push("resume", "cancel");
    if (card.state === "shutdown" || card.state === "error") actions.push("restart");
    if (card.state === "ready" || card.state === "startup") actions.push("stop");
    return actions;
  }

  showActions(actions) {
    const wanted = actions.join();
    if (wanted === this.buttons) return; // a button must not vanish under a finger
    this.buttons = wanted;
    this.parts.actions.replaceChildren(...actions.map((key) => {
      const action = ACTIONS[key];
      const button = document.createElement("button");
      button.type = "button";
      button.className = `${action.danger ? "danger" : ""} ${key}`;
      button.textContent = action.label;
      button.setAttribute("aria-label", `${action.label}: ${this.name}`);
      button.onclick = () => this.act(this.name, action, button);
      return button;
    }));
  }

  showLinks(links) {
    const wanted = JSON.stringify(links);
    if (wanted === this.shownLinks) return;
    this.shownLinks = wanted;
    this.parts.links.setAttribute("aria-label", `Web interfaces of ${this.name}`);
    this.parts.links.replaceChildren(...links.map((link) => {
      const anchor = document.createElement("a");
      anchor.href = address(link);
      anchor.textContent = link.label;
      return anchor;
    }));
  }

  remove() {
    this.cameras.end();
    this.element.remove();
  }
}

/** A link is a path below this page, or an own origin: another port, or another name at this port. */
function address(link) {
  if (link.path !== undefined) return new URL(link.path, document.baseURI).href;
  const url = new URL("/", document.baseURI);
  if (link.host !== undefined) url.hostname = link.host;
  if (link.port !== undefined) url.port = link.port;
  return url.href;
}

function sensorRow(name) {
  const element = document.createElement("div");
  const label = document.createElement("dt");
  label.textContent = sensorName(name);
  label.title = name;
  const content = document.createElement("dd");
  const value = document.createElement("span");
  const target = document.createElement("small");
  content.append(value, target);
  element.append(label, content);
  return { element, value, target };
}
