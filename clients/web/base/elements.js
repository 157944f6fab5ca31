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

export function labelled(name, control) {
  const made = element("label", "labelled");
  made.append(name, control);
  return made;
}

export function unseen(text) {
  const made = element("span", "unseen");
  made.textContent = text;
  return made;
}

// Something that is folded away behind a button of this name, or opened already.
export function fold(name, classes, opened = false) {
  const item = element("div", `fold ${classes}`);
  const body = element("div", "folded");
  const toggle = button(name, () => show(body.hidden));
  const show = (shown) => {
    body.hidden = !shown;
    toggle.ariaExpanded = String(shown);
  };
  show(opened);
  item.append(toggle, body);
  return { item, body };
}

// Lets children stand in this order. What stays is not put in anew: a click that has begun on it
// would be lost.
export function arrange(parent, children) {
  let place = parent.firstElementChild;
  for (const child of children) {
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  while (place) {
    const rest = place;
    place = place.nextElementSibling;
    rest.remove();
  }
}
