// Tries again what could not be had just now, until it is there.

import { over, trouble } from "../base/notices.js";
import { RefusedError } from "./server.js";

const PAUSE = 3000;

// Returns what `work()` brings; null where it is not wanted any more. What was refused is no
// better the next time.
export async function persist(work, isWanted = () => true) {
  while (isWanted()) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof RefusedError) throw error;
      if (isWanted()) await pause(error.message);
    }
  }
  return null;
}

async function pause(why) {
  trouble(why);
  await new Promise((done) => setTimeout(done, PAUSE));
  over(why);
}
