// The list of conversations: it moves by itself, and is read a page at a time.

import { arrange, element } from "../base/elements.js";
import { get } from "../line/server.js";
import { compare, groupOf } from "./order.js";

const PAGE = 50;

export class Sidebar {
  #list;
  #more;
  #current;
  #marked;
  // What is known, by id; what shows each, and the groups by their heading.
  #known = new Map();
  #items = new Map();
  #groups = new Map();
  #hidden = new Set();
  #reading = 0;
  // What was heard while the list is on its way, which may know nothing of it yet.
  #heard = null;

  // `current()` returns the id of the conversation shown, and `marked(title, conversation)` is told
  // its title, and what is known of it.
  constructor(list, more, { current, marked }) {
    this.#list = list;
    this.#more = more;
    this.#current = current;
    this.#marked = marked;
  }

  // Reads the first page again; what was shown behind it stays.
  async read() {
    const mine = ++this.#reading;
    this.#heard = [];
    const page = await this.#page();
    if (mine !== this.#reading) return; // a newer list is on its way, or here
    const last = page.data.at(-1);
    const behind = page.has_more ? this.#sorted().filter((one) => compare(last, one) < 0) : [];
    if (!behind.length) this.#more.hidden = !page.has_more;
    this.#known = new Map([...page.data, ...behind].map((one) => [one.id, one]));
    this.#heard.forEach((event) => this.#note(event));
    this.#heard = null;
    this.#lay();
  }

  // Shows one more page.
  async readMore() {
    const page = await this.#page(`&after=${encodeURIComponent(this.#sorted().at(-1)?.id)}`);
    if (!page) return this.read(); // the last was deleted elsewhere
    for (const one of page.data) this.#known.set(one.id, one);
    this.#more.hidden = !page.has_more;
    return this.#lay();
  }

  // Hears what became of a conversation.
  hear(event) {
    this.#heard?.push(event);
    this.#note(event);
    this.#lay();
  }

  // Shows whether something is written in a conversation.
  writes(id, writing) {
    this.#items.get(id)?.setAttribute("aria-busy", String(writing));
  }

  // Takes a conversation out of sight, or puts it back.
  hide(id, hidden = true) {
    if (hidden) this.#hidden.add(id);
    else this.#hidden.delete(id);
    this.#lay();
  }

  // Forgets a conversation that is gone: another may have its id one day. The list is read again,
  // for one that is on its way may have it still.
  drop(id) {
    this.#hidden.delete(id);
    this.#known.delete(id);
    return this.read();
  }

  // Marks the conversation shown. One that is not in the list is asked for its title.
  mark() {
    const id = this.#current();
    for (const [one, item] of this.#items) {
      if (one === id) item.firstElementChild.setAttribute("aria-current", "page");
      else item.firstElementChild.removeAttribute("aria-current");
    }
    if (!id) this.#marked("New conversation", null);
    else if (this.#known.has(id)) this.#named(this.#known.get(id));
    else this.#askForTitle(id);
  }

  async #askForTitle(id) {
    this.#marked("…", null);
    const found = await get(`conversations/${encodeURIComponent(id)}`).catch(() => null);
    if (this.#current() !== id) return;
    if (found) this.#named(found);
    else this.#marked("New conversation", null);
  }

  #named(conversation) {
    this.#marked(conversation.title || conversation.id, conversation);
  }

  #page(query = "") {
    return get(`conversations?order=activity&limit=${PAGE}${query}`);
  }

  #note({ type, conversation }) {
    if (type === "conversation.deleted") this.#known.delete(conversation.id);
    else if (this.#reaches(conversation)) this.#known.set(conversation.id, conversation);
    else {
      this.#known.delete(conversation.id);
      if (conversation.id === this.#current()) this.#named(conversation);
    }
  }

  // Whether a conversation stands among those that are shown, and not behind the last.
  #reaches(conversation) {
    const last = this.#sorted().at(-1);
    return this.#more.hidden || !last || compare(conversation, last) <= 0;
  }

  // What was sorted once is sorted again in no time.
  #sorted() {
    const sorted = [...this.#known.values()].sort(compare);
    this.#known = new Map(sorted.map((one) => [one.id, one]));
    return sorted;
  }

  #lay() {
    const now = new Date();
    const groups = Map.groupBy(this.#sorted(), (one) => groupOf(one, now));
    for (const [name, members] of groups) {
      const items = members.map((one) => this.#item(one));
      const group = this.#group(name);
      arrange(group.lastElementChild, items);
      group.hidden = items.every((item) => item.hidden);
    }
    arrange(this.#list, [...groups.keys()].map((name) => this.#groups.get(name)));
    for (const id of this.#items.keys()) if (!this.#known.has(id)) this.#items.delete(id);
    this.mark();
  }

  #group(name) {
    if (!this.#groups.has(name)) {
      const made = element("section");
      made.append(element("h2"), element("ul"));
      made.firstElementChild.textContent = name;
      made.lastElementChild.ariaLabel = name;
      this.#groups.set(name, made);
    }
    return this.#groups.get(name);
  }

  #item(conversation) {
    const item = listed(conversation, this.#items.get(conversation.id));
    item.hidden = this.#hidden.has(conversation.id);
    this.#items.set(conversation.id, item);
    return item;
  }
}

// What each item shows: what is shown already is left alone, since a list may be long.
const shown = new WeakMap();

function listed(conversation, item = element("li")) {
  if (shown.get(item) === conversation) return item;
  shown.set(item, conversation);
  const link = item.firstElementChild ?? item.appendChild(element("a"));
  item.dataset.id = conversation.id;
  link.href = `#${encodeURIComponent(conversation.id)}`;
  link.dir = "auto";
  const title = conversation.title || conversation.id;
  if (link.textContent !== title) link.textContent = title;
  link.title = title;
  return item;
}
