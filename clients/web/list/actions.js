// What is done with a conversation as a whole: renamed, deleted, exported; and files imported.

import * as dialogs from "../base/dialogs.js";
import { button, element } from "../base/elements.js";
import { call, send } from "../line/server.js";

const TIME_TO_UNDO = 8000;
const FORMATS = [
  ["Markdown, to read", "markdown", "md"],
  ["JSON, with every branch", "json", "json"],
  ["JSONL, for fine-tuning", "jsonl", "jsonl"],
];

export const pathOf = (id) => `conversations/${encodeURIComponent(id)}`;

// Asks for another title; `renamed()` is called when it is kept.
export function rename(id, title, { renamed, trouble }) {
  dialogs.open("Rename", (body, close) => {
    const form = element("form");
    const field = element("input");
    field.ariaLabel = "Title";
    field.dir = "auto";
    field.maxLength = 200;
    field.value = title;
    const save = button("Save");
    save.type = "submit";
    save.className = "main";
    form.append(field, save);
    form.onsubmit = (event) => {
      event.preventDefault();
      close();
      send("PATCH", pathOf(id), { title: field.value.trim() }).then(renamed).catch(trouble);
    };
    body.append(form);
    queueMicrotask(() => field.select());
  });
}

export const pin = (id, pinned) => send("PATCH", pathOf(id), { pinned });

// Deletes conversations, each after a while in which it can be had back.
export class Bin {
  #bar;
  #pending = null;

  // `hide(id, hidden)` takes a conversation out of sight, `back(id)` opens it again, and `gone(id)`
  // is called when it is deleted.
  constructor(bar, { hide, gone, back, trouble }) {
    this.#bar = bar;
    this.hide = hide;
    this.gone = gone;
    this.back = back;
    this.trouble = trouble;
    addEventListener("pagehide", () => this.#empty());
  }

  put(id, title) {
    this.#empty();
    this.hide(id, true);
    const told = element("span");
    told.dir = "auto";
    told.textContent = `Deleted “${title}”`;
    this.#bar.replaceChildren(told, button("Undo", () => this.back(id)));
    this.#bar.hidden = false;
    this.#pending = { id, timer: setTimeout(() => this.#empty(), TIME_TO_UNDO) };
  }

  // What is opened again, by whatever way, is not deleted.
  spare(id) {
    if (this.#pending?.id !== id) return;
    this.#take();
    this.hide(id, false);
  }

  // A page that is closed still says it: `keepalive` lets the request outlive the page.
  #empty() {
    if (!this.#pending) return;
    const { id } = this.#take();
    const kept = (error) => {
      this.hide(id, false);
      this.trouble(error);
    };
    send("DELETE", pathOf(id), null, { keepalive: true }).then(() => this.gone(id), kept);
  }

  #take() {
    const taken = this.#pending;
    clearTimeout(taken.timer);
    this.#pending = null;
    this.#bar.hidden = true;
    return taken;
  }
}

// Offers a conversation, or all of them where there is none, as a file.
export function exportAs(id, title, trouble) {
  dialogs.open("Export", (body, close) => {
    const all = element("input");
    const label = element("label", "check");
    all.type = "checkbox";
    label.append(all, " All of my conversations");
    for (const [name, format, ending] of FORMATS) {
      const act = () => {
        const path = all.checked || !id ? "export" : `${pathOf(id)}/export`;
        close();
        const file = `${all.checked || !id ? "trialogue" : title}.${ending}`;
        download(`${path}?format=${format}`, file).catch(trouble);
      };
      const one = button(name, act);
      one.className = "";
      body.append(one);
    }
    if (id) body.append(label);
  });
}

async function download(path, name) {
  const response = await call(path);
  if (!response) throw new Error("There is no such conversation.");
  const link = element("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Imports files and says what became of them; `imported()` is called when they are there.
export async function importFiles(files, { imported, trouble }) {
  for (const file of files) {
    let told = null;
    const dialog = dialogs.open("Import", (body) => {
      told = element("p");
      told.role = "status";
      told.textContent = `${file.name} is read…`;
      body.append(told);
    });
    try {
      const response = await send("POST", "conversations/import", file);
      report(told, await response.json());
      imported();
    } catch (error) {
      dialog.close();
      trouble(error);
    }
  }
}

function report(told, { imported, unchanged, failed, failed_count, dropped }) {
  told.textContent = `Imported ${imported}, unchanged ${unchanged}, failed ${failed_count}.`;
  const lines = [
    ...failed.map(({ index, id, reason }) => `${id ?? `Number ${index + 1}`}: ${reason}`),
    ...Object.entries(dropped).map(([what, count]) => `Left out: ${what}, ${count} times`),
  ];
  const list = element("ul", "report");
  for (const line of lines) {
    const item = list.appendChild(element("li"));
    item.dir = "auto";
    item.textContent = line;
  }
  if (lines.length) told.after(list);
}
