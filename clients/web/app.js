// The browser client: one conversation, live, whoever asks in it.

import { Bin } from "./actions.js";
import { addressed, placeOf } from "./address.js";
import { endOf, forget, remember } from "./branches.js";
import { Composer } from "./composer.js";
import { meter } from "./context.js";
import { control } from "./controls.js";
import { copy } from "./copy.js";
import * as drawer from "./drawer.js";
import { random } from "./ids.js";
import { Line } from "./line.js";
import { contentOf, sibling } from "./message.js";
import { announce, trouble } from "./notices.js";
import { askForKey, get, key } from "./server.js";
import { Sidebar } from "./sidebar.js";
import { words } from "./text.js";
import { Thread } from "./thread.js";

const $ = (id) => document.getElementById(id);
const LOOK_AGAIN = 3000;

const does = {
  previous: (item) => attempt(turnTo(sibling(item, -1), "previous")),
  next: (item) => attempt(turnTo(sibling(item, 1), "next")),
  copy: (item) => attempt(copy(words(contentOf(item)))),
  edit: (item) => composer.edit(item),
  regenerate: again,
  retry: again,
};
const thread = new Thread($("messages"), $("scroll"), does, (turnId) => attempt(recall(turnId)));
const composer = new Composer($("composer"), $("prompt"), $("editing"), (content, parent) =>
  attempt(send(content, parent)),
);
const sidebar = new Sidebar($("conversations"), $("more"), {
  current: () => shown.id,
  marked: entitle,
});
const bin = new Bin($("bin"), {
  hide: (id, hidden) => sidebar.hide(id, hidden),
  back: (id) => (location.hash = encodeURIComponent(id)),
  trouble: (error) => trouble(error.message),
});
// Questions whose turn has not begun, by their request_id.
const waiting = new Map();
let line;
// What is shown: the conversation, a number that changes with it, the request that brings its
// events, the last turn and cursor seen, and the turn that runs.
// Where another branch than the one that goes on is looked at, `leaf` is a message of it, and
// turns of other branches are `away`.
const NOTHING = { id: null, watch: null, seen: null, running: null, news: false, leaf: null };
let shown = { ...NOTHING, view: 0, away: new Set() };
let events = Promise.resolve();

// What is shown of the conversation's name.
function entitle(title) {
  $("actions").hidden = !shown.id;
  $("title").textContent = title;
  document.title = `${title} – Trialogue`;
}

// The conversation shown

// Shows a conversation: the branch that goes on, or the one that a message is in.
async function show({ id, message }) {
  if (shown.id && id !== shown.id) line.send({ type: "unwatch", conversation_id: shown.id });
  if (shown.id === id) remember(thread.ids);
  else {
    composer.clear();
    forget();
  }
  shown = { ...NOTHING, id, view: shown.view + 1, leaf: message, away: new Set() };
  const { view } = shown;
  thread.clear();
  busy(null);
  trouble(null);
  meter($("context"), null);
  drawer.open(false);
  sidebar.mark();
  const leaf = message && (await endOf(id, message));
  const page = id ? await messages(leaf ? `&leaf=${encodeURIComponent(leaf)}` : "") : null;
  if (view !== shown.view) return;
  if (page) {
    thread.show(page.data);
    if (!message) shown.seen = lastTurn(page.data);
  }
  $("earlier").hidden = !page?.has_more;
  $("empty").hidden = !thread.isEmpty;
  watch();
  if (message) await pointAt(message);
}

// Reads back until a message is there.
async function pointAt(message) {
  const { view } = shown;
  while (view === shown.view && !thread.has(message) && !$("earlier").hidden) await earlier();
  if (view === shown.view) thread.point(message);
}

async function turnTo(message, by) {
  history.pushState(null, "", placeOf(shown.id, message));
  await show({ id: shown.id, message });
  thread.find(message)?.querySelector(`[data-does=${by}]:enabled`)?.focus();
}

async function recall(turnId) {
  const { view } = shown;
  const turn = await get(`/turns/${encodeURIComponent(turnId)}`);
  if (!turn || view !== shown.view) return;
  thread.recall(turn);
  if (turn.answer_id === thread.last) meter($("context"), turn);
}

