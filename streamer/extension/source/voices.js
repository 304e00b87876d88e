// Microphones of a page that has to do with our camera: what it gets is the voice, held back until the picture of the same
// moment has come. Behind each track is one of the real microphone with the page's own constraints, so echo cancelling
// and the rest are the browser's; only a delay is between them.
//
// The delay is WebAudio's: it runs in a thread of its own, so a page that is busy does not tear the voice. Its clock is the
// loudspeaker's, though nothing is heard there: without one (sinkId "none") Chromium's runs late.

import { Pace } from "./pace.js";
import { Voice } from "./voice.js";

const START_MS = 1_000; // that a browser may take to let sound run
const LOOK_MS = 1_000;
const GRAPH_MS = 16; // that the voice takes through WebAudio itself (benchmarks/extension_sync.py)
const GESTURES = ["pointerup", "keydown"]; // after which a browser lets sound run, where it did not

export class Voices {
  #tell;
  #context = null;
  #voices = new Map(); // id of a page's track -> its Voice
  #pace = new Pace();
  #ageMs = 0;
  #allowed = true;
  #timer;

  constructor(tell) {
    this.#tell = tell;
    for (const kind of GESTURES) document.addEventListener(kind, () => this.#wake(), true);
  }

  has(id) {
    return this.#voices.has(id);
  }

  // For how long voices are held back now; null where there are none.
  get heldMs() {
    return this.#voices.size > 0 ? Math.round(this.#pace.at(this.#context.currentTime)) : null;
  }

  // The browser does not let the sound run, so the others hear nothing.
  get isStill() {
    return this.#voices.size > 0 && this.#context.state !== "running";
  }

  // Whether the person wants it at all.
  allow(allowed) {
    this.#allowed = allowed;
    this.#plan();
  }

  // The age of the pictures that the page gets; 0 where it gets none.
  follow(ageMs) {
    this.#ageMs = ageMs;
    this.#plan();
  }

  // ---- what the page asks -------------------------------------------------------------------------------------

  // Without a camera. Throws what the browser throws.
  async open({ audio }) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    const given = await this.take(stream.getAudioTracks());
    return { said: { tracks: given.flatMap(({ facts }) => facts ?? []) }, stream: new MediaStream(given.map(({ track }) => track)) };
  }

  // In place of each real one: {track, facts}. The real one itself, without facts, where the browser lets no sound run:
  // a voice that comes early is better than none.
  async take(reals) {
    if (reals.length === 0 || !this.#allowed || !(await this.#runs())) return reals.map((track) => ({ track }));
    return reals.map((real) => {
      const track = this.#add(real);
      return { track, facts: { track: track.id, kind: "audio", label: real.label, muted: real.muted, ...factsOf(real) } };
    });
  }

  async apply(id, constraints) {
    const { real } = this.#voices.get(id);
    await real.applyConstraints(constraints);
    return { said: factsOf(real) };
  }

  clone(id) {
    const track = this.#add(this.#voices.get(id).real.clone());
    return { said: { track: track.id }, stream: new MediaStream([track]) };
  }

  stop(id) {
    const voice = this.#voices.get(id);
    this.#voices.delete(id);
    voice.end();
    if (this.#voices.size === 0) this.#close();
    return {};
  }

  end() {
    for (const id of [...this.#voices.keys()]) this.#ended(id);
  }

  // ---- tracks -------------------------------------------------------------------------------------------------

  #add(real) {
    const voice = new Voice(this.#context, real);
    const { track } = voice;
    this.#voices.set(track.id, voice);
    voice.follow(this.#pace);
    real.addEventListener("ended", () => this.#ended(track.id));
    for (const kind of ["mute", "unmute"]) {
      real.addEventListener(kind, () => {
        this.#tell({ kind, track: track.id, muted: kind === "mute" });
        track.dispatchEvent(new Event(kind));
      });
    }
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    return track;
  }

  // Unplugged, or not allowed any more: as a page expects of a microphone.
  #ended(id) {
    const { track } = this.#voices.get(id) ?? {};
    if (!track) return;
    this.stop(id);
    this.#tell({ kind: "ended", track: id });
    track.dispatchEvent(new Event("ended"));
  }

  // A page may stop a track by ways that we do not see.
  #look() {
    for (const [id, { track }] of this.#voices) if (track.readyState === "ended") this.stop(id);
    this.#wake();
  }

  get #goalMs() {
    return this.#allowed ? this.#ageMs - GRAPH_MS : 0;
  }

  #plan() {
    if (this.#context === null || !this.#pace.follow(this.#goalMs, this.#context.currentTime)) return;
    for (const voice of this.#voices.values()) voice.follow(this.#pace);
  }

  // ---- whether the browser lets it ----------------------------------------------------------------------------

  // Browsers let a page that captures make sound. One that has not told itself so yet needs a moment.
  async #runs() {
    if (this.#context === null) {
      this.#context = new AudioContext();
      this.#pace = new Pace(this.#goalMs);
      this.#context.addEventListener("statechange", () => this.#wake());
    }
    const context = this.#context;
    for (let leftMs = START_MS; context.state !== "running" && leftMs > 0; leftMs -= 50) {
      context.resume().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    if (context.state === "running" && context === this.#context) return true;
    if (this.#voices.size === 0 && context === this.#context) this.#close();
    return false;
  }

  #wake() {
    if (this.isStill) this.#context.resume().catch(() => {});
  }

  #close() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#context?.close().catch(() => {});
    this.#context = null;
  }
}

function factsOf(real) {
  return { settings: { ...real.getSettings() }, capabilities: { ...real.getCapabilities?.() } };
}
