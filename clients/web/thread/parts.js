// An answer as its parts: text, reasoning that is folded away, calls of tools, results, refusals.

import { element, fold } from "../base/elements.js";
import { Prose } from "./prose.js";

// Longer ones are folded away until somebody wants to see them.
const SHORT = 600;
// What was called, by the call's id: its result names no more than that.
const called = new Map();

// How a part is shown: each returns its element, and what shows what it says.
const SHOWN = {
  text: () => prose(element("div", "text")),
  reasoning: () => {
    const made = fold("Reasoning", "reasoning");
    made.body.classList.add("aside");
    return { ...prose(made.body), item: made.item };
  },
  refusal: () => {
    const item = element("div", "refusal");
    item.role = "note";
    item.ariaLabel = "Refusal";
    return prose(item);
  },
  tool_call: ({ id, name }, said) => {
    if (id) called.set(id, name);
    return card(`Call of ${name}`, "call", said);
  },
  tool_result: ({ id }, said) => card(resultOf(id), "result", said),
};
SHOWN.custom_tool_call = SHOWN.tool_call;

export class Parts {
  #into;
  #parts = [];

  constructor(into) {
    this.#into = into;
    this.show("");
  }

  // Shows all of an answer, as it is kept: its text, or parts.
  show(content) {
    const parts = typeof content === "string" ? [{ type: "text", said: content }] : content.map(read);
    this.#parts = [];
    this.#into.replaceChildren();
    for (const part of parts) this.#begin(part, part.said).shown.set(part.said);
  }

  // Lets an answer grow by a `turn.delta`.
  add({ text, part = { index: 0, type: "text" }, delta = text }) {
    let grown = this.#parts[part.index];
    if (grown?.type !== part.type) {
      // An answer that was not begun is an empty text.
      for (const { item } of this.#parts.splice(part.index)) item.remove();
      grown = this.#begin(part, "");
    }
    grown.shown.add(delta);
  }

  #begin(part, said) {
    const made = { type: part.type, ...SHOWN[part.type](part, said) };
    this.#parts.push(made);
    this.#into.append(made.item);
    return made;
  }
}

// A tool's message, which is a result.
export function result(content) {
  const parts = typeof content === "string" ? [{ text: content }] : content;
  const said = parts.map(({ text, type }) => text ?? `[${type}]`).join("\n");
  const { item, shown } = SHOWN.tool_result({ id: parts[0]?.tool_call_id }, said);
  shown.set(said);
  return item;
}

// Reads a part as it is kept. What no answer of ours has is named: an image in an imported one, say, or
// a part that a file says only the kind of.
function read(part) {
  const known = told(part);
  return typeof known?.said === "string" ? known : { type: "text", said: `[${part.type}]` };
}

function told(part) {
  switch (part.type) {
    case "function":
      return { type: "tool_call", id: part.id, name: part.function?.name, said: part.function?.arguments };
    case "custom":
      return { type: "tool_call", id: part.id, name: part.custom?.name, said: part.custom?.input };
    case "tool_result":
      return { type: "tool_result", id: part.tool_call_id, said: part.text };
    case "refusal":
      return { type: "refusal", said: part.refusal };
    case "text":
    case "reasoning":
      return { type: part.type, said: part.text };
    default:
      return null;
  }
}

function prose(item) {
  item.dir = "auto";
  return { item, shown: new Prose(item) };
}

function card(name, classes, said) {
  const { item, body } = fold(name, `card ${classes}`, said.length <= SHORT);
  const pre = body.appendChild(element("pre"));
  pre.tabIndex = 0; // it may have to be scrolled
  pre.ariaLabel = name;
  return { item, shown: new Raw(pre) };
}

function resultOf(id) {
  return called.has(id) ? `Result of ${called.get(id)}` : "Result";
}

// What is shown as it is, in lines: JSON is laid out when it is whole.
class Raw {
  #into;

  constructor(into) {
    this.#into = into;
  }

  add(text) {
    this.#into.append(text);
  }

  set(text) {
    this.#into.textContent = laidOut(text);
  }
}

function laidOut(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