function messages(query) {
  return get(`/conversations/${encodeURIComponent(shown.id)}/messages?limit=100${query}`);
}

// What a watcher has seen that has read these messages: the last turn is read once more, so that
// nothing is missed that was written meanwhile.
function lastTurn(read) {
  const turnId = read.at(-1)?.turn_id;
  return turnId ? { turn: turnId, cursor: 0 } : null;
}

async function earlier() {
  const page = await messages(`&before=${encodeURIComponent(thread.first)}`);
  thread.prepend(page.data);
  $("earlier").hidden = !page.has_more;
}

// Watching

function watch() {
  if (!shown.id) return;
  shown.watch = `watch-${random()}`;
  const frame = { type: "watch", request_id: shown.watch, conversation_id: shown.id };
  const { seen } = shown;
  line.send(seen ? { ...frame, after: `${seen.turn}:${seen.cursor}` } : frame);
}

// Goes on after the connection was lost: first to the end of the turn that was being read.
function resume() {
  if (!shown.running) {
    watch();
    return;
  }
  shown.watch = `follow-${random()}`;
  const after = shown.seen.cursor;
  line.send({ type: "follow", request_id: shown.watch, turn_id: shown.running, after });
}

function hear(frame) {
  if (frame.request_id && frame.request_id === shown.watch) {
    if (frame.type === "error") cannotWatch(frame.error);
    else inOrder(frame);
  } else if (waiting.has(frame.request_id)) {
    hearOfQuestion(frame);
  } else if (frame.type === "error") {
    trouble(frame.error.message);
  }
}

function cannotWatch(error) {
  const { view } = shown;
  shown.watch = null;
  if (error.code !== "not_found") trouble(error.message);
  // It is not there yet: somebody may begin it.
  else setTimeout(() => view === shown.view && !shown.watch && watch(), LOOK_AGAIN);
}

// One event after the other, though some have to wait for a question to be fetched.
function inOrder(frame) {
  const { view } = shown;
  events = attempt(events.then(() => (view === shown.view ? follow(frame) : null)));
}

async function follow(event) {
  const { view } = shown;
  if (isAway(event)) return;
  if (event.type === "turn.started") {
    await attempt(showQuestion(event.turn)); // without it the answer is worth reading too
    if (view !== shown.view) return;
    shown.news = !thread.isAnswered(event.turn_id);
    thread.write(event.turn, event.cursor);
    busy(event.turn_id);
  } else if (event.type === "turn.delta") {
    thread.add(event.turn_id, event.text);
  } else {
    end(event.turn);
  }
  shown.seen = { turn: event.turn_id, cursor: event.cursor };
  if (event.type === "turn.ended" && shown.watch.startsWith("follow")) watch();
}

// Whether a turn is of another branch than the one that was turned to.
function isAway({ type, turn, turn_id }) {
  const begins = type === "turn.started" && shown.leaf;
  if (begins && ![turn.question_id, turn.parent_id].includes(thread.last)) {
    shown.away.add(turn_id);
    forget(); // it makes a branch longer that was read before
  }
  return shown.away.has(turn_id);
}

function end(turn) {
  thread.end(turn);
  meter($("context"), turn);
  busy(null);
  if (!shown.news) return;
  announce(turn);
  attempt(place(turn));
  attempt(sidebar.read());
}

// Learns what siblings the messages of a turn have.
async function place(turn) {
  const { view } = shown;
  const leaf = encodeURIComponent(turn.answer_id ?? turn.question_id);
  const page = await messages(`&leaf=${leaf}&limit=2`);
  if (page && view === shown.view) thread.know(page.data);
}

async function showQuestion(turn) {
  $("empty").hidden = true;
  if (!thread.has(turn.question_id)) {
    const page = await messages(`&leaf=${encodeURIComponent(turn.question_id)}`);
    if (page && !thread.has(turn.question_id)) {
      if (thread.last === turn.parent_id) thread.append(page.data.at(-1));
      else {
        thread.show(page.data);
        $("earlier").hidden = !page.has_more;
      }
    }
  }
  thread.turnOff(turn.question_id, turn.id);
}

