// Makes the small elements that every part of the page is made of.

export function element(name, classes) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  return made;
}

export function button(label, act, shown = label) {
  const made = element("button", "plain small");
  made.type = "button";
  made.textContent = shown;
  if (shown !== label) {
    made.ariaLabel = label;
    made.title = label;
  }
  if (act) made.onclick = act;
  return made;
}

export function unseen(text) {
  const made = element("span", "unseen");
  made.textContent = text;
  return made;
}
