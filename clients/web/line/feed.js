// All that is mine, live: what becomes of conversations, what runs, and who waits for a turn.

import { random } from "../base/ids.js";

export class Feed {
  #line;
  #hear;
  #watch = null;
  #lines = new Map();

  // `hear` is told what is `changed` of a conversation, which turn `begins` and `ends`, and that a
  // conversation's line has `moved`; `lost` when all is to be read anew.
  constructor(line, hear) {
    this.#line = line;
    this.#hear = hear;
  }

  // The questions that wait in a conversation.
  lineOf(id) {
    return this.#lines.get(id) ?? { waiting: [], count: 0 };
  }

  // Begins, anew on every connection; what is read from now on misses nothing.
  watch() {
    this.#watch = `all-${random()}`;
    this.#line.send({ type: "watch", all: true, request_id: this.#watch });
    this.#lose();
  }

  // Hears a frame, and tells whether it is of all that is mine.
  hear(frame) {
    if (!frame.request_id || frame.request_id !== this.#watch) return false;
    this.#tell(frame);
    return true;
  }

  #tell(event) {
    switch (event.type) {
      case "turn.started":
        this.#hear.begins(event.turn);
        break;
      case "turn.ended":
        this.#hear.ends(event.turn);
        break;
      case "queue.changed":
        this.#lines.set(event.conversation_id, event);
        this.#hear.moved(event.conversation_id);
        break;
      case "resync":
        this.#lose();
        break;
      default:
        if (event.conversation) this.#hear.changed(event);
    }
  }

  #lose() {
    const lines = [...this.#lines.keys()];
    this.#lines.clear();
    for (const id of lines) this.#hear.moved(id);
    this.#hear.lost();
  }
}
