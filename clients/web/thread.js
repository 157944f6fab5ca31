// Shows the messages of one conversation, and answers while they are written.

const FENCE = /^```([^\n`]*)\n([\s\S]*?)(?:\n```[ \t]*$|(?![\s\S]))/gm;
const NEAR_THE_END = 80;

export class Thread {
  #list;
  #scroll;
  #again;

  // `again(messageId)` is called when another answer is wanted.
  constructor(list, scroll, again) {
    this.#list = list;
    this.#scroll = scroll;
    this.#again = again;
  }

  get isEmpty() {
    return this.#list.childElementCount === 0;
  }

  // The id of the last message that is kept; what was only just sent comes behind it.
  get last() {
    const kept = this.#list.querySelectorAll("li[data-message]:not(.waiting)");
    return kept.length ? kept[kept.length - 1].dataset.message : null;
  }

  get first() {
    return this.#list.querySelector("li[data-message]")?.dataset.message ?? null;
  }

  has(messageId) {
    return this.#find("message", messageId) !== null;
  }

  isAnswered(turnId) {
    return Boolean(this.#find("turn", turnId)?.dataset.message);
  }

  clear() {
    this.#list.replaceChildren();
  }

  // Shows a branch from its beginning; questions that wait for their turn stay behind it.
  show(messages) {
    const waiting = this.#list.querySelectorAll("li.waiting");
    this.#list.replaceChildren(...messages.map((message) => this.#message(message)), ...waiting);
    this.toTheEnd();
  }

  prepend(messages) {
    const height = this.#scroll.scrollHeight;
    this.#list.prepend(...messages.map((message) => this.#message(message)));
    this.#scroll.scrollTop += this.#scroll.scrollHeight - height;
  }

  append(message) {
    this.#keepingPlace(() => this.#insert(this.#message(message)));
  }

  // Shows a question that was sent and waits for its turn.
  wait(text) {
    const item = element("li", "question waiting");
    item.append(unseen("Question:"), body(text));
    this.#list.append(item);
    this.toTheEnd();
    return item;
  }

  // Names a question whose turn has come.
  begin(item, messageId) {
    const behind = this.#find("message", messageId);
    if (behind !== null) {
      item.remove(); // it came by another way before
      return;
    }
    item.classList.remove("waiting");
    item.dataset.message = messageId;
  }

  // Drops what stands behind a question and is no answer of this turn: another branch.
  turnOff(questionId, turnId) {
    let item = this.#find("message", questionId)?.nextElementSibling;
    while (item) {
      const next = item.nextElementSibling;
      const stays = item.dataset.turn === turnId || item.classList.contains("waiting");
      if (!stays) item.remove();
      item = next;
    }
  }

  // Opens the answer of a turn for writing from a cursor on.
  write(turn, cursor) {
    this.#keepingPlace(() => {
      let item = this.#find("turn", turn.id);
      if (item === null) {
        item = this.#answer(turn.id);
        this.#insert(item);
      }
      item.classList.add("writing");
      item.querySelector(".about").textContent = "";
      if (cursor === 0) item.querySelector(".text").replaceChildren(new Text());
    });
  }

  add(turnId, text) {
    this.#keepingPlace(() => {
      this.#find("turn", turnId)?.querySelector(".text").lastChild.appendData(text);
    });
  }

  // Shows an answer as it ended.
  end(turn) {
    this.#keepingPlace(() => {
      const item = this.#find("turn", turn.id);
      item.classList.remove("writing");
      item.dataset.message = turn.answer_id ?? "";
      dress(item.querySelector(".text"), turn.answer);
      item.querySelector(".about").textContent = about(turn);
      item.classList.toggle("failed", turn.status === "failed");
    });
  }

  toTheEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #find(name, value) {
    return value ? this.#list.querySelector(`li[data-${name}="${CSS.escape(value)}"]`) : null;
  }

  #insert(item) {
    this.#list.insertBefore(item, this.#list.querySelector("li.waiting"));
  }

  #message(message) {
    const asked = message.role === "user";
    const item = asked ? element("li", "question") : this.#answer(message.turn_id ?? "");
    if (asked) item.append(unseen("Question:"), body(words(message.content)));
    else dress(item.querySelector(".text"), words(message.content));
    item.dataset.message = message.id;
    return item;
  }

  #answer(turnId) {
    const item = element("li", "answer");
    item.dataset.turn = turnId;
    const foot = element("p", "foot");
    const again = element("button", "plain again");
    again.type = "button";
    again.textContent = "Another answer";
    again.onclick = () => this.#again(item.dataset.message);
    foot.append(element("span", "about"), again);
    item.append(unseen("Answer:"), body(""), foot);
    return item;
  }

  // Follows the end of the text, but only for those who are reading there.
  #keepingPlace(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    const atTheEnd = scrollHeight - scrollTop - clientHeight < NEAR_THE_END;
    change();
    if (atTheEnd) this.toTheEnd();
  }
}

function element(name, classes) {
  const made = document.createElement(name);
  made.className = classes;
  return made;
}

function unseen(text) {
  const made = element("span", "unseen");
  made.textContent = text;
  return made;
}

function body(text) {
  const made = element("div", "text");
  made.append(new Text(text));
  return made;
}

function words(content) {
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : `[${part.type}]`)).join("\n");
}

// Sets text, with blocks of code apart. A text node and nothing else holds what somebody wrote.
function dress(into, text) {
  const parts = [];
  let done = 0;
  for (const fence of text.matchAll(FENCE)) {
    parts.push(new Text(text.slice(done, fence.index).replace(/\n$/, "")));
    const block = element("pre", "");
    const code = element("code", "");
    code.textContent = fence[2];
    block.append(code);
    block.tabIndex = 0; // it may have to be scrolled
    parts.push(block);
    done = fence.index + fence[0].length;
    while (text[done] === "\n") done += 1;
  }
  parts.push(new Text(text.slice(done)));
  into.replaceChildren(...parts);
}

function about(turn) {
  const tokens = turn.usage ? `${turn.usage.total_tokens} tokens` : "";
  const ending = {
    completed: "",
    cancelled: "stopped",
    interrupted: "interrupted: the server was stopped",
    failed: turn.error?.message ?? "failed",
  }[turn.status];
  return [ending, turn.model, tokens].filter(Boolean).join(" · ");
}
