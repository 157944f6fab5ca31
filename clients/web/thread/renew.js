// Lets nodes that are shown become what was drawn anew, and returns those that are shown then. What is the
// same stays: it is not laid out again, and what somebody has selected in it stays selected.

// `shown` are the last children of `parent`.
export function renew(parent, shown, drawn) {
  const now = drawn.map((node, place) => {
    const old = shown[place];
    if (!old) return parent.appendChild(node);
    if (old.isEqualNode(node) || became(old, node)) return old;
    old.replaceWith(node);
    return node;
  });
  for (const old of shown.slice(drawn.length)) old.remove();
  return now;
}

// Changes what is in a node; whether that was enough.
function became(old, node) {
  if (!old.cloneNode(false).isEqualNode(node.cloneNode(false))) return grew(old, node);
  renew(old, [...old.childNodes], [...node.childNodes]);
  return true;
}

function grew(old, node) {
  if (old.nodeType !== Node.TEXT_NODE || node.nodeType !== Node.TEXT_NODE) return false;
  if (node.data.startsWith(old.data)) old.appendData(node.data.slice(old.data.length));
  else old.data = node.data;
  return true;
}
