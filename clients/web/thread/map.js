// The map of a conversation's branches: a tree, in which each stretch without a fork is one item.

import * as dialogs from "../base/dialogs.js";
import { element } from "../base/elements.js";
import { get } from "../line/server.js";
import { words } from "./text.js";

const SHOWN = 80;
const ROLES = { user: "Question", assistant: "Answer", tool: "Result of a tool" };
const ONE = "There is one branch. Edit a question or regenerate an answer, and another begins.";

// Shows the branches of a conversation; `leaf` is the last message shown, and `go(messageId)` turns to
// the branch that a message is in.
export async function openMap(id, leaf, go) {
  const file = await get(`conversations/${encodeURIComponent(id)}/export?format=json`);
  if (!file) throw new Error("There is no such conversation.");
  const { messages } = file.conversations[0];
  const below = Map.groupBy(messages, (one) => one.parent_id ?? null);
  const shown = ancestors(messages, leaf);
  dialogs.open("Branches", (body, close) => {
    const tree = element("ul", "tree");
    tree.role = "tree";
    tree.ariaLabel = "Branches";
    tree.append(...(below.get(null) ?? []).map((one) => item(one, below, shown)));
    if (tree.querySelectorAll("li").length < 2) body.append(hint());
    body.append(tree);
    walk(tree, (chosen) => {
      close();
      go(chosen.dataset.first);
    });
  });
}

function hint() {
  const made = element("p", "hint");
  made.textContent = ONE;
  return made;
}

function ancestors(messages, leaf) {
  const parents = new Map(messages.map(({ id, parent_id }) => [id, parent_id]));
  const found = new Set();
  for (let id = leaf; id; id = parents.get(id)) found.add(id);
  return found;
}

// What begins with a message, and the branches behind it.
function item(first, below, shown) {
  let last = first;
  let count = 1;
  while (below.get(last.id)?.length === 1) {
    [last] = below.get(last.id);
    count += 1;
  }
  const made = element("li");
  const name = element("span", "name");
  made.role = "treeitem";
  made.tabIndex = -1;
  made.dataset.first = first.id;
  name.dir = "auto";
  name.textContent = called(first);
  const size = element("span", "size");
  size.textContent = count === 1 ? "1 message" : `${count} messages`;
  made.ariaLabel = `${ROLES[first.role]}: ${name.textContent}, ${size.textContent}`;
  made.append(name, size);
  if (shown.has(first.id)) made.setAttribute("aria-current", "true");
  const branches = (below.get(last.id) ?? []).map((one) => item(one, below, shown));
  if (branches.length) {
    const group = element("ul");
    group.role = "group";
    group.append(...branches);
    made.append(group);
    made.ariaExpanded = "true";
  }
  return made;
}

function called({ role, content, parts }) {
  const text = words(parts ?? content ?? "").replace(/\s+/g, " ").trim();
  return text.slice(0, SHOWN) || ROLES[role];
}

// The keys of a tree (ARIA Authoring Practices): up and down, in and out, and one that is chosen.
function walk(tree, choose) {
  const seen = () => [...tree.querySelectorAll("li")].filter((one) => one.offsetParent);
  const to = (one) => one?.focus();
  const shut = (one, closed) => (one.ariaExpanded = String(!closed));
  tree.onkeydown = (event) => {
    const now = event.target;
    const all = seen();
    const inner = now.querySelector("li");
    const keys = {
      ArrowDown: () => to(all[all.indexOf(now) + 1]),
      ArrowUp: () => to(all[all.indexOf(now) - 1]),
      ArrowRight: () => (now.ariaExpanded === "false" ? shut(now, false) : to(inner)),
      ArrowLeft: () => (now.ariaExpanded === "true" ? shut(now, true) : to(now.parentElement.closest("li"))),
      Home: () => to(all[0]),
      End: () => to(all.at(-1)),
      Enter: () => choose(now),
      " ": () => choose(now),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };
  tree.onclick = (event) => {
    const one = event.target.closest("li");
    if (one) choose(one);
  };
  // One item at a time is where Tab leads.
  tree.onfocusin = (event) => {
    for (const one of tree.querySelectorAll("[tabindex='0']")) one.tabIndex = -1;
    event.target.tabIndex = 0;
  };
  const here = [...tree.querySelectorAll("[aria-current]")].at(-1) ?? tree.querySelector("li");
  if (!here) return;
  here.tabIndex = 0;
  requestAnimationFrame(() => here.focus());
}
