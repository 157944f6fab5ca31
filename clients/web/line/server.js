// Asks the server for JSON, and people for the API key where it wants one.

// Another server may be at another path of the same host.
const { pathname } = new URL(".", document.baseURI);
const KEPT_AS = `trialogue-api-key${pathname === "/" ? "" : `:${pathname}`}`;
const door = document.getElementById("door");
const form = document.getElementById("key-form");
const field = document.getElementById("key");
const reason = document.getElementById("door-reason");
const stays = document.getElementById("key-stays");

let asking = null;

// Kept in this tab, or on this device where somebody chose so.
export function key() {
  return sessionStorage.getItem(KEPT_AS) ?? localStorage.getItem(KEPT_AS);
}

export function forgetKey() {
  for (const kept of [sessionStorage, localStorage]) kept.removeItem(KEPT_AS);
}

// What the server said no to: it would say so again.
export class RefusedError extends Error {}

// Shows the form for a key until one was entered that is not the one shown to the server. Whoever
// asks meanwhile waits for the same one.
export function askForKey(why, shown) {
  if (shown !== key()) return null; // refused was the one before
  asking ??= new Promise((entered) => {
    reason.textContent = key() ? why : "";
    field.value = "";
    door.showModal();
    // Where one is needed there is nothing to go back to: Esc closes it, and it is there again.
    door.onclose = () => (why ? door.showModal() : (asking = null));
    form.onsubmit = (event) => {
      event.preventDefault();
      forgetKey();
      (stays.checked ? localStorage : sessionStorage).setItem(KEPT_AS, field.value.trim());
      door.onclose = null;
      door.close();
      asking = null;
      entered();
    };
  });
  return asking;
}

// Returns the JSON at a path, or null where there is nothing.
export async function get(path) {
  const response = await call(path);
  return response && response.json();
}

// Sends JSON, or a file as it is.
export async function send(method, path, body, options = {}) {
  const file = body instanceof Blob;
  const headers = body ? { "content-type": "application/json" } : {};
  return call(path, { method, body: body && !file ? JSON.stringify(body) : body, headers, ...options });
}

// Calls the server with the key that there is; null where there is nothing at the path.
export async function call(path, options = {}) {
  const shown = key();
  const headers = shown ? { ...options.headers, authorization: `Bearer ${shown}` } : options.headers;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 404) return null;
  const problem = await response.json().catch(() => null);
  const message = problem?.error.message ?? `The server said ${response.status}.`;
  if (response.status >= 500 || response.status === 429) throw new Error(message);
  if (response.status !== 401) throw new RefusedError(message);
  await askForKey(message, shown);
  return call(path, options);
}
