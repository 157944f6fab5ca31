// What the address names: a conversation, and behind a slash a message of the branch meant.

export function addressed() {
  try {
    const [id, message] = location.hash.slice(1).split("/").map(decodeURIComponent);
    return { id: id || null, message: message || null };
  } catch {
    return { id: null, message: null };
  }
}

// Returns the whole of an address of ours; they are told from the page's own, which may be below a
// path of a proxy's.
export function wholeOf(path) {
  return new URL(path, document.baseURI).href;
}

export function placeOf(id, message) {
  const names = [id, message].filter(Boolean);
  return `#${names.map(encodeURIComponent).join("/")}`;
}

// Goes to a place, now: the browser would tell of another address after a while, in which keys that
// are pressed would be heard at the old one, and it tells nobody of one that is named already.
export function go(place) {
  if (place !== (location.hash || "#")) history.pushState(null, "", place);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

// Goes where a link leads, unless it is to be opened elsewhere.
export function follow(event) {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.hash);
}

// Gives what is shown another name, unless somebody has gone back or typed another address, of which
// the browser has not told yet.
export function readdress(from, to) {
  if (placeOf(addressed().id, addressed().message) !== from) return;
  history.replaceState(null, "", to);
}
