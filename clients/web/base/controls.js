// Buttons and keys that concern a conversation as a whole, and files that are dropped.

import { exportAs, importFiles, pin, rename } from "../list/actions.js";
import { showContext } from "../ask/context.js";
import { openSearch } from "../list/search.js";

const $ = (id) => document.getElementById(id);

// `page` tells what is shown, and does what only the page can.
export function control(page) {
  const trouble = (error) => page.trouble(error.message);
  const take = (files) => importFiles(files, { imported: page.reread, trouble });
  const search = () => openSearch(trouble);
  const does = {
    search,
    import: () => $("files").click(),
    rename: () => rename(page.id, page.title, { renamed: page.reread, trouble }),
    export: () => exportAs(page.id, page.title, trouble),
    pin: () => pin(page.id, $("pin").ariaPressed !== "true").catch(trouble),
    delete: () => page.delete(),
    context: () => showContext(page.id, page.draft, page.textOf).catch(trouble),
  };
  for (const [id, act] of Object.entries(does)) $(id).addEventListener("click", act);
  $("files").addEventListener("change", () => {
    const files = [...$("files").files];
    $("files").value = ""; // the same file may be chosen again
    take(files);
  });
  addEventListener("keydown", (event) => isForSearch(event) && (event.preventDefault(), search()));
  receiveDrops(take);
}

function isForSearch({ key, ctrlKey, metaKey, altKey, target }) {
  if (document.querySelector("dialog[open]")) return false;
  if (key.toLowerCase() === "k") return (ctrlKey || metaKey) && !altKey;
  return key === "/" && !ctrlKey && !metaKey && !target.closest?.("input, textarea");
}

function receiveDrops(take) {
  addEventListener("dragover", (event) => {
    if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    const files = [...event.dataTransfer.files];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
}
