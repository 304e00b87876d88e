// The frame's way to the background script, which alone knows the server and its token.

const runtime = (globalThis.browser ?? globalThis.chrome).runtime;

export class Link {
  #port = null;
  #count = 0;
  #waiting = new Map();
  #known = null; // the last settings that came
  onsettings = () => {};
  ontick = () => {};

  constructor() {
    runtime.onMessage.addListener((said) => {
      if (said.kind === "settings") this.camera().then((camera) => this.onsettings(camera), () => {});
    });
  }

  // {on, hide, sound, id, group} for this frame. When the extension was replaced, what was true before holds on.
  async camera() {
    try {
      this.#known = await runtime.sendMessage({ kind: "camera" });
    } catch {
      if (this.#known === null) throw readable("The vividstream extension was changed. Reload the page.");
    }
    return this.#known;
  }

  // The form of fetch: only what a call needs is let through.
  reach = async (path, { method = "GET", headers = {}, body } = {}) => {
    const { status, tag, text } = await this.#put({ kind: "reach", path, method, headers, body });
    if (status === 0) throw new TypeError(text);
    return new Response(status === 204 ? null : text, { status, headers: tag ? { ETag: tag } : {} });
  };

  // What the popup shows of this frame.
  report(state) {
    this.#post({ kind: "state", state });
  }

  tell(said) {
    runtime.sendMessage(said).catch(() => {});
  }

  close() {
    this.#port?.disconnect();
    this.#lost();
  }

  #put(said) {
    return new Promise((resolve, reject) => {
      const number = ++this.#count;
      this.#waiting.set(number, { resolve, reject });
      this.#post({ ...said, number });
    });
  }

  #post(said) {
    try {
      this.#port ??= this.#connect();
      this.#port.postMessage(said);
    } catch {
      this.#lost();
    }
  }

  #connect() {
    const name = typeof MediaStreamTrackProcessor === "function" ? "call" : "call that draws"; // needs a faster clock
    const port = runtime.connect({ name });
    port.onMessage.addListener(({ number, tick, ...said }) => {
      if (tick) return this.ontick();
      this.#waiting.get(number)?.resolve(said);
      this.#waiting.delete(number);
    });
    port.onDisconnect.addListener(() => port === this.#port && this.#lost());
    return port;
  }

  #lost() {
    this.#port = null;
    for (const { reject } of this.#waiting.values()) reject(new TypeError("the extension's background is gone"));
    this.#waiting.clear();
  }
}

export function readable(message, name = "NotReadableError") {
  return Object.assign(new Error(message), { name });
}
