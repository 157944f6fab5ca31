// Shows what somebody wrote as text: never as HTML, with blocks of code apart.

import { element } from "../base/elements.js";
import { codeBlock } from "./code.js";

const FENCE = /^```([^\n`]*)\n([\s\S]*?)(?:\n```[ \t]*$|(?![\s\S]))/gm;

export function body(text) {
  const made = element("div", "text");
  made.dir = "auto";
  made.append(new Text(text));
  return made;
}

// What somebody said: the text of a message's content, which may be parts.
export function words(content) {
  if (typeof content === "string") return content;
  return content.map(said).filter(Boolean).join("\n");
}

function said({ type, text, refusal }) {
  return type === "text" || type === "refusal" ? (text ?? refusal) : "";
}

// Sets text, with blocks of code apart. A text node and nothing else holds what somebody wrote.
export function dress(into, text) {
  const parts = [];
  let done = 0;
  for (const fence of text.matchAll(FENCE)) {
    parts.push(new Text(text.slice(done, fence.index).replace(/\n$/, "")));
    parts.push(codeBlock(fence[1].trim(), fence[2], true));
    done = fence.index + fence[0].length;
    while (text[done] === "\n") done += 1;
  }
  parts.push(new Text(text.slice(done)));
  into.replaceChildren(...parts);
}
