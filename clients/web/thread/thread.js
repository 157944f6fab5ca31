// Shows the messages of one conversation, and answers while they are written.

import * as message from "./message.js";
import { drawAgain } from "./prose.js";
import { words } from "./text.js";

const NEAR_THE_END = 80;

export class Thread {
  #list;
  #scroll;
  #recall;
  #seen;
  #atTheEnd = true;
  // The answer that is written: it is not looked for with every piece.
  #writing = null;

  // `does` has what a message's buttons do, by name; each is given the item. `recall(turnId)` is
  // called when a message is looked at whose turn is not known yet.
  constructor(list, scroll, does, recall) {
    this.#list = list;
    this.#scroll = scroll;
    this.#recall = recall;
    this.#follow();
    this.#seen = new IntersectionObserver((looked) => this.#looked(looked), { root: scroll });
    list.addEventListener("click", (event) => {
      const name = event.target.closest?.("[data-does]")?.dataset.does;
      if (does[name]) does[name](event.target.closest("li"));
    });
  }

  get isEmpty() {
    return this.#list.childElementCount === 0;
  }

  // The ids of the messages that are kept, in their order.
  get ids() {
    const kept = this.#list.querySelectorAll("li[data-message-id]:not(.waiting)");
    return [...kept].map((item) => item.dataset.messageId).filter(Boolean);
  }

  // The id of the last message that is kept; what was only just sent comes behind it.
  get last() {
    return this.ids.at(-1) ?? null;
  }

  get first() {
    return this.#list.querySelector("li[data-message-id]")?.dataset.messageId ?? null;
  }

  has(messageId) {
    return this.find(messageId) !== null;
  }

  find(messageId) {
    return this.#find("message-id", messageId);
  }

  isAnswered(turnId) {
    const item = this.#find("turn", turnId);
    return Boolean(item?.dataset.messageId || item?.dataset.status);
  }

  clear() {
    this.#seen.disconnect();
    this.#list.replaceChildren();
  }

  // Shows a branch from its beginning; questions that wait for their turn stay behind it.
  show(messages) {
    const waiting = this.#list.querySelectorAll("li.waiting");
    this.#seen.disconnect();
    this.#list.replaceChildren(...messages.map((one) => this.#kept(one)), ...waiting);
    this.toTheEnd();
  }

  prepend(messages) {
    const height = this.#scroll.scrollHeight;
    this.#list.prepend(...messages.map((one) => this.#kept(one)));
    this.#scroll.scrollTop += this.#scroll.scrollHeight - height;
  }

  append(messages) {
    for (const one of messages) this.#insert(this.#kept(one));
  }

  // Notes where in the tree messages are that are shown already.
  know(messages) {
    for (const one of messages) {
      const item = this.find(one.id);
      if (item) message.know(item, one);
    }
  }

  // Shows a question that was sent and waits for its turn.
  wait(content) {
    const item = message.question(content);
    item.classList.add("waiting");
    this.#list.append(item);
    this.toTheEnd();
    return item;
  }

