// The field for a question: a draft for each conversation, images, and what a question that is edited
// was before.

import { contentOf } from "../thread/message.js";
import { words } from "../thread/text.js";
import { isImage, parts, pictures } from "./images.js";

const onATouchScreen = matchMedia("(pointer: coarse)");

export class Composer {
  #form;
  #field;
  #banner;
  #images;
  #parts = [];
  #parent = null;
  #conversation = null;
  // What stands in the field of conversations that are not shown, by their id.
  #drafts = new Map();

  // `ask(content, parent)` is called with what was written; `parent` is the message to ask
  // under where that is not the last, else null.
  constructor({ form, field, banner, images }, ask) {
    this.#form = form;
    this.#field = field;
    this.#banner = banner;
    this.#images = images;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const content = this.#written();
      const parent = this.#parent;
      if (!content.length) return;
      this.clear();
      ask(content, parent);
    });
    field.addEventListener("input", () => this.#fit());
    field.addEventListener("keydown", (event) => this.#typed(event));
    field.addEventListener("paste", (event) => this.#pasted(event));
    banner.querySelector("button").addEventListener("click", () => this.clear());
  }

  get isEditing() {
    return this.#parent !== null;
  }

  get draft() {
    return this.#field.value;
  }

  // Keeps what is written for the conversation shown, and takes up what was written for another.
  turnTo(conversation) {
    if (conversation === this.#conversation) return;
    if (!this.#isEmpty) this.#drafts.set(this.#conversation, [this.#written(), this.#parent]);
    const [content, parent] = this.#drafts.get(conversation) ?? ["", null];
    this.#drafts.delete(conversation);
    this.#conversation = conversation;
    this.#fill(content, parent);
  }

  // The conversation shown has this id from now on.
  name(conversation) {
    this.#conversation = conversation;
  }

  // Takes an earlier question up again; what is sent then begins a branch beside it.
  edit(item) {
    this.#fill(contentOf(item), item.dataset.parent || "root");
    this.focus();
  }

  // Has what is asked next stand under this answer, whatever stands there now.
  continueFrom(item) {
    this.#fill(this.#written(), item.dataset.messageId);
    this.focus();
  }

  // Gives back what was refused, where nothing else was written meanwhile.
  giveBack(conversation, content, parent) {
    if (conversation !== this.#conversation) {
      if (!this.#drafts.has(conversation)) this.#drafts.set(conversation, [content, parent]);
    } else if (this.#isEmpty) this.#fill(content, parent);
  }

  // Adds images to the question, unless it is of another conversation by the time they are read.
  async attach(files) {
    const conversation = this.#conversation;
    const attached = await parts(files);
    if (conversation !== this.#conversation) return;
    this.#show([...this.#parts, ...attached]);
    if (attached.length) this.focus();
  }

  clear() {
    this.#fill("");
  }

  focus() {
    this.#field.focus();
  }

  get #isEmpty() {
    return !this.draft && !this.#parts.length;
  }

  // What is sent: the text, behind what else there is.
  #written() {
    const text = this.draft.trim();
    if (!this.#parts.length) return text;
    return text ? [...this.#parts, { type: "text", text }] : this.#parts;
  }

  #fill(content, parent = null) {
    const rest = typeof content === "string" ? [] : content.filter((part) => part.type !== "text");
    const text = typeof content === "string" ? content : words(content.filter((part) => !rest.includes(part)));
    this.#parent = parent;
    this.#banner.hidden = parent === null;
    this.#field.value = text;
    this.#fit();
    this.#show(rest);
  }

  // Shows what is sent beside the text.
  #show(rest) {
    this.#parts = rest;
    const without = (part) => this.#show(this.#parts.filter((one) => one !== part));
    this.#images.replaceChildren(...pictures(rest, without));
    this.#images.hidden = !rest.length;
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }

  #pasted(event) {
    const images = [...event.clipboardData.files].filter(isImage);
    if (!images.length) return;
    event.preventDefault();
    this.attach(images);
  }

  #typed(event) {
    const finished = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!finished || onATouchScreen.matches) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }
}
