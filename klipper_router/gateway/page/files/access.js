// Talking HTTP to the router, with the API key where one is asked for. The key lives as long as the tab.

const KEY = "klipper-router-api-key";

const dialog = document.getElementById("key");
const input = document.getElementById("key-input");
const problem = document.getElementById("key-error");
let asking = null;

/** fetch, asking for the API key as often as it is refused; `locked` is called before it is asked for. */
export async function request(path, options = {}, locked = () => {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { "X-Api-Key": key }) };
    const response = await fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store" });
    if (response.status !== 401) return response;
    locked();
    await askForKey(key !== null && sessionStorage.getItem(KEY) === key);
  }
}

/** The result of a JSON API route. Throws an Error with the router's own words. */
export async function api(path, method = "GET", body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await request(`router/api/v1/${path}`, options);
  if (response.status === 204) return null;
  const result = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(result.error?.message ?? `the router answered ${response.status}`);
  return result;
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** A token for what cannot carry the key, a WebSocket or a stream; null where no key is needed. */
export async function oneshotToken() {
  return hasKey() ? (await api("oneshot_token")).token : null;
}

/** Ask for the key if that is why a WebSocket was refused: the browser does not say. */
export async function checkAccess(locked) {
  if (hasKey()) return;
  await request("router/api/v1/activity", { method: "HEAD" }, locked);
}

function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    problem.textContent = wasWrong ? "That is not the key." : "";
    input.value = "";
    dialog.showModal();
    dialog.oncancel = (event) => event.preventDefault();
    document.getElementById("key-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, input.value.trim());
      dialog.close();
      asking = null;
      resolve();
    };
  });
  return asking;
}
