// The keys of the page, and the dialog that shows them.

import * as dialogs from "./dialogs.js";
import { element } from "./elements.js";

const SHOWN = [
  ["Enter", "Send; on a touch screen, a new line"],
  ["Shift + Enter", "A new line"],
  ["Esc", "Stop the answer, or leave what was begun"],
  ["/ or Ctrl + K", "Search"],
  ["Ctrl + Shift + O", "New conversation"],
  ["?", "This list"],
];

export function openKeys() {
  dialogs.open("Keyboard", (body) => {
    const table = element("table", "keys");
    for (const [keys, what] of SHOWN) {
      const row = table.insertRow();
      row.appendChild(element("th")).textContent = keys;
      row.appendChild(element("td")).textContent = what;
    }
    body.append(table);
  });
}

// Which of `search`, `new` and `keys` is wanted, if any: letters mean themselves where people write.
export function wanted({ key, ctrlKey, metaKey, altKey, shiftKey, target }) {
  if (altKey || document.querySelector("dialog[open]")) return null;
  const letter = key.toLowerCase();
  if (ctrlKey || metaKey) {
    if (letter === "k" && !shiftKey) return "search";
    return letter === "o" && shiftKey ? "new" : null;
  }
  if (target.closest?.("input, textarea, select")) return null;
  return { "/": "search", "?": "keys" }[key] ?? null;
}
