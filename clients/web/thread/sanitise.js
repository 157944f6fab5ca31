// HTML that a library made, as elements: only what may stand in an answer, and nothing that runs.

const ALLOWED = {
  ALLOWED_TAGS: (
    "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr img li ol p pre s span strong " +
    "table tbody td th thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: ["align", "alt", "class", "href", "src", "start", "title"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const MATH = {
  USE_PROFILES: { mathMl: true },
  FORBID_ATTR: ["style", "class", "id", "href", "xlink:href"],
  FORBID_CONTENTS: ["annotation"],
  RETURN_DOM_FRAGMENT: true,
};

let purify = null;

export async function load(base) {
  purify = (await import(`${base}dompurify.js`)).default;
}

// MathML as a library made it, without the source that it keeps within.
export function mathOf(html) {
  return purify.sanitize(html, MATH);
}

export function sanitised(html) {
  return purify.sanitize(html, ALLOWED);
}
