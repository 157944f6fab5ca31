// One message of a conversation: its words, what is known of its turn, and what can be done.

import { button, element, unseen } from "../base/elements.js";
import { body, dress, words } from "./text.js";

const CAN_BE_RETRIED = ["failed", "interrupted"];

// What a message's buttons are named, what they show, and what they do.
const DOES = [
  ["previous", "Previous answer", "‹"],
  ["place", "", ""],
  ["next", "Next answer", "›"],
  ["copy", "Copy"],
  ["edit", "Edit"],
  ["regenerate", "Regenerate"],
  ["retry", "Retry"],
];
// The content of each item as it was kept, or as far as it is written.
const contents = new WeakMap();

export function question(content) {
  const item = made("user", "question", "Question:");
  keep(item, content);
  item.querySelector(".text").textContent = words(content);
  return item;
}

export function answer(turnId, questionId) {
  const item = made("assistant", "answer", "Answer:");
  item.dataset.turn = turnId ?? "";
  if (questionId) item.dataset.parent = questionId;
  return item;
}

// The item of a message that is kept.
export function kept(message) {
  const asked = message.role === "user";
  const item = asked ? question(message.content) : answer(message.turn_id);
  item.dataset.role = message.role;
  if (asked) item.dataset.asked = message.turn_id ?? "";
  else say(item, words(message.content));
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

// Sets the whole text of an answer.
export function say(item, text) {
  keep(item, text);
  dress(item.querySelector(".text"), text);
}

// Shows how a turn ended.
export function end(item, turn) {
  item.classList.remove("writing");
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

function keep(item, content) {
  contents.set(item, content);
}

function siblingsOf(item) {
  return item.dataset.siblings ? item.dataset.siblings.split(" ") : [];
}

function made(role, classes, called) {
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
  item.append(unseen(called), body(""), foot);
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
    retry,
  };
  for (const one of item.querySelectorAll("[data-does]")) one.hidden = !offered[one.dataset.does];
  item.querySelector("[data-does=place]").textContent = `${place + 1}/${siblings.length}`;
  item.querySelector("[data-does=previous]").disabled = place <= 0;
  item.querySelector("[data-does=next]").disabled = place === siblings.length - 1;
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
