// Asks the server for JSON, and people for the API key where it wants one.

const KEPT_AS = "trialogue-api-key";
const door = document.getElementById("door");
const form = document.getElementById("key-form");
const field = document.getElementById("key");
const reason = document.getElementById("door-reason");

let asking = null;

export function key() {
  return sessionStorage.getItem(KEPT_AS);
}

// Shows the form for a key until one was entered. Whoever asks meanwhile waits for the same one.
export function askForKey(why) {
  asking ??= new Promise((entered) => {
    reason.textContent = key() ? why : "";
    field.value = "";
    door.showModal();
    // Without a key there is nothing to go back to: Esc closes it, and it is there again.
    door.onclose = () => door.showModal();
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEPT_AS, field.value.trim());
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
  const shown = key();
  const headers = shown ? { authorization: `Bearer ${shown}` } : {};
  const response = await fetch(path, { headers });
  if (response.status === 404) return null;
  const body = await response.json();
  if (response.status === 401) {
    await askForKey(body.error.message);
    return get(path);
  }
  if (!response.ok) throw new Error(body.error.message);
  return body;
}
