// Where a conversation stands in the list: pinned ones first, then by their last activity, by day.

const DAY = 86_400_000;
const MONTH = new Intl.DateTimeFormat(undefined, { month: "long", year: "numeric" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "long" });

const active = (conversation) => conversation.last_message_at ?? conversation.created_at;

// Times are written so that they sort as text.
export function compare(one, other) {
  if (one.pinned !== other.pinned) return one.pinned ? -1 : 1;
  if (active(one) === active(other)) return 0;
  return active(one) > active(other) ? -1 : 1;
}

// The heading that a conversation stands under.
export function groupOf(conversation, now) {
  if (conversation.pinned) return "Pinned";
  return headingOf(new Date(active(conversation)), midnight(now));
}

// Headings by their day, of the day that is today: to write a date costs more than to look it up.
let today = null;
const headings = new Map();

function headingOf(time, begins) {
  if (today !== begins.valueOf()) headings.clear();
  today = begins.valueOf();
  const day = midnight(time);
  const known = headings.get(day.valueOf());
  if (known) return known;
  const made = written(time, Math.round((begins - day) / DAY));
  headings.set(day.valueOf(), made);
  return made;
}

function written(time, days) {
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days < 7 ? WEEKDAY.format(time) : MONTH.format(time);
}

function midnight(time) {
  return new Date(time.getFullYear(), time.getMonth(), time.getDate());
}
