// Finds the end of a branch: the one that was read last, else the newest.

import { get } from "../line/server.js";

// The last message of the branch that each message was read in.
const ends = new Map();

export function remember(ids) {
  const end = ids.at(-1);
  for (const id of ids) ends.set(id, end);
}

// Branches may have grown since they were read.
export function forget() {
  ends.clear();
}

// Returns the id of the message that a branch through this one ends in.
export async function endOf(conversationId, messageId) {
  return ends.get(messageId) ?? (await newest(conversationId, messageId));
}

// No list has a message's children: what was never read is looked up in the conversation's file.
async function newest(conversationId, messageId) {
  const file = await get(`conversations/${encodeURIComponent(conversationId)}/export?format=json`);
  const within = new Set([messageId]);
  let end = messageId;
  for (const { id, parent_id } of file?.conversations[0].messages ?? []) {
    if (!within.has(parent_id)) continue;
    within.add(id);
    end = id;
  }
  return end;
}
