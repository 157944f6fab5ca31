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
  const names = message ? [id, message] : [id];
  return `#${names.map(encodeURIComponent).join("/")}`;
}
