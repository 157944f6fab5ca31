// Puts text on the clipboard, also where the page came over plain HTTP.

export async function copy(text) {
  const told = document.getElementById("announcement");
  told.textContent = (await put(text)) ? "Copied" : "This browser does not let the page copy.";
}

async function put(text) {
  try {
    await navigator.clipboard.writeText(text); // not there without TLS, save on this machine
    return true;
  } catch {
    return putByHand(text);
  }
}

function putByHand(text) {
  const before = document.activeElement;
  const field = document.body.appendChild(document.createElement("textarea"));
  field.className = "unseen";
  field.value = text;
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
