// The camera behind ours, the call to the server, and the tracks that the page got. One for each frame.

import { Call, ServerSays } from "/static/call.js";
import { readable } from "./link.js";
import { newOutlet } from "./outlet.js";
import { Screen } from "./screen.js";

const STALE_MS = 700; // after which the last picture gives way to the card
const WATCH_MS = 200;
const CHECK_MS = 800; // between two questions whether the server is there
const RETRIES_MS = [250, 500, 1_000, 2_000, 4_000];
const CAMERA_MS = 1_500; // between two looks whether the camera is back
const STILL = "The browser holds your voice back until you click into the page.";
const KEPT = ["width", "height", "frameRate", "aspectRatio", "resizeMode"];

export class Hub {
  #link;
  #tell;
  #voices;
  #tracks = new Map(); // id of a page's track -> {outlet, camera: a track of the real one, video: what was asked of it}
  #call = null;
  #screen = null;
  #starting = null;
  #opening = 0;
  #attempt = 0; // every call and the end begin a new one; what belongs to an older one is thrown away
  #feed = null; // the camera's track that is sent
  #pictureMs = -Infinity;
  #newest = { stamp: undefined, atMs: -Infinity }; // Firefox: what tells a new picture from an old one
  #checkedMs = -Infinity;
  #watchedMs = -Infinity;
  #timer;
  #camera = null;
  #state = { state: "off", sentence: "" };

  constructor(link, tell, voices) {
    this.#link = link;
    this.#tell = tell;
    this.#voices = voices;
    link.ontick = () => this.#tick();
  }

  get isOpen() {
    return this.#tracks.size > 0;
  }

  get capabilities() {
    const [first] = this.#tracks.values();
    return first && this.#able(first.camera);
  }

  // ---- what the page asks -------------------------------------------------------------------------------------

