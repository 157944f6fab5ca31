// What opens over the conversation on a narrow screen: the list, and what can be done.

const $ = (id) => document.getElementById(id);

export function isOpen() {
  return $("sidebar").classList.contains("open") || $("actions").classList.contains("open");
}

export function open(opened = true) {
  $("sidebar").classList.toggle("open", opened);
  $("shade").hidden = !opened;
  $("menu").setAttribute("aria-expanded", String(opened));
  if (!opened) openActions(false);
}

function openActions(opened) {
  $("actions").classList.toggle("open", opened);
  $("more-actions").setAttribute("aria-expanded", String(opened));
}

$("menu").addEventListener("click", () => open());
$("shade").addEventListener("click", () => open(false));
// Whatever is clicked, the actions are done with.
addEventListener("click", (event) => {
  const toggles = event.target.closest?.("#more-actions");
  openActions(Boolean(toggles) && !$("actions").classList.contains("open"));
});
