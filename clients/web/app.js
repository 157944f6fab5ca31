// The browser client: one conversation, live, whoever asks in it.

import { Bin } from "./list/actions.js";
import { addressed, follow, go, placeOf, wholeOf } from "./base/address.js";
import { endOf, forget, remember } from "./thread/branches.js";
import { Asking } from "./ask/asking.js";
import { Composer } from "./ask/composer.js";
import { meter } from "./ask/context.js";
import { chooseModel } from "./ask/models.js";
import { control } from "./base/controls.js";
import { copy } from "./base/copy.js";
import * as drawer from "./base/drawer.js";
import { Feed } from "./line/feed.js";
import { Line } from "./line/line.js";
import { loadHighlighters } from "./thread/code.js";
import { load as loadMarkdown } from "./thread/markdown.js";
import { contentOf, sibling } from "./thread/message.js";
import { announce, attempt, trouble } from "./base/notices.js";
import { Outbox } from "./line/outbox.js";
import { persist } from "./line/persist.js";
import { askForKey, get, key } from "./line/server.js";
import { Sidebar } from "./list/sidebar.js";
import { words } from "./thread/text.js";
import { Thread } from "./thread/thread.js";
import { Watcher } from "./line/watcher.js";

const $ = (id) => document.getElementById(id);

const does = {
  previous: (item) => attempt(turnTo(sibling(item, -1), "previous")),
  next: (item) => attempt(turnTo(sibling(item, 1), "next")),
  copy: (item) => attempt(copy(words(contentOf(item)))),
  edit: (item) => composer.edit(item),
  regenerate: (item) => asking.again(item),
  another: (item) => chooseModel((model) => asking.again(item, model)),
  continue: (item) => composer.continueFrom(item),
  retry: (item) => asking.again(item),
  withdraw: (item) => asking.withdraw(item),
};
const thread = new Thread($("messages"), $("scroll"), does, (turnId) => attempt(recall(turnId)));
const composer = new Composer(
  { form: $("composer"), field: $("prompt"), banner: $("editing"), images: $("images") },
  (content, parent) => attempt(asking.send(content, parent)),
);
const sidebar = new Sidebar($("conversations"), $("more"), {
  current: () => shown.id,
  marked: entitle,
});
const bin = new Bin($("bin"), {
  hide: (id, hidden) => sidebar.hide(id, hidden),
  gone: (id) => attempt(sidebar.drop(id)),
  back: (id) => go(placeOf(id)),
  trouble: (error) => trouble(error.message),
});
const line = new Line(key, { up, down, refused, frame: hear });
const outbox = new Outbox(line);
const feed = new Feed(line, {
  changed: (event) => sidebar.hear(event),
  begins: began,
  ends: (turn) => sidebar.writes(turn.conversation_id, false),
  moved: (id) => id === shown.id && queued(),
  lost: () => attempt(persist(() => sidebar.read())),
});
const watcher = new Watcher(thread, line, {
  get shown() {
    return shown;
  },
  messages: (query) => messages(shown.id, query),
  laid,
  runs,
  ended,
});
const asking = new Asking(
  { thread, composer, outbox, watcher },
  {
    get shown() {
      return shown;
    },
    get known() {
      return known;
    },
    laid,
    named: () => sidebar.mark(),
    show,
  },
);
let shown = view(null);
// What the list knows of the conversation shown, and the server of itself.
let known = null;
let config = {};

// What is shown: the conversation, whether its messages were read (`loaded` is when they are), the
// request that brings its events (the next waits for `events`), whether that has brought any, the
// last turn and cursor seen, and the turn that runs. `sought` is the message that was to be caught
// up with.
// Where another branch than the one that goes on is looked at, `leaf` is a message of it, and
// turns of other branches are `away`.
// Each view is an object of its own: what was read for one is not shown in the next.
function view(id, leaf = null) {
  const reading = { isRead: false, loaded: null, watch: null, events: Promise.resolve() };
  const heard = { isHeard: false, seen: null, running: null, news: false, sought: null };
  return { id, leaf, ...reading, ...heard, away: new Set() };
}

// What is shown of the conversation's name.
function entitle(title, conversation) {
  known = conversation;
  $("actions").hidden = $("more-actions").hidden = !shown.id;
  $("pin").ariaPressed = String(conversation?.pinned ?? false);
  $("pin").hidden = !conversation;
  $("title").textContent = title;
  document.title = `${title} – Trialogue`;
  catchUp();
}

// The conversation shown

// Shows a conversation: the branch that goes on, or the one that a message is in.
async function show({ id, message }) {
  if (shown.id && id !== shown.id) line.send({ type: "unwatch", conversation_id: shown.id });
  if (shown.id === id) remember(thread.ids);
  else forget();
  composer.turnTo(id);
  bin.spare(id);
  const mine = view(id, message);
  shown = mine;
  thread.clear();
  $("earlier").hidden = true;
  runs(null);
  trouble(null);
  meter($("context"), null);
  drawer.open(false);
  sidebar.mark();
  mine.loaded = load(mine);
  await mine.loaded;
  if (message) await pointAt(message);
}

// Reads the messages of what is shown, and watches it from there.
async function load(mine) {
  const { id, leaf } = mine;
  const page = id ? await persist(() => branch(id, leaf), () => mine === shown) : null;
  if (mine !== shown) return;
  if (page) {
    thread.show(page.data);
    if (!leaf) mine.seen = lastTurn(page.data) ?? mine.seen;
  }
  mine.isRead = true;
  laid(Boolean(page?.has_more));
  queued();
  watcher.watch();
  catchUp();
}