  // Shows who waits in line. What was asked here has its place already.
  queue(waiting) {
    const here = [...this.#list.querySelectorAll("li.waiting:not(.elsewhere)")];
    const gone = new Set(this.#list.querySelectorAll("li.elsewhere"));
    for (const item of here) message.waits(item, null);
    for (const one of waiting) {
      const mine = here.findIndex((item) => isOf(item, one));
      const known = this.#find("waiting", one.id);
      if (mine >= 0) message.waits(here.splice(mine, 1)[0], one.id);
      else if (known) gone.delete(known);
      else this.#list.append(message.waitsElsewhere(one));
    }
    for (const item of gone) item.remove();
  }

  // Names a question whose turn has come.
  begin(item, turn) {
    message.waits(item, null);
    const elsewhere = this.last !== (turn.parent_id ?? null);
    if (elsewhere || this.has(turn.question_id)) {
      item.remove(); // who watches brings it, with its branch, or has brought it before
      return;
    }
    item.classList.remove("waiting");
    message.know(item, { id: turn.question_id, parent_id: turn.parent_id });
  }

  // Drops what stands behind a question and is no answer of this turn: another branch.
  turnOff(questionId, turnId) {
    let item = this.find(questionId)?.nextElementSibling;
    while (item) {
      const next = item.nextElementSibling;
      const stays = item.dataset.turn === turnId || item.classList.contains("waiting");
      if (!stays) item.remove();
      item = next;
    }
  }

  // Opens the answer of a turn for writing from a cursor on.
  write(turn, cursor) {
    let item = this.#find("turn", turn.id);
    if (item === null) {
      item = message.answer(turn.id, turn.question_id);
      this.#insert(item);
    }
    this.#asked(turn);
    this.#writing = item;
    item.classList.add("writing");
    item.querySelector(".about").textContent = "";
    if (cursor === 0) message.say(item, "");
  }

  add(delta) {
    if (this.#writing?.dataset.turn === delta.turn_id) message.grow(this.#writing, delta);
  }

  // Shows how far the upstream has read the prompt.
  reads(progress) {
    if (this.#writing?.dataset.turn === progress.turn_id) message.reads(this.#writing, progress);
  }

  // Shows an answer as it ended; one that is no news is shown already.
  end(turn, isNews) {
    const item = this.#find("turn", turn.id);
    if (item === null) return;
    if (isNews) message.say(item, turn.parts ?? turn.answer);
    this.#asked(turn); // who has heard of its end does not look it up
    message.end(item, turn);
  }

  // Shows how a turn of long ago ended; one without an answer behind its question.
  recall(turn) {
    if (turn.status === "running") return;
    let item = this.#find("turn", turn.id);
    if (item === null) {
      const asked = this.find(turn.question_id);
      if (!asked || isAnswer(asked.nextElementSibling)) return;
      item = message.answer(turn.id, turn.question_id);
      message.say(item, turn.parts ?? turn.answer);
      asked.after(item);
    }
    this.#asked(turn);
    message.end(item, turn);
  }

  // Shows as Markdown what was shown before there was any.
  drawAgain() {
    drawAgain(this.#list);
  }

  // Brings a message before the reader's eyes, and the keyboard to it.
  point(messageId) {
    const item = this.find(messageId);
    if (!item) return;
    item.tabIndex = -1;
    item.scrollIntoView({ block: "center" });
    item.focus({ preventScroll: true });
  }

  toTheEnd() {
    this.#atTheEnd = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #find(name, value) {
    return value ? this.#list.querySelector(`li[data-${name}="${CSS.escape(value)}"]`) : null;
  }

  #asked({ question_id, wire }) {
    const item = this.find(question_id);
    if (item) message.askedOver(item, wire);
  }

  #insert(item) {
    this.#list.insertBefore(item, this.#list.querySelector("li.waiting"));
  }

  #kept(one) {
    const item = message.kept(one);
    if (one.turn_id) this.#seen.observe(item);
    return item;
  }

  #looked(looked) {
    for (const { isIntersecting, target } of looked) {
      if (!isIntersecting) continue;
      this.#seen.unobserve(target);
      const { asked, turn, status } = target.dataset;
      if (asked && !isAnswer(target.nextElementSibling)) this.#recall(asked);
      else if (turn && !status) this.#recall(turn);
    }
  }

  // Follows the end of what grows, but only for those who are reading there.
  #follow() {
    let before = 0;
    this.#scroll.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
      const near = scrollHeight - scrollTop - clientHeight < NEAR_THE_END;
      // What has just grown moves the end away from who was there, and is followed in a moment.
      this.#atTheEnd = near || (this.#atTheEnd && scrollTop >= before);
      before = scrollTop;
    });
    const grown = new ResizeObserver(() => this.#atTheEnd && this.toTheEnd());
    grown.observe(this.#list);
    grown.observe(this.#scroll);
  }
}

// Whether a question that was asked here is one in line, of which the beginning is told.
function isOf(item, { wire, prompt }) {
  return wire === "websocket" && words(message.contentOf(item)).startsWith(prompt);
}

function isAnswer(item) {
  return item?.classList.contains("answer") ?? false;
}
