// The meter of the context window, and the list of what would be sent.

import { pathOf } from "../list/actions.js";
import * as dialogs from "../base/dialogs.js";
import { button, element } from "../base/elements.js";
import { attempt } from "../base/notices.js";
import { send } from "../line/server.js";

const SUMMARY = "summary of";
const HEAD = ["Message", "Tokens", "Sent"];

// Shows on the meter how much of the window a turn took; nothing where none is known.
export function meter(button, turn) {
  const { window = 0 } = turn?.context ?? {};
  const used = turn?.usage?.total_tokens ?? turn?.context?.prompt_tokens ?? 0;
  button.hidden = !turn;
  button.textContent = window ? `${Math.ceil((100 * used) / window)} %` : "Context";
  button.title = window ? `Context: ${used} of ${window} tokens` : "Context";
}

// Shows what would be sent for a prompt in a conversation. `textOf(messageId)` returns
// the words of a message that is shown.
export async function showContext(id, prompt, textOf) {
  const asked = prompt.trim() || "?";
  const response = await send("POST", `${pathOf(id)}/context`, { prompt: asked });
  if (!response) throw new Error("There is no such conversation.");
  const told = await response.json();
  dialogs.open("Context", (body, close) => {
    body.append(sum(told, prompt), table(told, prompt, textOf));
    if (!told.messages.some(({ reason }) => reason.startsWith(SUMMARY))) return;
    // The messages that it stands for are there still.
    const undo = async () => {
      await send("PATCH", pathOf(id), { truncation: "trim" });
      close();
      await showContext(id, prompt, textOf);
    };
    body.append(button("Undo summary", () => attempt(undo())));
  });
}

function sum(told, prompt) {
  const made = element("p");
  const trimmed = told.messages_trimmed ? `, ${told.messages_trimmed} trimmed` : "";
  made.textContent =
    `${told.prompt_tokens} of ${told.budget} tokens would be sent to ${told.model}: ` +
    `${told.messages_included} messages${trimmed}. ` +
    `${told.reserved} of the window of ${told.window} are kept for the answer.` +
    (prompt.trim() ? "" : " A question of one token stands for yours.");
  return made;
}

function table(told, prompt, textOf) {
  const made = element("table");
  row(made.createTHead(), HEAD, "th");
  const body = made.createTBody();
  for (const { id, role, tokens, kept, reason } of told.messages) {
    const text = id ? textOf(id) : role === "user" && prompt;
    const named = text ? `${role}: ${text}` : role;
    const line = row(body, [named, String(tokens), fate(kept, reason)], "td");
    line.classList.toggle("trimmed", !kept);
    line.firstElementChild.dir = "auto";
  }
  return made;
}

function fate(kept, reason) {
  if (!kept) return `no: ${reason}`;
  return reason.startsWith(SUMMARY) ? `yes: ${reason}` : "yes";
}

function row(into, cells, kind) {
  const line = into.insertRow();
  for (const text of cells) line.appendChild(element(kind)).textContent = text;
  return line;
}
