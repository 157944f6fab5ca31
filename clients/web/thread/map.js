// The map of a conversation's branches: a tree, in which each stretch without a fork is one item.

import * as dialogs from "../base/dialogs.js";
import { element } from "../base/elements.js";
import { get } from "../line/server.js";
import { words } from "./text.js";

const SHOWN = 80;
const ROLES = { user: "Question", assistant: "Answer", tool: "Result of a tool", system: "System" };
const ONE = "There is one branch. Edit a question or regenerate an answer, and another begins.";
// Deeper ones stand below each other: a phone has no room for more.
const DEEPEST = 8;

// Shows the branches of a conversation; `leaf` is the last message shown, and `go(messageId)` turns to
// the branch that a message is in.
export async function openMap(id, leaf, go) {
  const file = await get(`conversations/${encodeURIComponent(id)}/export?format=json`);
  if (!file) throw new Error("There is no such conversation.");
  const { messages } = file.conversations[0];
  const shown = ancestors(messages, leaf);
  dialogs.open("Branches", (body, close) => {
    const tree = element("ul", "tree");
    tree.role = "tree";
    tree.ariaLabel = "Branches";
    tree.append(...stretches(messages).map((one) => item(one, shown)));
    if (tree.children.length < 2) body.append(hint());
    if (!tree.children.length) return;
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

// Returns the stretches in the order of a tree: the first message of each, how many it has, and how
// many forks are before it. There may be as many forks as messages, so nothing calls itself.
function stretches(messages) {
  const below = Map.groupBy(messages, (one) => one.parent_id ?? null);
  const found = [];
  const branchesOf = (id, level) =>
    (below.get(id) ?? []).map((first) => ({ first, level })).reverse();
  const waiting = branchesOf(null, 1);
  while (waiting.length) {
    const { first, level } = waiting.pop();
    let last = first;
    let count = 1;
    while (below.get(last.id)?.length === 1) {
      [last] = below.get(last.id);
      count += 1;
    }
    found.push({ first, level, count });
    waiting.push(...branchesOf(last.id, level + 1));
  }
  return found;
}

function item({ first, level, count }, shown) {
  const made = element("li");
  const name = element("span", "name");
  const size = element("span", "size");
  made.role = "treeitem";
  made.tabIndex = -1;
  made.dataset.first = first.id;
  made.ariaLevel = String(level);
  made.style.setProperty("--level", Math.min(level, DEEPEST) - 1);
  name.dir = "auto";
  name.textContent = called(first);
  size.textContent = count === 1 ? "1 message" : `${count} messages`;
  made.ariaLabel = `${roleOf(first)}: ${name.textContent}, ${size.textContent}`;
  made.append(name, size);
  if (shown.has(first.id)) made.setAttribute("aria-current", "true");
  return made;
}

function called(message) {
  const text = words(message.parts ?? message.content ?? "").replace(/\s+/g, " ").trim();
  return text.slice(0, SHOWN) || roleOf(message);
}

function roleOf({ role }) {
  return ROLES[role] ?? role;
}

// The keys of a tree (ARIA Authoring Practices): up and down, in and out, and one that is chosen.
function walk(tree, choose) {
  const all = [...tree.children];
  const levelOf = (one) => Number(one.ariaLevel);
  const parentOf = (one) =>
    all.slice(0, all.indexOf(one)).findLast((other) => levelOf(other) < levelOf(one));
  const childOf = (one) => {
    const next = one.nextElementSibling;
    return next && levelOf(next) > levelOf(one) ? next : null;
  };
  const to = {
    ArrowDown: (now) => now.nextElementSibling,
    ArrowUp: (now) => now.previousElementSibling,
    ArrowRight: childOf,
    ArrowLeft: parentOf,
    Home: () => all[0],
    End: () => all.at(-1),
  };
  tree.onkeydown = (event) => {
    const chosen = event.key === "Enter" || event.key === " ";
    if (!chosen && !to[event.key]) return;
    event.preventDefault();
    if (chosen) choose(event.target);
    else to[event.key](event.target)?.focus();
  };
  tree.onclick = (event) => {
    const one = event.target.closest("li");
    if (one) choose(one);
  };
  // One item at a time is where Tab leads.
  let reached = all.findLast((one) => one.ariaCurrent) ?? all[0];
  reached.tabIndex = 0;
  tree.addEventListener("focusin", ({ target }) => {
    reached.tabIndex = -1;
    reached = target;
    reached.tabIndex = 0;
  });
  requestAnimationFrame(() => reached.focus());
}
