// The dialog that finds messages and titles, and opens them in their branch.

import { go, placeOf } from "../base/address.js";
import * as dialogs from "../base/dialogs.js";
import { element } from "../base/elements.js";
import { get } from "../line/server.js";

const PAUSE = 150;
const MOST = 30;
// What the server puts around a match.
const MATCH = /«([^»]*)»/;

let search = null;

// Opens the dialog; `trouble(message)` is told where it cannot search.
export function openSearch(trouble) {
  if (search?.dialog.open || document.querySelector("dialog[open]")) return;
  search = new Search(trouble);
}

class Search {
  #field = element("input");
  #results = element("ul", "results");
  #told = element("p", "hint");
  #trouble;
  #timer = 0;
  #shown = ""; // the words whose results are shown
  #asked = 0;

  constructor(trouble) {
    this.#trouble = trouble;
    this.#field.type = "text";
    this.#field.ariaLabel = "Search";
    this.#field.placeholder = "Search conversations and messages";
    this.#field.autocomplete = "off";
    this.#field.dir = "auto";
    this.#field.oninput = () => this.#later();
    this.#results.role = "listbox";
    this.#results.ariaLabel = "Results";
    this.#told.role = "status";
    this.dialog = dialogs.open("Search", (body) => {
      body.append(this.#field, this.#told, this.#results);
    });
    this.dialog.addEventListener("keydown", (event) => this.#move(event));
    this.#results.onclick = (event) => this.#choose(event.target.closest("li"));
    this.#field.focus();
  }

  get #words() {
    return this.#field.value.trim();
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#find().catch(this.#trouble), PAUSE);
  }

  async #find() {
    clearTimeout(this.#timer);
    const mine = ++this.#asked;
    const words = this.#words;
    const page = words ? await get(`search?limit=${MOST}&q=${encodeURIComponent(words)}`) : null;
    if (mine !== this.#asked) return; // other words are looked for by now
    this.#shown = words;
    const found = page?.data ?? [];
    this.#results.replaceChildren(...found.map(option));
    const more = page?.has_more ? `The best ${MOST}; more words find less.` : "";
    this.#told.textContent = words && !found.length ? "Nothing was found." : more;
    this.#select(this.#results.firstElementChild);
  }

  #move(event) {
    const now = this.#selected;
    const to = {
      ArrowDown: now?.nextElementSibling,
      ArrowUp: now?.previousElementSibling,
    };
    if (event.key in to) {
      event.preventDefault();
      if (to[event.key]) this.#select(to[event.key]);
    } else if (event.key === "Enter" && event.target === this.#field && !event.isComposing) {
      this.#enter().catch(this.#trouble);
    }
  }

  // Who types and presses Enter at once wants what these words find, not what others found.
  async #enter() {
    if (this.#shown !== this.#words) await this.#find();
    if (this.#shown === this.#words) this.#choose(this.#selected);
  }

  get #selected() {
    return this.#results.querySelector("[aria-selected=true]");
  }

  #select(option) {
    for (const one of this.#results.children) one.ariaSelected = String(one === option);
    option?.scrollIntoView({ block: "nearest" });
  }

  #choose(option) {
    if (!option || !this.dialog.open) return;
    this.dialog.close();
    go(option.dataset.place);
  }
}

function option(hit) {
  const item = element("li");
  const title = element("span", "title");
  const snippet = element("span", "snippet");
  item.role = "option";
  title.dir = snippet.dir = "auto";
  title.textContent = hit.title || hit.conversation_id;
  const match = MATCH.exec(hit.snippet);
  if (match) {
    const mark = element("mark");
    mark.textContent = match[1];
    const after = hit.snippet.slice(match.index + match[0].length);
    snippet.append(hit.snippet.slice(0, match.index), mark, after);
  } else snippet.textContent = hit.snippet;
  item.append(title, snippet);
  item.dataset.place = placeOf(hit.conversation_id, hit.message?.id);
  return item;
}
