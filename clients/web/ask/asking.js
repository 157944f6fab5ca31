// Asks in the conversation shown, asks again, takes back, stops.

import { placeOf, readdress } from "../base/address.js";
import { random } from "../base/ids.js";
import { attempt, trouble } from "../base/notices.js";
import { remember } from "../thread/branches.js";
import { words } from "../thread/text.js";

export class Asking {
  #thread;
  #composer;
  #outbox;
  #watcher;
  #page;

  // `page` has what is `shown`, what is `known` of that conversation, and is told what was `laid`
  // out, that a conversation was `named`, and to `show` one.
  constructor({ thread, composer, outbox, watcher }, page) {
    this.#thread = thread;
    this.#composer = composer;
    this.#outbox = outbox;
    this.#watcher = watcher;
    this.#page = page;
  }

  get #shown() {
    return this.#page.shown;
  }

  // What is asked under the message `parent` is a branch; null is the end of what is shown.
  async send(content, parent) {
    const mine = this.#shown;
    if (mine.leaf) await attempt(mine.loaded); // before, nobody knows what is asked under
    if (mine === this.#shown) this.#ask(content, parent);
    else this.#composer.giveBack(mine.id, content, parent);
  }

  // Has a question answered once more, by another model where one is named.
  again(item, model) {
    remember(this.#thread.ids);
    const refused = this.#goOn();
    const frame = { type: "regenerate", conversation_id: this.#shown.id, ...this.#warmth };
    const how = { message_id: item.dataset.parent, ...(model && { model }) };
    this.#outbox.put({ ...frame, ...how }, (told) => {
      if (told.type === "error") refused(told.error);
    });
  }

  // Takes a question back that waits. One whose turn has come meanwhile is there to be seen.
  withdraw(item) {
    const { waiting } = item.dataset;
    item.dataset.withdrawn = "true";
    const frame = { type: "withdraw", conversation_id: this.#shown.id, waiting_id: waiting };
    this.#outbox.put(frame, (told) => {
      if (told.type === "error" && told.error.code !== "not_found") trouble(told.error.message);
    });
  }

  stop() {
    if (!this.#shown.running) return;
    this.#outbox.put({ type: "cancel", turn_id: this.#shown.running }, (told) => {
      if (told.type === "error") trouble(told.error.message);
    });
  }

  #ask(content, parent) {
    trouble(null);
    const under = parent ?? (this.#shown.leaf && this.#thread.last);
    if (parent) remember(this.#thread.ids);
    const refused = this.#goOn();
    const mine = this.#shown;
    const item = this.#thread.wait(content);
    this.#page.laid();
    const frame = {
      type: "ask",
      conversation_id: mine.id,
      [typeof content === "string" ? "prompt" : "content"]: content,
      idempotency_key: random(), // sent again after a lost connection, it is the same turn
      ...(under && { parent_id: under }),
      ...this.#warmth,
      ...this.#character,
    };
    this.#outbox.put(frame, (told) => {
      if (told.type === "error") {
        item.remove();
        this.#composer.giveBack(mine.id, content, parent);
        if (!item.dataset.withdrawn) refused(told.error, words(content));
      } else if (mine === this.#shown) {
        this.#thread.begin(item, told.turn);
        this.#watcher.beginWith(told.turn_id);
      }
    });
  }

  // The temperature that was set for this conversation.
  get #warmth() {
    const temperature = this.#page.known?.metadata.temperature;
    return typeof temperature === "number" ? { temperature } : {};
  }

  // Who was chosen to answer in this conversation: said with its first question.
  get #character() {
    const { message_count, metadata } = this.#page.known ?? {};
    const { character } = metadata ?? {};
    return message_count === 0 && typeof character === "string" ? { character } : {};
  }

  // The branch shown is the one that goes on, now that something is asked in it; a new conversation
  // has an id from now on. Returns what to do where it is refused.
  #goOn() {
    const { id, leaf } = this.#shown;
    const mine = this.#shown;
    mine.id ??= `chat-${random()}`;
    mine.leaf = null;
    readdress(placeOf(id, leaf), placeOf(mine.id));
    this.#composer.name(mine.id);
    if (!id) this.#page.named();
    return (error, asked) => attempt(this.#takeBack(mine, leaf, error, asked));
  }

  // Tells a refusal, wherever people are by now, and shows the branch again that was looked at.
  async #takeBack(mine, leaf, error, asked) {
    if (mine !== this.#shown) {
      trouble(asked ? `“${asked}” was not asked: ${error.message}` : error.message);
      return;
    }
    if (leaf) {
      readdress(placeOf(mine.id), placeOf(mine.id, leaf));
      await this.#page.show({ id: mine.id, message: leaf });
      this.#composer.focus();
    }
    trouble(error.message);
  }
}