// Asking

function ask(content, parent) {
  if (!shown.id) name(`chat-${random()}`);
  $("empty").hidden = true;
  trouble(null);
  const request_id = random();
  const frame = {
    type: "ask",
    request_id,
    conversation_id: shown.id,
    [typeof content === "string" ? "prompt" : "content"]: content,
    idempotency_key: request_id, // sent again after a lost connection, it is the same turn
  };
  const under = parent ?? (shown.leaf && thread.last);
  if (under) frame.parent_id = under;
  if (parent) remember(thread.ids);
  goOn();
  waiting.set(request_id, { frame, content, item: thread.wait(content), view: shown.view });
  line.send(frame);
}

// The branch shown is the one that goes on, now that something is asked in it.
function goOn() {
  shown.leaf = null;
  history.replaceState(null, "", placeOf(shown.id));
}

// Gives a new conversation its id, which is in the address from now on.
function name(id) {
  shown.id = id;
  history.replaceState(null, "", placeOf(shown.id));
  sidebar.mark();
}

function hearOfQuestion(frame) {
  const { content, item, view } = waiting.get(frame.request_id);
  waiting.delete(frame.request_id);
  if (view !== shown.view) return;
  if (frame.type === "error") {
    item.remove();
    trouble(frame.error.message);
    composer.giveBack(content);
    return;
  }
  thread.begin(item, frame.turn);
  attempt(sidebar.read());
  if (!shown.watch) {
    shown.seen = { turn: frame.turn_id, cursor: 0 };
    watch();
  }
}

function again(item) {
  remember(thread.ids);
  goOn();
  const frame = { type: "regenerate", request_id: random(), conversation_id: shown.id };
  line.send({ ...frame, message_id: item.dataset.parent });
}

function stop() {
  if (shown.running) line.send({ type: "cancel", turn_id: shown.running });
}

// What people see and hear of all that

function busy(turnId) {
  shown.running = turnId;
  $("messages").setAttribute("aria-busy", String(turnId !== null));
  $("stop").hidden = turnId === null;
}

async function send(content, parent) {
  await begun; // whoever types faster than the page loads is heard too
  ask(content, parent);
}

// Beginning

function escaped(event) {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (drawer.isOpen()) drawer.open(false);
  else if (composer.isEditing) composer.clear();
  else stop();
}

// What the controls of a whole conversation need of the page.
const page = {
  get id() {
    return shown.id;
  },
  get title() {
    return $("title").textContent;
  },
  get draft() {
    return composer.draft;
  },
  textOf: (id) => words(contentOf(thread.find(id))),
  reread: () => attempt(sidebar.read()),
  delete: throwAway,
  trouble,
};

function throwAway() {
  bin.put(page.id, page.title);
  location.hash = "";
}

function listen() {
  control(page);
  $("stop").addEventListener("click", stop);
  $("new").addEventListener("click", () => {
    location.hash = "";
    composer.focus();
  });
  $("more").addEventListener("click", () => attempt(sidebar.readMore()));
  $("earlier").addEventListener("click", () => attempt(earlier()));
  addEventListener("keydown", escaped);
  addEventListener("hashchange", () => attempt(show(addressed())));
}

function attempt(work) {
  return work.catch((error) => trouble(error.message));
}

function up() {
  $("state").textContent = "";
  resume();
  for (const { frame } of waiting.values()) line.send(frame);
}

function down() {
  $("state").textContent = "Reconnecting…";
}

async function refused(error) {
  if (error.code !== "invalid_api_key") {
    trouble(error.message);
    return;
  }
  await askForKey(error.message);
  trouble(null);
  line.open();
}

async function begin() {
  listen();
  const config = await (await fetch("/web/config.json")).json();
  $("version").textContent = config.version === "0" ? "" : config.version;
  // Beside the page: whatever proxy it came through has to know this one address alone.
  const url = new URL("ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  line = new Line(url.href, key, { up, down, refused, frame: hear });
  await sidebar.read();
  line.open();
  await show(addressed());
}

const begun = begin();
attempt(begun);
