// Snapshots on the cards: one picture after the other, only while they are on the screen. Six streams would use up
// all connections that a browser opens to one origin; a stream is shown on demand, one at a time.

import { request } from "./access.js";
import { showLive } from "./dialogs.js";

const EVERY_MS = 4000;
const AFTER_FAILURE_MS = 15000;

const watched = new Map();
const onScreen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const snapshot = watched.get(entry.target);
    if (snapshot) snapshot.visible = entry.isIntersecting;
    if (entry.isIntersecting) snapshot?.next();
  }
}, { rootMargin: "100px" });

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const snapshot of watched.values()) snapshot.next();
});

class Snapshot {
  constructor(printer, camera) {
    this.path = camera.snapshot;
    this.visible = false;
    this.loading = false;
    this.timer = 0;
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.className = "camera dark";
    this.button.setAttribute("aria-label", `Camera ${camera.name} of ${printer}, show it live`);
    this.image = document.createElement("img");
    this.image.alt = "";
    const caption = document.createElement("span");
    caption.textContent = camera.name;
    this.button.append(this.image, caption);
    this.button.onclick = () => showLive(`${printer}, ${camera.name}`, camera);
    watched.set(this.button, this);
    onScreen.observe(this.button);
  }

  async next() {
    clearTimeout(this.timer);
    if (this.loading || !this.visible || document.hidden || !this.button.isConnected) return;
    this.loading = true;
    let wait = EVERY_MS;
    try {
      const response = await request(this.path);
      if (!response.ok) throw new Error(response.statusText);
      const url = URL.createObjectURL(await response.blob());
      const before = this.image.src;
      this.image.src = url;
      await this.image.decode();
      if (before) URL.revokeObjectURL(before);
      this.button.classList.remove("dark");
    } catch {
      this.button.classList.add("dark");
      wait = AFTER_FAILURE_MS;
    }
    this.loading = false;
    this.timer = setTimeout(() => this.next(), wait);
  }

  end() {
    clearTimeout(this.timer);
    onScreen.unobserve(this.button);
    watched.delete(this.button);
    if (this.image.src) URL.revokeObjectURL(this.image.src);
  }
}

/** The pictures of one card. */
export class CameraRow {
  constructor(element) {
    this.element = element;
    this.shown = "";
    this.snapshots = [];
  }

  show(printer, cameras) {
    const wanted = JSON.stringify(cameras);
    if (wanted === this.shown) return;
    this.shown = wanted;
    this.end();
    this.snapshots = cameras.map((camera) => new Snapshot(printer, camera));
    this.element.replaceChildren(...this.snapshots.map((snapshot) => snapshot.button));
  }

  end() {
    for (const snapshot of this.snapshots) snapshot.end();
  }
}
