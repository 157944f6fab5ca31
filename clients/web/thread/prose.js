// What somebody wrote, shown as it grows: plain text, with blocks of code apart when it is whole.

import { dress } from "./text.js";

export class Prose {
  #into;
  #text = new Text();

  constructor(into) {
    this.#into = into;
    into.append(this.#text);
  }

  add(text) {
    this.#text.appendData(text);
  }

  set(text) {
    dress(this.#into, text);
    this.#text = this.#into.lastChild;
  }
}
