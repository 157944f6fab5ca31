// One message of a conversation: its words, what is known of its turn, and what can be done.

import { pictures } from "../ask/images.js";
import { button, element, unseen } from "../base/elements.js";
import { Parts, result } from "./parts.js";
import { body, words } from "./text.js";

const CAN_BE_RETRIED = ["failed", "interrupted"];
// What a wire is called, where it is not this page's own.
const WIRES = { rest: "REST", grpc: "gRPC", openai: "/v1", easybackend: "EasyBackend" };

// What a message's buttons are named, what they show, and what they do.
const DOES = [
  ["previous", "Previous answer", "‹"],
  ["place", "", ""],
  ["next", "Next answer", "›"],
  ["copy", "Copy"],
  ["edit", "Edit"],
  ["regenerate", "Regenerate"],
  ["another", "Another model"],
  ["continue", "Continue from here"],
  ["retry", "Retry"],
  ["withdraw", "Withdraw"],
];
// The content of each item as it was kept.
const contents = new WeakMap();
// What shows the parts of an answer.
const parts = new WeakMap();

export function question(content) {
  const texts = typeof content === "string" ? content : content.filter(({ type }) => type === "text");
  const said = element("div", "said");
  if (texts !== content) said.append(...pictures(content));
  if (texts.length) said.append(body(words(texts)));
  const item = made("user", "question", "Question:", said);
  contents.set(item, content);
  return item;
}

export function answer(turnId, questionId) {
  const shown = element("div", "parts");
  const item = made("assistant", "answer", "Answer:", shown);
  parts.set(item, new Parts(shown));
  item.dataset.turn = turnId ?? "";
  if (questionId) item.dataset.parent = questionId;
  return item;
}

// What became of calls, as somebody answered them.
function results(content) {
  const item = made("tool", "tool", "Result of a tool:", result(content));
  contents.set(item, content);
  return item;
}

// The item of a message that is kept.
export function kept(message) {
  const { role, content, turn_id } = message;
  const asks = { user: question, tool: results }[role];
  const item = asks ? asks(content) : answer(turn_id);
  item.dataset.role = role;
  if (asks) item.dataset.asked = turn_id ?? "";
  else say(item, content);
  know(item, message);
  return item;
}

// Notes what only a list of messages tells: where in the tree this one is.
export function know(item, message) {
  const siblings = message.sibling_ids ?? [];
  item.dataset.messageId = message.id;
  item.dataset.parent = message.parent_id ?? "";
  item.dataset.siblings = siblings.join(" ");
  offer(item);
}

// Sets the whole of an answer: its text, or its parts.
export function say(item, content) {
  contents.set(item, content);
  parts.get(item).show(content);
}

// Shows how far a prompt is read, until the answer to it begins.
export function reads(item, { read, total }) {
  item.querySelector(".about").textContent = `reading ${Math.floor((100 * read) / total)} %`;
  item.classList.add("reading");
}

// Lets an answer grow.
export function grow(item, delta) {
  if (item.classList.contains("reading")) {
    item.classList.remove("reading");
    item.querySelector(".about").textContent = "";
  }
  parts.get(item).add(delta);
}

// A question that was asked elsewhere and waits for its turn; one for another answer has no words.
export function waitsElsewhere({ id, prompt, wire }) {
  const item = question(prompt || "Another answer");
  item.classList.add("waiting", "elsewhere");
  waits(item, id);
  askedOver(item, wire);
  return item;
}

// Notes that a question waits in line, or null: it does not (any more).
export function waits(item, waitingId) {
  item.dataset.waiting = waitingId ?? "";
  offer(item);
}

// Shows by which wire a question was asked.
export function askedOver(item, wire) {
  item.querySelector(".about").textContent = wire in WIRES ? `asked over ${WIRES[wire]}` : "";
}

// Shows how a turn ended.
export function end(item, turn) {
  item.classList.remove("writing", "reading");
  item.classList.toggle("failed", turn.status === "failed");
  item.dataset.messageId = turn.answer_id ?? "";
  item.dataset.status = turn.status;
  item.dataset.parent = turn.question_id;
  item.querySelector(".about").textContent = about(turn);
  offer(item);
}

export function contentOf(item) {
  return (item && contents.get(item)) ?? "";
}

// The id of the sibling so many places away, or undefined.
export function sibling(item, step) {
  const siblings = siblingsOf(item);
  return siblings[siblings.indexOf(item.dataset.messageId) + step];
}

function siblingsOf(item) {
  return item.dataset.siblings ? item.dataset.siblings.split(" ") : [];
}

function made(role, classes, called, said) {
  const item = element("li", classes);
  item.dataset.role = role;
  const foot = element("div", "foot");
  foot.append(element("span", "about"));
  for (const [does, label, shown] of DOES) {
    const one = label ? button(label, null, shown) : element("span", "place");
    one.dataset.does = does;
    one.hidden = true;
    foot.append(one);
  }
  item.append(unseen(called), said, foot);
  return item;
}

// Shows the buttons that make sense for a message as it is now.
function offer(item) {
  const { messageId, status, role } = item.dataset;
  const siblings = siblingsOf(item);
  const place = siblings.indexOf(messageId);
  const several = siblings.length > 1 && place >= 0;
  const retry = CAN_BE_RETRIED.includes(status);
  const offered = {
    previous: several,
    place: several,
    next: several,
    copy: Boolean(messageId),
    edit: role === "user" && Boolean(messageId),
    regenerate: role === "assistant" && !retry && Boolean(messageId),
    another: role === "assistant" && Boolean(messageId),
    continue: role === "assistant" && Boolean(messageId),
    retry,
    withdraw: Boolean(item.dataset.waiting),
  };
  for (const one of item.querySelectorAll("[data-does]")) one.hidden = !offered[one.dataset.does];
  item.querySelector("[data-does=place]").textContent = `${place + 1}/${siblings.length}`;
  item.querySelector("[data-does=previous]").disabled = place <= 0;
  item.querySelector("[data-does=next]").disabled = place === siblings.length - 1;
}

function about(turn) {
  const ending = {
    completed: "",
    cancelled: "stopped",
    interrupted: "interrupted: the server was stopped",
    failed: turn.error?.message ?? "failed",
  }[turn.status];
  return [ending, turn.model, tokens(turn.usage)].filter(Boolean).join(" · ");
}

function tokens(usage) {
  if (!usage) return "";
  const thought = usage.completion_tokens_details?.reasoning_tokens;
  return `${usage.total_tokens} tokens${thought ? `, ${thought} of them reasoning` : ""}`;
}
