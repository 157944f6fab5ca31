// What was said to the server and is not answered yet: kept while the line is down, and said again
// on the next one.

import { random } from "../base/ids.js";

// Said twice, they would be done twice. Where their answer was lost, people look and decide.
const ONCE = ["regenerate"];
const LOST = "The connection was lost: what was asked for may have been done, or not.";

export class Outbox {
  #line;
  #waiting = new Map();

  constructor(line) {
    this.#line = line;
  }

  // Says a frame; `hear(answer)` is called once, with the first frame that answers it.
  put(frame, hear) {
    const request_id = random();
    const kept = { frame: { ...frame, request_id }, hear, sent: false };
    this.#waiting.set(request_id, kept);
    this.#say(kept);
  }

  // Tells whether a frame answers something.
  hear(answer) {
    const kept = this.#waiting.get(answer.request_id);
    if (!kept) return false;
    this.#waiting.delete(answer.request_id);
    kept.hear(answer);
    return true;
  }

  sayAgain() {
    for (const kept of [...this.#waiting.values()]) {
      const { frame, sent } = kept;
      if (!sent || !ONCE.includes(frame.type)) this.#say(kept);
      else this.hear({ type: "error", request_id: frame.request_id, error: { message: LOST } });
    }
  }

  #say(kept) {
    kept.sent = this.#line.send(kept.frame) || kept.sent;
  }
}
