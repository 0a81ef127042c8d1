// JSON-RPC over the one WebSocket: calls with their answers, notifications, and coming back when it is lost.

import { checkAccess, oneshotToken } from "./access.js";

const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 8000;
// A page that nobody looks at costs the printer's board nothing.
const CLOSE_HIDDEN_AFTER_MS = 30000;

export class RouterSocket {
  /** `on` has opened(), lost(), locked(), hidden() and notified(method, params). */
  constructor(on) {
    this.on = on;
    this.socket = null;
    this.waiting = new Map();
    this.nextId = 1;
    this.retryMs = RETRY_MIN_MS;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => this.seen());
    window.addEventListener("online", () => this.retryNow());
    window.addEventListener("pageshow", (event) => event.persisted && this.retryNow());
  }

  async open() {
    clearTimeout(this.timer);
    if (this.socket) return;
    const url = new URL("router/websocket", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    let token;
    try {
      token = await oneshotToken();
    } catch {
      this.retryLater();
      return;
    }
    if (this.socket) return;
    if (token) url.searchParams.set("token", token);
    const socket = new WebSocket(url);
    this.socket = socket;
    let opened = false;
    socket.onopen = () => { opened = true; this.retryMs = RETRY_MIN_MS; this.on.opened(); };
    socket.onmessage = (event) => this.received(JSON.parse(event.data));
    socket.onclose = () => this.closed(socket, opened);
  }

  call(method, params = {}) {
    if (this.socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Error("not connected to the router"));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  received(message) {
    if (message.id === undefined) {
      this.on.notified(message.method, message.params);
      return;
    }
    const waiter = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.error) waiter?.reject(new Error(message.error.message));
    else waiter?.resolve(message.result);
  }

  async closed(socket, opened) {
    if (this.socket !== socket) return;
    this.drop();
    this.on.lost();
    if (!opened) await checkAccess(() => this.on.locked()).catch(() => {});
    this.retryLater();
  }

  drop() {
    this.socket = null;
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const waiter of waiting) waiter.reject(new Error("the connection to the router was lost; whether it was done is unknown"));
  }

  retryLater() {
    clearTimeout(this.timer);
    if (document.hidden) return; // `seen` opens it
    this.timer = setTimeout(() => this.open(), this.retryMs * (0.8 + 0.4 * Math.random()));
    this.retryMs = Math.min(this.retryMs * 2, RETRY_MAX_MS);
  }

  retryNow() {
    this.retryMs = RETRY_MIN_MS;
    this.open();
  }

  seen() {
    clearTimeout(this.timer);
    if (!document.hidden) {
      this.retryNow();
    } else {
      this.timer = setTimeout(() => {
        const socket = this.socket;
        if (!socket || this.waiting.size) return;
        this.drop();
        socket.close();
        this.on.hidden();
      }, CLOSE_HIDDEN_AFTER_MS);
    }
  }
}
