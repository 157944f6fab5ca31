// Buttons and keys that concern a conversation as a whole, and files that are dropped.

import { openElsewhere } from "../list/elsewhere.js";
import { openSettings } from "../list/settings.js";
import { exportAs, importFiles, pin, rename } from "../list/actions.js";
import { showContext } from "../ask/context.js";
import { isImage } from "../ask/images.js";
import { openSearch } from "../list/search.js";
import { openMap } from "../thread/map.js";
import * as drawer from "./drawer.js";
import { openKeys, wanted } from "./keys.js";

const $ = (id) => document.getElementById(id);

// `page` tells what is shown, and does what only the page can.
export function control(page) {
  const trouble = (error) => page.trouble(error.message);
  const take = (files) => importFiles(files, { imported: page.reread, trouble });
  const does = {
    search: () => openSearch(trouble),
    keys: openKeys,
    new: page.begin,
    settings: () => openSettings(page.id, { made: page.open, changed: page.reread }).catch(trouble),
    map: () => openMap(page.id, page.last, page.point).catch(trouble),
    elsewhere: () => openElsewhere(page.conversation, page.server).catch(trouble),
    attach: () => $("pictures").click(),
    import: () => $("files").click(),
    rename: () => rename(page.id, page.title, { renamed: page.reread, trouble }),
    export: () => exportAs(page.id, page.title, trouble),
    pin: () => pin(page.id, $("pin").ariaPressed !== "true").catch(trouble),
    delete: () => page.delete(),
    context: () => showContext(page.id, page.draft, page.textOf).catch(trouble),
  };
  for (const [id, act] of Object.entries(does)) {
    $(id).addEventListener("click", () => {
      drawer.open(false);
      act();
    });
  }
  choose($("files"), take);
  choose($("pictures"), page.attach);
  addEventListener("keydown", (event) => {
    const act = does[wanted(event)];
    if (!act) return;
    event.preventDefault();
    act();
  });
  receiveDrops((files) => {
    const images = files.filter(isImage);
    page.attach(images);
    take(files.filter((file) => !images.includes(file)));
  });
}

function choose(field, take) {
  field.addEventListener("change", () => {
    const files = [...field.files];
    field.value = ""; // the same file may be chosen again
    take(files);
  });
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
