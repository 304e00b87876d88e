// <usermedia>, a button of the browser's own that gives a page camera and microphone without its asking for them. What it
// gives is not shown to the page: it is closed, and what getUserMedia gives now takes its place. Nothing until then.

import { getter } from "./channel.js";

const Button = globalThis.HTMLUserMediaElement;

// `open` stands for getUserMedia, `isOn` resolves with whether the extension is. Returns {stream, setConstraints} for
// the prototype of the button; null where the browser has none.
export function buttonMethods(open, isOn) {
  if (!Button || !Object.hasOwn(Button.prototype, "stream")) return null;
  const streamOf = getter(Button.prototype, "stream");
  const { setConstraints } = Button.prototype;
  const wanted = new WeakMap(); // button -> what the page wants of it
  const given = new WeakMap(); // the browser's stream -> {stream} in its place

  async function exchange(button, real, shown) {
    const [video, audio] = [real.getVideoTracks().length > 0, real.getAudioTracks().length > 0];
    try {
      if (!video || !(await isOn())) shown.stream = real;
      else {
        for (const track of real.getTracks()) track.stop();
        shown.stream = await open({ video, audio, ...wanted.get(button) });
      }
      button.dispatchEvent(new Event("stream"));
    } catch {
      for (const track of real.getTracks()) track.stop();
      button.dispatchEvent(new Event("error"));
    }
  }

  function streamFor(button) {
    const real = streamOf(button);
    if (!real) return null;
    if (!given.has(real)) {
      const shown = { stream: null };
      given.set(real, shown);
      exchange(button, real, shown);
    }
    return given.get(real).stream;
  }

  // The page hears of it when it is there. In a shadow tree it hears twice, and sees nothing the first time.
  addEventListener(
    "stream",
    (event) => {
      if (!event.isTrusted || !(event.target instanceof Button)) return;
      event.stopImmediatePropagation();
      streamFor(event.target);
    },
    true,
  );
  return {
    prototype: Button.prototype,
    streamFor,
    setConstraints(constraints) {
      setConstraints?.call(this, constraints);
      try {
        wanted.set(this, JSON.parse(JSON.stringify(constraints ?? {})));
      } catch {
        wanted.delete(this);
      }
    },
  };
}
