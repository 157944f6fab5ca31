// A websocket that notices its own death, comes back, and shows its key first.

// Milliseconds. Somebody who looks at the page is not kept waiting; one who does not can wait.
const PAUSES = [500, 1000, 2000, 3000];
const PAUSE_UNSEEN = 15_000;
const TIME_TO_OPEN = 5000;
const TIME_TO_ANSWER = 5000;
// Longer than the server waits for a key: it says itself that one is missing.
const TIME_TO_WELCOME = 10_000;
const SILENCE = 15_000;
const NOT_ALLOWED = 1008;

export class Line {
  #url = "";
  #key;
  #shown = null;
  #hear;
  #socket = null;
  #timer = 0;
  #watchdog = 0;
  #tries = 0;
  #isUp = false;
  #refusal = null;

  // `key()` returns the key there is, or null. `hear` has what to do when the line is `up` or
  // `down`, brings a `frame`, or was `refused` for good with an error of the server's and the key
  // that it was shown.
  constructor(key, hear) {
    this.#key = key;
    this.#hear = hear;
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.#hurry());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#hurry();
    });
  }

  open(url = this.#url) {
    this.#url = url;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#refusal = null;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#introduce();
    socket.onmessage = (event) => this.#read(JSON.parse(event.data));
    socket.onclose = (event) => this.#lost(event);
    this.#expect(TIME_TO_OPEN);
  }

  // Tells whether the frame went out. Before the line is up none does: then all is said anew.
  send(frame) {
    return this.#isUp && this.#say(frame);
  }

  #say(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #introduce() {
    this.#expect(TIME_TO_WELCOME);
    this.#shown = this.#key();
    if (this.#shown) this.#say({ type: "authenticate", api_key: this.#shown });
  }

  #read(frame) {
    this.#heard();
    if (frame.type === "welcome") {
      this.#tries = 0;
      this.#isUp = true;
      this.#hear.up();
    } else if (frame.type === "error" && frame.error.code === "invalid_api_key") {
      this.#refusal = frame.error;
    } else if (frame.type !== "pong") {
      this.#hear.frame(frame);
    }
  }

  // Whatever comes shows that the line lives; after a silence it is asked.
  #heard() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#ask(), SILENCE);
  }

  #ask() {
    this.#say({ type: "ping" });
    this.#expect(TIME_TO_ANSWER);
  }

  // A line that is cut in silence never closes: nobody waits for the goodbye of a dead one.
  #expect(within) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#abandon(), within);
  }

  #abandon() {
    const socket = this.#socket;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.#lost({ code: 0, reason: "" });
  }

  #lost(event) {
    this.#socket = null;
    this.#isUp = false;
    clearTimeout(this.#watchdog);
    if (event.code === NOT_ALLOWED) {
      const needsKey = event.reason.includes("API key");
      const code = needsKey ? "invalid_api_key" : "permission_denied";
      this.#hear.refused(this.#refusal ?? { code, message: event.reason }, this.#shown);
      return;
    }
    this.#hear.down();
    this.#timer = setTimeout(() => this.open(), this.#pause());
    this.#tries += 1;
  }

  #pause() {
    const unseen = document.visibilityState !== "visible" && this.#tries >= PAUSES.length;
    const pause = unseen ? PAUSE_UNSEEN : PAUSES[Math.min(this.#tries, PAUSES.length - 1)];
    return pause * (0.75 + Math.random() / 2);
  }

  // Somebody looks again, or the network changed: a pause is over, and an old line is asked.
  #hurry() {
    if (this.#timer) this.open();
    else if (this.#socket?.readyState === WebSocket.OPEN) this.#ask();
  }
}
