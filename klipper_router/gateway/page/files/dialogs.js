// Questions, answers and pictures on top of the page.

import { hasKey, oneshotToken } from "./access.js";

const byId = (id) => document.getElementById(id);
const TOAST_MS = 6000;
const SNAPSHOT_MS = 1000;

// The question that is open: called once, with its answer. A dialog's own close event comes later than its click, and
// must not answer the next question.
let settle = null;

byId("confirm-yes").onclick = () => settle?.(true);
byId("confirm-no").onclick = () => settle?.(false);
byId("confirm").oncancel = () => settle?.(false);

/** Ask before something is done. Resolves to whether it is wanted. The way back has the focus. */
export function confirmed({ title, text, yes, danger }) {
  settle?.(false);
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  byId("confirm-yes").className = danger ? "danger solid" : "primary";
  byId("confirm").showModal();
  return new Promise((resolve) => {
    settle = (wanted) => {
      settle = null;
      resolve(wanted);
    };
  });
}

export function toast(text, bad = false) {
  const line = document.createElement("p");
  line.textContent = text;
  line.className = bad ? "bad" : "";
  byId("toasts").append(line);
  setTimeout(() => line.remove(), bad ? 2 * TOAST_MS : TOAST_MS);
}

/** Show a camera live; it ends when the dialog is closed. What is no stream of pictures is shown by snapshots. */
export async function showLive(title, camera) {
  const dialog = byId("viewer");
  const image = byId("viewer-image");
  byId("viewer-title").textContent = title;
  image.alt = `Live picture of ${title}`;
  dialog.showModal();
  let timer = 0;
  const load = async (path) => {
    const url = new URL(path, document.baseURI);
    if (hasKey()) url.searchParams.set("token", await oneshotToken());
    url.searchParams.set("t", Date.now());
    if (dialog.open) image.src = url;
  };
  const nextSnapshot = () => {
    timer = setTimeout(() => load(camera.snapshot), SNAPSHOT_MS);
  };
  image.onload = null;
  image.onerror = () => {
    image.onload = nextSnapshot;
    nextSnapshot();
  };
  dialog.onclose = () => {
    clearTimeout(timer);
    image.onload = image.onerror = null;
    image.removeAttribute("src");
  };
  await load(camera.stream);
}
