// The dashboard: what the router reports, on cards and in the log, over one WebSocket.

import { Card } from "./card.js";
import { confirmed, toast } from "./dialogs.js";
import { count, duration } from "./format.js";
import { Log } from "./log.js";
import { openManager } from "./manage.js";
import { RouterSocket } from "./socket.js";

const byId = (id) => document.getElementById(id);

const state = { order: [], printers: {}, router: {} };
const cards = new Map();
const log = new Log();

const socket = new RouterSocket({
  async opened() {
    try {
      replace(await socket.call("router/dashboard/subscribe"));
      connection("open", "Live");
    } catch (error) {
      toast(error.message, true);
    }
  },
  lost() {
    connection("lost", "Router not reachable");
  },
  locked() {
    connection("lost", "Locked: needs the API key");
  },
  hidden() {
    connection("connecting", "Asleep");
  },
  notified(method, params) {
    if (method === "router/dashboard/update") update(params);
    else if (method === "router/error") toast(params.message, true);
  },
});

function connection(name, text) {
  byId("connection").dataset.state = name;
  byId("connection").textContent = text;
  document.body.classList.toggle("stale", name !== "open");
}

function replace(snapshot) {
  state.order = snapshot.order;
  state.printers = snapshot.printers;
  state.router = snapshot.router;
  log.choose(state.order);
  log.reset(snapshot.log);
  arrange();
  for (const name of state.order) cards.get(name).show(state.printers[name]);
  summarize();
}

function update(changes) {
  for (const [name, changed] of Object.entries(changes.printers ?? {})) {
    state.printers[name] = merged(state.printers[name] ?? { status: {} }, changed);
  }
  if (changes.order) {
    state.order = changes.order;
    log.choose(state.order);
    arrange();
  }
  for (const name of Object.keys(changes.printers ?? {})) cards.get(name)?.show(state.printers[name]);
  if (changes.log) log.add(changes.log);
  if (changes.router) state.router = changes.router;
  summarize();
}

function merged(card, changed) {
  const status = changed.status === null ? {} : { ...card.status };
  for (const [object, fields] of Object.entries(changed.status ?? {})) status[object] = { ...status[object], ...fields };
  return { ...card, ...changed, status };
}

/** Cards in the router's order; those that stay are not touched. */
function arrange() {
  for (const [name, card] of cards) {
    if (!state.order.includes(name)) {
      card.remove();
      cards.delete(name);
    }
  }
  let after = null;
  for (const name of state.order) {
    if (!cards.has(name)) cards.set(name, new Card(name, act));
    const { element } = cards.get(name);
    const place = after ? after.nextElementSibling : byId("printers").firstElementChild;
    if (place !== element) byId("printers").insertBefore(element, place);
    after = element;
  }
  byId("nothing").hidden = state.order.length > 0;
}

function summarize() {
  const all = state.order.map((name) => state.printers[name]);
  const printing = all.filter((card) => card.state === "ready" && card.status.print_stats?.state === "printing").length;
  const troubled = all.filter((card) => card.state === "shutdown" || card.state === "error").length;
  const away = all.filter((card) => card.state === "disconnected").length;
  const parts = [count(all.length, "printer", "printers")];
  if (printing) parts.push(`${printing} printing`);
  if (troubled) parts.push(`${troubled} in trouble`);
  if (away) parts.push(`${away} disconnected`);
  byId("summary").textContent = all.length ? parts.join(" · ") : "";
  const alert = troubled ? "⚠ " : printing ? "▶ " : "";
  document.title = `${alert}Klipper Router`;
  const { version, hostname, uptime_s: uptime, rss_kb: memory } = state.router;
  const facts = [`Klipper Router ${version} on ${hostname}`];
  if (uptime !== undefined) facts.push(`up ${duration(uptime)}`);
  if (memory !== undefined) facts.push(`${(memory / 1024).toFixed(1)} MiB`);
  const suspended = state.router.suspended ?? [];
  byId("suspended").textContent = suspended.length ? `Not served, it looks like a loop: ${suspended.join("; ")}` : "";
  byId("router-facts").textContent = version ? facts.join(" · ") : "";
}

async function act(name, action, button) {
  const wanted = await confirmed({ title: action.title(name), text: action.text, yes: action.yes, danger: action.danger });
  if (!wanted) return;
  button.disabled = true;
  try {
    // Over the WebSocket: it is there, whatever pictures take up the browser's other connections.
    if (action.method) await socket.call(action.method, { target: name });
    else await socket.call("router/call", { target: name, method: action.endpoint });
    toast(`${name}: ${action.label.toLowerCase()} done`);
  } catch (error) {
    toast(`${name}: ${action.label.toLowerCase()} failed: ${error.message}`, true);
  } finally {
    button.disabled = false;
  }
}

byId("manage").onclick = openManager;
socket.open();
