// Math in Markdown: TeX between dollars, or as LaTeX has it, which becomes MathML. What draws it is
// loaded with the first of it; what cannot be drawn stays as it was written.

import { mathOf } from "./sanitise.js";

// What opens math and closes it, and whether it stands by itself; the longer of two comes first.
const MARKS = [
  ["$$", "$$", true],
  ["\\[", "\\]", true],
  ["\\(", "\\)", false],
  ["$", "$", false],
];
const DOLLAR = MARKS.at(-1);
// More is no math, and looking further for the end would hold the page up.
const LONGEST = 4000;
const MOST_LINES = 200;
// No macro runs for long, no size bursts the page, and nothing leads or loads elsewhere.
const BOUNDS = { maxExpand: 500, maxSize: 20, trust: refused };

let base = null;
let coming = null;

// Lets a parser know math, which is drawn with what is at an address.
export function know(parser, from) {
  base = from;
  parser.inline.ruler.before("escape", "math", inline);
  parser.block.ruler.before("fence", "math_block", block, {
    alt: ["paragraph", "reference", "blockquote", "list"],
  });
  const shown = (classes) => (tokens, at) =>
    `<span class="${classes}">${parser.utils.escapeHtml(tokens[at].content)}</span>`;
  parser.renderer.rules.math = shown("math");
  parser.renderer.rules.math_block = shown("math display");
}

function refused({ command }) {
  throw new Error(`${command} is none of math`);
}

// Draws what the parser found; it has its marks still.
export async function typeset(span) {
  const source = span.textContent;
  const [opens, closes, displayMode] = opened(source, 0);
  const katex = await library().catch(() => null);
  try {
    const tex = source.slice(opens.length, -closes.length);
    const html = katex?.renderToString(tex, { output: "mathml", displayMode, strict: "ignore", ...BOUNDS });
    if (html) span.replaceChildren(mathOf(html));
    if (span.scrollWidth > span.clientWidth) scroll(span);
  } catch {
    // What is no TeX stays as it was written.
  }
}

function scroll(span) {
  span.classList.add("wide");
  span.tabIndex = 0; // by keys, too
}

// It is written for pages without modules: it is there once it was loaded.
function library() {
  coming ??= import(`${base}katex.js`).then(() => globalThis.katex);
  return coming;
}

function opened(text, at) {
  return MARKS.find(([opens]) => text.startsWith(opens, at));
}

function inline(state, silent) {
  const mark = opened(state.src, state.pos);
  if (!mark) return false;
  const [opens, closes, display] = mark;
  const rest = state.src.slice(state.pos + opens.length, state.pos + LONGEST);
  const end = mark === DOLLAR ? endOfDollar(rest) : rest.indexOf(closes);
  if (end <= 0 || !rest.slice(0, end).trim()) return false;
  const length = opens.length + end + closes.length;
  if (!silent) push(state, display, state.src.slice(state.pos, state.pos + length));
  state.pos += length;
  return true;
}

// Most dollars are money: math has no space within its ends, and no digit behind the last.
function endOfDollar(rest) {
  const found = /^(?!\s)(?:\\.|[^\\$\n])+?\$(?!\d)/.exec(rest);
  return found && !/\s\$$/.test(found[0]) ? found[0].length - 1 : -1;
}

function block(state, first, end, silent) {
  const start = state.bMarks[first] + state.tShift[first];
  const mark = opened(state.src, start);
  if (!mark?.[2] || state.sCount[first] - state.blkIndent >= 4) return false;
  const [opens, closes] = mark;
  const lines = [];
  for (let line = first; line < Math.min(end, first + MOST_LINES); line += 1) {
    if (line > first && state.sCount[line] < state.blkIndent) return false;
    const from = line === first ? start + opens.length : state.bMarks[line] + state.tShift[line];
    const text = state.src.slice(from, state.eMarks[line]);
    const at = text.indexOf(closes);
    lines.push(at < 0 ? text : text.slice(0, at));
    if (at < 0) continue;
    const tex = lines.join("\n");
    if (text.slice(at + closes.length).trim() || !tex.trim()) return false;
    if (!silent) push(state, true, opens + tex + closes).map = [first, line + 1];
    state.line = line + 1;
    return true;
  }
  return false;
}

function push(state, display, source) {
  const token = state.push(display ? "math_block" : "math", "", 0);
  token.content = source;
  return token;
}
