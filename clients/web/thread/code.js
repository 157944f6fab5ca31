// A block of code: its language's name, its text, `Wrap lines`, `Copy code`, and colours where they are known.

import { copy } from "../base/copy.js";
import { button, element } from "../base/elements.js";
import { sanitised } from "./sanitise.js";

// Longer ones stay as they are: to colour them would hold the page up.
const LONGEST = 40_000;
// The languages that there are, each with the other names that people write.
const LANGUAGES = {
  bash: "sh shell zsh console shellsession",
  c: "h",
  cpp: "c++ cc hpp cxx",
  csharp: "cs c#",
  css: "",
  diff: "patch",
  dockerfile: "docker",
  go: "golang",
  graphql: "gql",
  haskell: "hs",
  ini: "toml conf",
  java: "",
  javascript: "js jsx mjs node",
  json: "jsonc json5",
  kotlin: "kt",
  latex: "tex",
  lua: "",
  makefile: "make mk",
  markdown: "md",
  nginx: "",
  php: "",
  powershell: "ps1 pwsh",
  protobuf: "proto",
  python: "py py3",
  r: "",
  ruby: "rb",
  rust: "rs",
  scala: "",
  scss: "",
  sql: "postgres postgresql sqlite mysql",
  swift: "",
  typescript: "ts tsx",
  xml: "html svg xhtml vue",
  yaml: "yml",
};
const device = document.documentElement.dataset;
const named = new Map();
for (const [name, others] of Object.entries(LANGUAGES)) {
  for (const one of [name, ...others.split(" ")]) named.set(one, name);
}
// Where highlighters come from, and those that are there or on their way, by their language.
let base = null;
const coming = new Map();

export function loadHighlighters(from) {
  base = from;
}

export function codeBlock(language, text, isWhole) {
  const block = element("div", "code");
  const head = element("div", "code-head");
  const name = element("span");
  name.textContent = language;
  const pre = element("pre");
  const code = element("code");
  head.append(name, wrapper(), button("Copy code", () => copy(code.textContent)));
  code.textContent = text;
  pre.dir = "ltr";
  pre.tabIndex = 0; // it may have to be scrolled
  pre.append(code);
  block.append(head, pre);
  if (isWhole) colour(code, language, text);
  return block;
}

// Wraps the lines of all code, and wraps them no more.
function wrapper() {
  const made = button("Wrap lines", () => {
    const wrapped = String(device.wrap !== "true");
    device.wrap = wrapped;
    localStorage.setItem("trialogue-wrap", wrapped);
    for (const one of document.querySelectorAll(".wrap")) one.ariaPressed = wrapped;
  });
  made.classList.add("wrap");
  made.ariaPressed = device.wrap;
  return made;
}

// Colours code when its language is there; what cannot be had is read without.
async function colour(code, language, text) {
  const name = named.get(language.toLowerCase());
  if (!base || !name || text.length > LONGEST) return;
  const highlighter = await highlighterOf(name).catch(() => null);
  if (!highlighter) return;
  const { value } = highlighter.highlight(text, { language: name, ignoreIllegals: true });
  code.replaceChildren(sanitised(value));
}

function highlighterOf(name) {
  if (!coming.has(name)) coming.set(name, brought(name));
  return coming.get(name);
}

async function brought(name) {
  const [core, language] = await Promise.all([
    import(`${base}highlight.js`),
    import(`${base}languages/${name}.js`),
  ]);
  core.default.registerLanguage(name, language.default);
  return core.default;
}
