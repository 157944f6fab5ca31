// What is told beside the conversation: what went wrong, and answers that are whole.

const $ = (id) => document.getElementById(id);

export function trouble(message) {
  $("trouble").textContent = message ?? "";
  $("trouble").hidden = !message;
}

// Takes a trouble back, unless another one is told by now.
export function over(message) {
  if ($("trouble").textContent === message) trouble(null);
}

// Does something, and tells where it goes wrong.
export function attempt(work) {
  return work.catch((error) => trouble(error.message));
}

// Says an answer once, when it is whole; nobody wants to hear it letter by letter.
export function announce(turn) {
  const ending = turn.status === "completed" ? "Answer" : `Answer, ${turn.status}`;
  $("announcement").textContent = `${ending}: ${turn.answer}`;
}
