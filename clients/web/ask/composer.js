// The field for a question: a draft for each conversation, and what a question that is edited was
// before.

import { contentOf } from "../thread/message.js";
import { words } from "../thread/text.js";

const onATouchScreen = matchMedia("(pointer: coarse)");

export class Composer {
  #form;
  #field;
  #banner;
  #editing = null;
  #conversation = null;
  // What stands in the field of conversations that are not shown, by their id.
  #drafts = new Map();

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

  // Keeps what is written for the conversation shown, and takes up what was written for another.
  turnTo(conversation) {
    if (conversation === this.#conversation) return;
    if (this.draft) this.#drafts.set(this.#conversation, [this.draft, this.#editing]);
    const [text, editing] = this.#drafts.get(conversation) ?? ["", null];
    this.#drafts.delete(conversation);
    this.#conversation = conversation;
    this.#fill(text, editing);
  }

  // The conversation shown has this id from now on.
  name(conversation) {
    this.#conversation = conversation;
  }

  // Takes an earlier question up again; what is sent then begins a branch beside it.
  edit(item) {
    this.#fill(...written(contentOf(item), item.dataset.parent || "root"));
    this.focus();
  }

  // Gives back what was refused, where nothing else was written meanwhile.
  giveBack(conversation, content, parent) {
    const draft = written(content, parent);
    if (conversation !== this.#conversation) {
      if (!this.#drafts.has(conversation)) this.#drafts.set(conversation, draft);
    } else if (!this.draft) this.#fill(...draft);
  }

  clear() {
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

  #fill(text, editing = null) {
    this.#editing = editing;
    this.#banner.hidden = editing === null;
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

// What was asked, as it stands in the field: its text, and what is edited where it has a parent.
function written(content, parent) {
  const text = typeof content === "string" ? content : words(content.filter(isText));
  return [text, parent ? { parent, content } : null];
}

function isText(part) {
  return part.type === "text";
}
