// Markdown as elements: parsed, sanitised, its code dressed. Without the libraries there is none.

import { codeBlock } from "./code.js";
import * as math from "./math.js";
import * as sanitiser from "./sanitise.js";

const ELSEWHERE = /^(https?|mailto):/i;
const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,/i;

const DIRECTED = "h1, h2, h3, h4, h5, h6, ol, p, td, th, ul";

let parser = null;

// Loads what is needed from where the server has it.
export async function load(base) {
  const [markdown] = await Promise.all([import(`${base}markdown-it.js`), sanitiser.load(base)]);
  const made = markdown.default({ html: false, linkify: true, breaks: true });
  math.know(made, base);
  made.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
  parser = made;
}

export const isLoaded = () => parser !== null;

// Parses a text into the blocks at its top, each with where it begins. `known` keeps what a part of
// a text that was parsed before defines for the others.
export function blocks(text, known) {
  const tokens = parser.parse(text, known);
  const made = [];
  const starts = lineStarts(text);
  let depth = 0;
  for (const token of tokens) {
    if (depth === 0) made.push({ start: starts[token.map?.[0] ?? 0], tokens: [] });
    made.at(-1).tokens.push(token);
    depth += token.nesting;
    align(token);
  }
  return made;
}

// Returns what blocks look like. Only code and math that are whole are drawn.
export function drawn(made, known, isWhole) {
  const tokens = made.flatMap((block) => block.tokens);
  const html = parser.renderer.render(tokens, parser.options, known);
  const fragment = sanitiser.sanitised(html);
  for (const one of fragment.querySelectorAll(DIRECTED)) one.dir = "auto";
  fragment.querySelectorAll("a").forEach(open);
  fragment.querySelectorAll("img").forEach(picture);
  fragment.querySelectorAll("table").forEach(scroll);
  if (isWhole) fragment.querySelectorAll(".math").forEach(math.typeset);
  for (const pre of fragment.querySelectorAll("pre")) {
    const [, language = ""] = /^language-(\S+)/.exec(pre.firstElementChild?.className ?? "") ?? [];
    pre.replaceWith(codeBlock(language, pre.textContent.replace(/\n$/, ""), isWhole));
  }
  return fragment;
}

function lineStarts(text) {
  const starts = [0];
  for (const end of text.matchAll(/\r\n?|\n/g)) starts.push(end.index + end[0].length);
  return starts;
}

// The parser aligns cells by a style, which the page's policy forbids.
function align(token) {
  const style = token.attrs?.find(([name]) => name === "style");
  if (style) style.splice(0, 2, "align", style[1].replace("text-align:", ""));
}

// A link leads elsewhere, and the page that it opens knows nothing of this one.
function open(link) {
  const address = link.getAttribute("href") ?? "";
  if (!ELSEWHERE.test(address)) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer";
}

// A picture from elsewhere would tell its server who reads: it is a link.
function picture(image) {
  const address = image.getAttribute("src") ?? "";
  if (PICTURE.test(address)) return;
  const link = document.createElement("a");
  link.href = address;
  link.textContent = image.alt || address;
  image.replaceWith(link);
  open(link);
}

function scroll(table) {
  const around = document.createElement("div");
  around.className = "table";
  around.tabIndex = 0; // it may have to be scrolled
  table.replaceWith(around);
  around.append(table);
}