  // A track for the page, and its sound where it asked for that too. Throws an Error with a name and a sentence.
  async open({ video, audio }) {
    const camera = (this.#camera = await this.#link.camera());
    if (!camera.on) throw readable("The vividstream extension is switched off.");
    let stream = null;
    this.#opening++;
    try {
      stream = await realCamera({ video, audio });
      const [real] = stream.getVideoTracks();
      await (this.#starting ??= this.#begin(real));
      const voices = await this.#voices.take(stream.getAudioTracks());
      const track = this.#add(real, video);
      const given = [...voices.map((voice) => voice.track), this.#tracks.get(track).outlet.track];
      const facts = { track, kind: "video", muted: real.muted, ...this.#facts(real) };
      return { said: { tracks: [facts, ...voices.flatMap((voice) => voice.facts ?? [])] }, stream: new MediaStream(given) };
    } catch (error) {
      for (const track of stream?.getTracks() ?? []) track.stop();
      this.#link.tell({ kind: "trouble", sentence: error.message });
      throw error;
    } finally {
      this.#opening--;
      if (!this.isOpen && this.#opening === 0) this.end();
    }
  }

  async apply(id, video) {
    const track = this.#tracks.get(id);
    if (!track) throw readable("The camera has ended.", "InvalidStateError");
    await track.camera.applyConstraints(video === true ? {} : video);
    track.video = video;
    const { width, height } = track.camera.getSettings();
    track.outlet.resize(width, height);
    if (performance.now() - this.#pictureMs > STALE_MS) track.outlet.card();
    this.#refeed();
    return { said: this.#facts(track.camera) };
  }

  clone(id) {
    const { camera, video } = this.#tracks.get(id);
    const copy = camera.clone();
    const track = this.#add(copy, video);
    return { said: { track }, stream: new MediaStream([this.#tracks.get(track).outlet.track]) };
  }

  stop(id) {
    const track = this.#tracks.get(id);
    if (!track) return {};
    this.#tracks.delete(id);
    track.outlet.end();
    track.camera.stop();
    if (this.isOpen) this.#refeed();
    else this.end();
    return {};
  }

  // Everything ends; the page's tracks too, and it hears so.
  end() {
    this.#attempt++;
    this.#starting = null;
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const id of [...this.#tracks.keys()]) this.#endTrack(id);
    this.#hangUp();
    this.#feed = null;
    this.#voices.follow(0);
    this.#link.close();
  }

  #endTrack(id) {
    const { outlet, camera } = this.#tracks.get(id);
    this.#tracks.delete(id);
    camera.stop();
    outlet.end();
    this.#tell({ kind: "ended", track: id });
    outlet.track.dispatchEvent(new Event("ended"));
  }

  // ---- the camera ---------------------------------------------------------------------------------------------

  #add(camera, video) {
    const { width, height } = camera.getSettings();
    const outlet = newOutlet(width, height);
    const id = outlet.track.id;
    this.#tracks.set(id, { outlet, camera, video });
    this.#watchCamera(id, camera);
    this.#refeed();
    this.#timer ??= setInterval(() => this.#watch(), WATCH_MS);
    return id;
  }

  #watchCamera(id, camera) {
    camera.addEventListener("ended", () => this.#lookForCamera(id, camera));
    for (const kind of ["mute", "unmute"]) camera.addEventListener(kind, () => this.#mute(id, kind));
  }

  #mute(id, kind) {
    const track = this.#tracks.get(id);
    if (!track) return;
    this.#tell({ kind, track: id, muted: kind === "mute" });
    track.outlet.track.dispatchEvent(new Event(kind));
  }

  // Not allowed any more: the page's track ends. Unplugged: it is mute and shows the card until there is one again, for a
  // page whose camera ends takes the next one in its list, which would be a real one.
  async #lookForCamera(id, gone) {
    const track = this.#tracks.get(id);
    if (track?.camera !== gone) return;
    this.#mute(id, "mute");
    while (this.#tracks.get(id) === track) {
      if (!(await isAllowed())) {
        this.#endTrack(id);
        if (!this.isOpen) this.end();
        return this.#link.tell({ kind: "trouble", sentence: "The page may not use the camera any more." });
      }
      this.#say("trouble", "The camera was disconnected. Plug it in again.");
      const stream = await realCamera({ video: track.video, audio: false }).catch(() => null);
      if (stream && this.#tracks.get(id) === track) {
        [track.camera] = stream.getVideoTracks();
        this.#watchCamera(id, track.camera);
        this.#mute(id, "unmute");
        return this.#refeed();
      }
      for (const one of stream?.getTracks() ?? []) one.stop();
      await sleep(CAMERA_MS);
    }
  }

  // Firefox says a new size only with the first picture that has it.
  #follow(id, { outlet, camera }) {
    const { width, height } = camera.getSettings();
    if (camera.readyState !== "live" || (outlet.canvas.width === width && outlet.canvas.height === height)) return;
    outlet.resize(width, height);
    this.#tell({ kind: "settings", track: id, ...this.#facts(camera) });
    this.#refeed();
  }

  // The largest picture that the page wants is sent to the server.
  #refeed() {
    const area = ({ camera }) => (camera.readyState === "live" ? camera.getSettings().width * camera.getSettings().height : 0);
    const best = [...this.#tracks.values()].sort((a, b) => area(b) - area(a))[0]?.camera;
    if (!best || best.readyState !== "live") return;
    for (const { outlet, camera } of this.#tracks.values()) outlet.atMost(camera === best ? Infinity : camera.getSettings().frameRate);
    if (best === this.#feed) return;
    this.#feed = best;
    this.#call?.replaceCamera(best).catch(() => this.#lost());
  }

  // The real camera's numbers under our camera's name.
  #facts(camera) {
    const { id, group } = this.#camera;
    const settings = { ...pick(camera.getSettings()), deviceId: id, groupId: group, facingMode: "user" };
    return { settings, capabilities: this.#able(camera) };
  }

  #able(camera) {
    const { id, group } = this.#camera;
    return { ...pick(camera.getCapabilities?.() ?? {}), deviceId: id, groupId: group, facingMode: ["user"] };
  }

  // ---- the call -----------------------------------------------------------------------------------------------

  async #begin(camera) {
    this.#feed = camera;
    this.#say("starting");
    await this.#connect();
  }

  async #connect() {
    const mine = ++this.#attempt;
    const call = new Call(this.#link.reach);
    const screen = new Screen((...picture) => mine === this.#attempt && this.#show(...picture));
    call.onnumbers = (numbers) => mine === this.#attempt && this.#hear(call, numbers);
    call.onlost = () => mine === this.#attempt && this.#lost();
    const sent = this.#feed;
    try {
      await call.start(new MediaStream([sent]), screen, {});
      if (mine !== this.#attempt) throw readable("The camera was closed.", "AbortError");
    } catch (error) {
      call.end();
      screen.end();
      throw error instanceof ServerSays ? readable(error.message) : error;
    }
    [this.#call, this.#screen] = [call, screen];
    if (this.#feed !== sent) await call.replaceCamera(this.#feed);
  }

  #hangUp() {
    this.#call?.end();
    this.#screen?.end();
    [this.#call, this.#screen] = [null, null];
  }

  async #lost() {
    const mine = ++this.#attempt;
    this.#hangUp();
    this.#pictureMs = -Infinity;
    this.#card();
    this.#say("lost", "The connection to the server was lost. Trying again…");
    for (let number = 0; ; number++) {
      await sleep(RETRIES_MS[Math.min(number, RETRIES_MS.length - 1)]);
      if (this.#attempt !== mine + number || !this.isOpen) return;
      try {
        return await this.#connect();
      } catch (error) {
        if (this.#attempt === mine + number + 1) this.#say("lost", error.message);
      }
    }
  }

  // ---- pictures -----------------------------------------------------------------------------------------------

  #show(picture, width, height) {
    const nowMs = (this.#pictureMs = performance.now());
    for (const { outlet } of this.#tracks.values()) if (outlet.isDue(nowMs)) outlet.show(picture, width, height);
  }

  #card() {
    for (const { outlet } of this.#tracks.values()) outlet.card();
  }

  #watch() {
    const nowMs = performance.now();
    if (nowMs - this.#watchedMs < WATCH_MS / 2) return; // two clocks call
    this.#watchedMs = nowMs;
    for (const [id, { outlet }] of this.#tracks) if (outlet.track.readyState === "ended") this.stop(id);
    for (const [id, track] of this.#tracks) this.#follow(id, track);
    if (nowMs - this.#pictureMs <= STALE_MS) return;
    this.#card();
    if (!this.#call || nowMs - this.#checkedMs < CHECK_MS) return;
    this.#checkedMs = nowMs;
    this.#call.check();
    if (this.#state.state === "live") this.#say("lost", "No picture comes from the server, so others see the standby picture.");
  }

  // The background's clock: the timers of a hidden tab run once a second at best.
  #tick() {
    const nowMs = performance.now();
    this.#watch();
    if (!this.#screen?.isDrawn) return;
    const { newest } = this.#call;
    if (newest !== this.#newest.stamp) this.#newest = { stamp: newest, atMs: nowMs };
    if (nowMs - this.#newest.atMs < STALE_MS / 2) this.#screen.draw(); // it is decoded a little after it came
  }

  // ---- what the popup shows -----------------------------------------------------------------------------------

  #hear(call, numbers) {
    const ages = call.ages.quantiles(performance.now());
    const { p50, p95 } = ages ?? numbers.age_ms;
    if (p50) this.#voices.follow(p50); // without `ages` the server's part alone, which is most of it
    const held = this.#voices.heldMs;
    this.#say("live", this.#voices.isStill ? STILL : trouble(numbers), { held, p50, p95, whole: ages !== null, engine: numbers.engine, identity: numbers.identity, showing: numbers.showing });
  }

  #say(state, sentence = "", more = {}) {
    this.#state = { state, sentence, ...more };
    this.#link.report(this.#state);
  }
}

function trouble({ silent, showing, identity, faces }) {
  if (silent) return `No picture comes from your camera: ${silent}.`;
  if (showing === "drawn" || showing === "warming") return "";
  if (showing === "card") return "The engine does not keep up, so others see the standby picture.";
  if (identity === null) return "No face is chosen, so others see the standby picture.";
  return faces === 0 ? "No face is in view, so others see the standby picture." : "Your face cannot be drawn, so others see the standby picture.";
}

// The browser's own camera, under the page's own permission. In words where it cannot be had.
async function realCamera(constraints) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw Object.assign(readable(inWords(error), error.name), { constraint: error.constraint });
  }
}

function inWords({ name, message, constraint }) {
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The page may not use the camera. Allow it (the camera sign in the address bar), then try again.";
    case "NotFoundError":
      return "No camera was found. Plug one in, then try again.";
    case "NotReadableError":
    case "AbortError":
      return "The camera cannot be opened. Another program may be using it: close that one, then try again.";
    case "OverconstrainedError":
      return `The camera has no such ${constraint}.`;
    default:
      return `The camera cannot be used: ${message}`;
  }
}

async function isAllowed() {
  try {
    return (await navigator.permissions.query({ name: "camera" })).state === "granted";
  } catch {
    return false; // cannot be told: then no
  }
}

function pick(values) {
  return Object.fromEntries(KEPT.filter((name) => values[name] !== undefined).map((name) => [name, values[name]]));
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
