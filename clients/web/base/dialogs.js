// Dialogs that are made when they are wanted and gone when they are closed.

import { button, element } from "./elements.js";

let count = 0;

// Shows a dialog of this name; `fill(body, close)` puts in what it holds.
export function open(name, fill) {
  const dialog = element("dialog", "made");
  const title = element("h2");
  title.id = `dialog-${++count}`;
  title.textContent = name;
  dialog.setAttribute("aria-labelledby", title.id);
  const head = element("div", "head");
  const body = element("div", "body");
  const close = () => dialog.close();
  head.append(title, button("Close", close, "✕"));
  dialog.append(head, body);
  fill(body, close);
  dialog.onclose = () => dialog.remove();
  // The dialog itself is hit only beside what it holds.
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
