// Watches the conversation shown: every turn of it, whoever asks in it.

import { forget } from "../thread/branches.js";
import { random } from "../base/ids.js";
import { attempt, trouble } from "../base/notices.js";

const LOOK_AGAIN = 3000;

export class Watcher {
  #thread;
  #line;
  #page;

  // `page` has what is `shown`, reads a branch of it with `messages(query)`, is told what was
  // `laid` out, with or without more before it, and which turn `runs` or has `ended`.
  constructor(thread, line, page) {
    this.#thread = thread;
    this.#line = line;
    this.#page = page;
  }

  get #shown() {
    return this.#page.shown;
  }

  watch() {
    const { id, seen } = this.#shown;
    if (!id) return;
    this.#shown.watch = `watch-${random()}`;
    const how = { request_id: this.#shown.watch, progress: true };
    const frame = { type: "watch", conversation_id: id, ...how };
    this.#line.send(seen ? { ...frame, after: `${seen.turn}:${seen.cursor}` } : frame);
  }

  // Goes on after the connection was lost: first to the end of the turn that was being read.
  resume() {
    const { isRead, running, seen } = this.#shown;
    if (!isRead) return; // it is watched when its messages are there
    if (!running) {
      this.watch();
      return;
    }
    this.#shown.watch = `follow-${random()}`;
    const how = { request_id: this.#shown.watch, progress: true };
    this.#line.send({ type: "follow", turn_id: running, after: seen.cursor, ...how });
  }

  // Begins with this turn where nothing was heard yet of what is watched: the turn may be over before
  // the server comes to the watch, or the watch may have come before there was a conversation.
  beginWith(turnId) {
    const { watch, isHeard, isRead, seen } = this.#shown;
    if (watch && (isHeard || seen)) return;
    this.#shown.seen = { turn: turnId, cursor: 0 };
    if (isRead) this.watch();
  }

  // Hears a frame, and tells whether it is of what is watched.
  hear(frame) {
    if (!frame.request_id || frame.request_id !== this.#shown.watch) return false;
    if (frame.type === "error") this.#refused(frame.error);
    else {
      this.#shown.isHeard ||= Boolean(frame.turn_id);
      this.#inOrder(frame);
    }
    return true;
  }

  #refused(error) {
    const mine = this.#shown;
    mine.watch = null;
    if (error.code !== "not_found") trouble(error.message);
    // It is not there yet: somebody may begin it.
    else setTimeout(() => mine === this.#shown && !mine.watch && this.watch(), LOOK_AGAIN);
  }

  // One event after the other, though some have to wait for a question to be fetched.
  #inOrder(event) {
    const mine = this.#shown;
    const next = mine.events.then(() => (mine === this.#shown ? this.#follow(event) : null));
    mine.events = attempt(next);
  }

  async #follow(event) {
    const mine = this.#shown;
    if (!event.turn_id || this.#isAway(event)) return; // of the queue, say
    if (event.type === "turn.progress") {
      if (mine.news) this.#thread.reads(event);
      return; // it is no position
    }
    if (event.type === "turn.started") {
      await attempt(this.#showQuestion(event.turn)); // without it the answer is worth reading too
      if (mine !== this.#shown) return;
      mine.news = !this.#thread.isAnswered(event.turn_id);
      if (mine.news) this.#thread.write(event.turn, event.cursor);
      this.#page.runs(event.turn_id);
    } else if (event.type === "turn.delta") {
      if (mine.news) this.#thread.add(event);
    } else {
      this.#end(event.turn);
    }
    mine.seen = { turn: event.turn_id, cursor: event.cursor };
    if (event.type === "turn.ended" && mine.watch.startsWith("follow")) this.watch();
  }

  // Whether a turn is of another branch than the one that was turned to.
  #isAway({ type, turn, turn_id }) {
    const { leaf, away } = this.#shown;
    const begins = type === "turn.started" && leaf;
    if (begins && ![turn.question_id, turn.parent_id].includes(this.#thread.last)) {
      away.add(turn_id);
      forget(); // it makes a branch longer that was read before
    }
    return away.has(turn_id);
  }

  #end(turn) {
    this.#thread.end(turn, this.#shown.news);
    this.#page.runs(null);
    this.#page.ended(turn);
    if (this.#shown.news) attempt(this.#place(turn));
  }

  // Learns what siblings the messages of a turn have.
  async #place(turn) {
    const mine = this.#shown;
    const leaf = encodeURIComponent(turn.answer_id ?? turn.question_id);
    const page = await this.#page.messages(`&leaf=${leaf}&limit=2`);
    if (page && mine === this.#shown) this.#thread.know(page.data);
  }

  async #showQuestion(turn) {
    const mine = this.#shown;
    if (!this.#thread.has(turn.question_id)) {
      const page = await this.#page.messages(`&leaf=${encodeURIComponent(turn.question_id)}`);
      if (mine !== this.#shown) return;
      if (page && !this.#thread.has(turn.question_id)) this.#lay(page);
    }
    this.#thread.turnOff(turn.question_id, turn.id);
  }

  // Shows a branch; where it goes on from what is shown, only what is new of it.
  #lay({ data, has_more }) {
    const place = data.findIndex(({ id }) => id === this.#thread.last);
    if (place >= 0) this.#thread.append(data.slice(place + 1));
    else {
      this.#thread.show(data);
      this.#page.laid(has_more);
    }
  }
}
