// A websocket that comes back when it was lost, and shows its key first.

const PAUSES = [500, 1000, 2000, 4000, 8000, 15000];
const NOT_ALLOWED = 1008;

export class Line {
  #url;
  #key;
  #hear;
  #socket = null;
  #timer = 0;
  #tries = 0;
  #refusal = null;

  // `key()` returns the key there is, or null. `hear` has what to do when the line is `up` or
  // `down`, brings a `frame`, or was `refused` for good with an error of the server's.
  constructor(url, key, hear) {
    this.#url = url;
    this.#key = key;
    this.#hear = hear;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => this.#hurry());
  }

  open() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#refusal = null;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#introduce();
    socket.onmessage = (event) => this.#read(JSON.parse(event.data));
    socket.onclose = (event) => this.#lost(event);
  }

  // Tells whether the frame went out.
  send(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #introduce() {
    const key = this.#key();
    if (key) this.send({ type: "authenticate", api_key: key });
  }

  #read(frame) {
    if (frame.type === "welcome") {
      this.#tries = 0;
      this.#hear.up();
    } else if (frame.type === "error" && frame.error.code === "invalid_api_key") {
      this.#refusal = frame.error;
    } else {
      this.#hear.frame(frame);
    }
  }

  #lost(event) {
    this.#socket = null;
    if (event.code === NOT_ALLOWED) {
      const needsKey = event.reason.includes("API key");
      const code = needsKey ? "invalid_api_key" : "permission_denied";
      this.#hear.refused(this.#refusal ?? { code, message: event.reason });
      return;
    }
    const pause = PAUSES[Math.min(this.#tries, PAUSES.length - 1)] * (0.75 + Math.random() / 2);
    this.#tries += 1;
    this.#hear.down();
    this.#timer = setTimeout(() => this.open(), pause);
  }

  #hurry() {
    if (this.#timer && document.visibilityState === "visible") this.open();
  }
}