// Reads once more where the list knows of messages that were neither read nor heard of: they came
// between the reading and the watch.
function catchUp() {
  const head = known?.head_id;
  if (!head || head === shown.sought || !shown.isRead || shown.isHeard || shown.seen) return;
  if (!thread.isEmpty) return;
  Object.assign(shown, { sought: head, isRead: false, watch: null });
  shown.loaded = attempt(load(shown));
}

async function branch(id, message) {
  const leaf = message && (await endOf(id, message));
  return messages(id, leaf ? `&leaf=${encodeURIComponent(leaf)}` : "");
}

// Reads back until a message is there.
async function pointAt(message) {
  const mine = shown;
  while (mine === shown && !thread.has(message) && !$("earlier").hidden) await earlier();
  if (mine === shown) thread.point(message);
}

async function turnTo(message, by) {
  history.pushState(null, "", placeOf(shown.id, message));
  await show({ id: shown.id, message });
  thread.find(message)?.querySelector(`[data-does=${by}]:enabled`)?.focus();
}

async function recall(turnId) {
  const mine = shown;
  const turn = await get(`turns/${encodeURIComponent(turnId)}`);
  if (!turn || mine !== shown) return;
  thread.recall(turn);
  if (turn.answer_id === thread.last) meter($("context"), turn);
}

function messages(id, query) {
  return get(`conversations/${encodeURIComponent(id)}/messages?limit=100${query}`);
}

// What a watcher has seen that has read these messages: the last turn is read once more, so that
// nothing is missed that was written meanwhile.
function lastTurn(read) {
  const turnId = read.at(-1)?.turn_id;
  return turnId ? { turn: turnId, cursor: 0 } : null;
}

async function earlier() {
  const { first } = thread;
  const page = await messages(shown.id, `&before=${encodeURIComponent(first)}`);
  if (first !== thread.first) return; // something else is shown, or another click was quicker
  thread.prepend(page?.data ?? []);
  laid(Boolean(page?.has_more));
}

// What people see and hear of all that

function runs(turnId) {
  shown.running = turnId;
  $("messages").setAttribute("aria-busy", String(turnId !== null));
  $("stop").hidden = turnId === null;
}

function ended(turn) {
  meter($("context"), turn);
  if (shown.news) announce(turn);
}

// A turn has begun, of whichever conversation; the one shown may have been begun elsewhere just now.
function began(turn) {
  sidebar.writes(turn.conversation_id, true);
  if (turn.conversation_id === shown.id) watcher.beginWith(turn.id);
}

function queued() {
  thread.queue(feed.lineOf(shown.id).waiting);
  laid();
}

// Messages were laid out; there are more before them, or not.
function laid(more = !$("earlier").hidden) {
  $("earlier").hidden = !more;
  $("empty").hidden = !thread.isEmpty;
}

function hear(frame) {
  if (watcher.hear(frame) || outbox.hear(frame) || feed.hear(frame)) return;
  if (frame.type === "error") trouble(frame.error.message);
}

// Beginning

function escaped(event) {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (drawer.isOpen()) drawer.open(false);
  else if (composer.isEditing) composer.clear();
  else asking.stop();
}

// What the controls of a whole conversation need of the page.
const page = {
  get id() {
    return shown.id;
  },
  get title() {
    return $("title").textContent;
  },
  get last() {
    return thread.last;
  },
  get draft() {
    return composer.draft;
  },
  get conversation() {
    return known ?? { id: shown.id };
  },
  get server() {
    return config;
  },
  textOf: (id) => words(contentOf(thread.find(id))),
  reread: () => attempt(sidebar.read()),
  attach: (files) => attempt(composer.attach(files)),
  open: (id) => go(placeOf(id)),
  point: (message) => go(placeOf(shown.id, message)),
  begin: () => {
    go(placeOf(null));
    composer.focus();
  },
  delete: throwAway,
  trouble,
};

function throwAway() {
  bin.put(page.id, page.title);
  go(placeOf(null));
}

function listen() {
  control(page);
  $("stop").addEventListener("click", () => asking.stop());
  $("conversations").addEventListener("click", follow);
  $("more").addEventListener("click", () => attempt(sidebar.readMore()));
  // Who comes to the end of the list sees more of it.
  const seen = new IntersectionObserver((all) => all.at(-1).isIntersecting && $("more").click());
  seen.observe($("more"));
  $("earlier").addEventListener("click", () => attempt(earlier()));
  addEventListener("keydown", escaped);
  addEventListener("hashchange", () => attempt(show(addressed())));
}

function up() {
  $("state").textContent = "";
  feed.watch();
  watcher.resume();
  outbox.sayAgain();
}

function down() {
  $("state").textContent = "Reconnecting…";
}

async function refused(error, shownKey) {
  if (error.code !== "invalid_api_key") {
    trouble(error.message);
    return;
  }
  await askForKey(error.message, shownKey);
  trouble(null);
  line.open();
}

// Without the libraries the page shows plain text.
async function dress(libraries) {
  if (!libraries) return;
  await loadMarkdown(wholeOf(libraries));
  loadHighlighters(wholeOf(libraries));
  thread.drawAgain();
}

async function begin() {
  listen();
  composer.name(addressed().id); // what was typed before is meant for it
  attempt(show(addressed()));
  attempt(persist(() => sidebar.read()));
  config = await persist(() => get("web/config.json"));
  dress(config.libraries).catch(() => {}); // without them answers stay plain text, and whole
  $("version").textContent = config.version === "0" ? "" : config.version;
  // Beside the page: whatever proxy it came through has to know this one address alone.
  line.open(wholeOf("ws").replace("http", "ws"));
}

attempt(begin());
