// What somebody wrote, shown as it grows: Markdown, block by block, or plain text where there is none.

import * as markdown from "./markdown.js";
import { renew } from "./renew.js";
import { dress } from "./text.js";

// What shows each element's text, for when Markdown comes later than the text.
const proses = new WeakMap();

export class Prose {
  #into;
  #text = "";
  // So much of the text is shown in blocks that stay, and what the text has defined so far.
  #done = 0;
  #known = {};
  // What shows the block that may still change.
  #open = [];
  #isWhole = false;
  #frame = 0;

  constructor(into) {
    this.#into = into;
    into.classList.add("prose");
    proses.set(into, this);
  }

  // Lets it grow, as often as it can be seen.
  add(text) {
    if (this.#isWhole) this.#empty();
    this.#isWhole = false;
    this.#text += text;
    this.#frame ||= requestAnimationFrame(() => this.#grow());
  }

  set(text) {
    this.#text = text;
    this.#isWhole = true;
    this.draw();
  }

  // Shows all anew.
  draw() {
    this.#empty();
    if (!this.#isWhole) this.#grow();
    else if (markdown.isLoaded()) this.#into.append(this.#drawn(this.#blocks(this.#text), true));
    else dress(this.#into, this.#text);
  }

  #empty() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#done = 0;
    this.#known = {};
    this.#open = [];
    this.#into.replaceChildren();
    this.#into.classList.toggle("markdown", markdown.isLoaded());
  }

  // A block that another has followed stays; of the last, what a piece has changed is shown anew.
  #grow() {
    this.#frame = 0;
    const text = this.#text.slice(this.#done);
    if (!this.#into.classList.contains("markdown")) {
      this.#into.append(new Text(text));
      this.#done = this.#text.length;
      return;
    }
    const blocks = this.#blocks(text);
    const last = blocks.pop();
    if (blocks.length) {
      for (const node of this.#open.splice(0)) node.remove();
      this.#into.append(this.#drawn(blocks, true));
    }
    this.#done += last?.start ?? 0;
    const open = this.#drawn(last ? [last] : [], false);
    this.#open = renew(this.#into, this.#open, [...open.childNodes]);
  }

  #blocks(text) {
    return markdown.blocks(text, this.#known);
  }

  #drawn(blocks, isWhole) {
    return markdown.drawn(blocks, this.#known, isWhole);
  }
}

// Shows as Markdown what was shown before there was any.
export function drawAgain(within) {
  for (const item of within.querySelectorAll(".prose")) proses.get(item).draw();
}
