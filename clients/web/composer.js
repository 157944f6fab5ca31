// The field for a question, and what a question that is edited was before.

import { contentOf } from "./message.js";
import { words } from "./text.js";

const onATouchScreen = matchMedia("(pointer: coarse)");

export class Composer {
  #form;
  #field;
  #banner;
  #editing = null;

  // `ask(content, parent)` is called with what was written; `parent` is the message to ask
  // under where an earlier question is edited, else null.
  constructor(form, field, banner, ask) {
    this.#form = form;
    this.#field = field;
    this.#banner = banner;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const content = this.#written();
      const parent = this.#editing?.parent ?? null;
      if (!content) return;
      this.clear();
      ask(content, parent);
    });
    field.addEventListener("input", () => this.#fit());
    field.addEventListener("keydown", (event) => this.#typed(event));
    banner.querySelector("button").addEventListener("click", () => this.clear());
  }

  get isEditing() {
    return this.#editing !== null;
  }

  get draft() {
    return this.#field.value;
  }

  // Takes an earlier question up again; what is sent then begins a branch beside it.
  edit(item) {
    const content = contentOf(item);
    this.#editing = { parent: item.dataset.parent || "root", content };
    this.#banner.hidden = false;
    this.#fill(typeof content === "string" ? content : words(content.filter(isText)));
    this.focus();
  }

  // Gives back what was refused, where nothing else was written meanwhile.
  giveBack(content) {
    if (!this.#field.value && typeof content === "string") this.#fill(content);
  }

  clear() {
    this.#editing = null;
    this.#banner.hidden = true;
    this.#fill("");
  }

  focus() {
    this.#field.focus();
  }

  // What is sent: the text, and the images that an edited question had.
  #written() {
    const text = this.#field.value.trim();
    const before = this.#editing?.content;
    if (!text || !Array.isArray(before)) return text;
    return [...before.filter((part) => !isText(part)), { type: "text", text }];
  }

  #fill(text) {
    this.#field.value = text;
    this.#fit();
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }

  #typed(event) {
    const finished = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!finished || onATouchScreen.matches) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }
}

function isText(part) {
  return part.type === "text";
}
