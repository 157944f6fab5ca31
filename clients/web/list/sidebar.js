// The list of conversations: newest first, a page at a time.

import { get } from "../line/server.js";

const PAGE = 50;

export class Sidebar {
  #list;
  #more;
  #current;
  #marked;
  #reading = 0;
  #hidden = new Set();

  // `current()` returns the id of the conversation shown, and `marked(title)` is told its title.
  constructor(list, more, { current, marked }) {
    this.#list = list;
    this.#more = more;
    this.#current = current;
    this.#marked = marked;
  }

  // Reads the first page again; what was shown behind it stays.
  async read() {
    const mine = ++this.#reading;
    const page = await get(`/conversations?limit=${PAGE}`);
    if (mine !== this.#reading) return; // a newer list is on its way, or here
    const behind = this.#behind(page.last_id);
    this.#lay([...this.#items(page.data), ...behind]);
    if (!behind.length) this.#more.hidden = !page.has_more;
    this.mark();
  }

  // Shows one more page.
  async readMore() {
    const last = this.#list.lastElementChild?.dataset.id;
    const page = await get(`/conversations?limit=${PAGE}&after=${encodeURIComponent(last)}`);
    if (!page) return this.read(); // the last was deleted elsewhere
    this.#list.append(...this.#items(page.data));
    this.#more.hidden = !page.has_more;
    this.mark();
  }

  // Takes a conversation out of sight, or puts it back.
  hide(id, hidden = true) {
    if (hidden) this.#hidden.add(id);
    else this.#hidden.delete(id);
    for (const item of this.#list.children) item.hidden = this.#hidden.has(item.dataset.id);
  }

  // Forgets a conversation that is gone: another may have its id one day. The list is read again,
  // for one that is on its way may have it still.
  drop(id) {
    this.#hidden.delete(id);
    [...this.#list.children].find((item) => item.dataset.id === id)?.remove();
    return this.read();
  }

  // Marks the conversation shown. One that is not in the list is asked for its title.
  mark() {
    const id = this.#current();
    let title = id ? null : "New conversation";
    for (const item of this.#list.children) {
      const link = item.firstElementChild;
      const current = item.dataset.id === id;
      if (current) title = link.textContent;
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (title !== null) this.#marked(title);
    else this.#askForTitle(id);
  }

  async #askForTitle(id) {
    this.#marked("…");
    const found = await get(`/conversations/${encodeURIComponent(id)}`).catch(() => null);
    if (this.#current() === id) this.#marked(found ? found.title || id : "New conversation");
  }

  // What is shown behind a conversation.
  #behind(id) {
    const items = [...this.#list.children];
    const place = items.findIndex((item) => item.dataset.id === id);
    return place < 0 ? [] : items.slice(place + 1);
  }

  #items(conversations) {
    const there = new Map([...this.#list.children].map((item) => [item.dataset.id, item]));
    return conversations.map((one) => {
      const item = listed(one, there.get(one.id));
      item.hidden = this.#hidden.has(one.id);
      return item;
    });
  }

  // What stays is not put in anew: a click that has begun on it would be lost.
  #lay(items) {
    let place = this.#list.firstElementChild;
    for (const item of items) {
      if (item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(item, place);
    }
    while (place) {
      const rest = place;
      place = place.nextElementSibling;
      rest.remove();
    }
  }
}

function listed(conversation, item = document.createElement("li")) {
  const link = item.firstElementChild ?? item.appendChild(document.createElement("a"));
  item.dataset.id = conversation.id;
  link.href = `#${encodeURIComponent(conversation.id)}`;
  link.dir = "auto";
  const title = conversation.title || conversation.id;
  if (link.textContent !== title) link.textContent = title;
  link.title = title;
  return item;
}
