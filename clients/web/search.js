// The dialog that finds messages and titles, and opens them in their branch.

import * as dialogs from "./dialogs.js";
import { element } from "./elements.js";
import { get } from "./server.js";

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

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#find().catch(this.#trouble), PAUSE);
  }

  async #find() {
    const mine = ++this.#asked;
    const words = this.#field.value.trim();
    const page = words ? await get(`/search?limit=${MOST}&q=${encodeURIComponent(words)}`) : null;
    if (mine !== this.#asked) return; // other words are looked for by now
    const found = page?.data ?? [];
    this.#results.replaceChildren(...found.map(option));
    const more = page?.has_more ? `The best ${MOST}; more words find less.` : "";
    this.#told.textContent = words && !found.length ? "Nothing was found." : more;
    this.#select(this.#results.firstElementChild);
  }

  #move(event) {
    const now = this.#results.querySelector("[aria-selected=true]");
    const to = {
      ArrowDown: now?.nextElementSibling,
      ArrowUp: now?.previousElementSibling,
    };
    if (event.key in to) {
      event.preventDefault();
      if (to[event.key]) this.#select(to[event.key]);
    } else if (event.key === "Enter" && event.target === this.#field) {
      this.#choose(now);
    }
  }

  #select(option) {
    for (const one of this.#results.children) one.ariaSelected = String(one === option);
    option?.scrollIntoView({ block: "nearest" });
  }

  #choose(option) {
    if (!option) return;
    this.dialog.close();
    location.hash = option.dataset.place;
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
  const place = [hit.conversation_id, hit.message?.id].filter(Boolean);
  item.dataset.place = place.map(encodeURIComponent).join("/");
  return item;
}
