// The sidebar of a narrow screen, which opens over the conversation.

const $ = (id) => document.getElementById(id);

export function isOpen() {
  return $("sidebar").classList.contains("open");
}

export function open(opened = true) {
  $("sidebar").classList.toggle("open", opened);
  $("shade").hidden = !opened;
  $("menu").setAttribute("aria-expanded", String(opened));
}

$("menu").addEventListener("click", () => open());
$("shade").addEventListener("click", () => open(false));
