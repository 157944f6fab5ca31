// What the address names: a conversation, and behind a slash a message of the branch meant.

export function addressed() {
  try {
    const [id, message] = location.hash.slice(1).split("/").map(decodeURIComponent);
    return { id: id || null, message: message || null };
  } catch {
    return { id: null, message: null };
  }
}

export function placeOf(id, message) {
  const names = [id, message].filter(Boolean);
  return `#${names.map(encodeURIComponent).join("/")}`;
}

// Goes to a place. The browser tells nobody of one that is named already: it is shown anew.
export function go(place) {
  if (place === (location.hash || "#")) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = place;
}

// Gives what is shown another name, unless somebody has gone elsewhere: the browser tells that
// only after a while, and their place must not be overwritten until then.
export function readdress(from, to) {
  if (placeOf(addressed().id, addressed().message) !== from) return;
  history.replaceState(null, "", to);
}
