// In the page's own world, before its first script: one camera more. What must be kept from the page (the token, the real
// camera's pictures, the connection to the server) is in the extension's world; here is only what a page may see.

import { getter, takeChannel } from "./channel.js";
import { choose, isScreen, list, sizesOf } from "./choose.js";
import { buttonMethods } from "./element.js";

const NAME = "vividstream";
const OFF = { on: false };

if (globalThis.navigator?.mediaDevices && globalThis.MediaStreamTrack) wrap(navigator.mediaDevices);

function wrap(media) {
  const tracks = new Map(); // a track's id -> what the page may know of it, where it is one of ours
  const idOf = getter(MediaStreamTrack.prototype, "id");
  const { ask, askNow } = takeChannel(hear);
  const ours = (track) => tracks.get(idOf(track)); // throws, as the real one does, for what is no track

  function hear({ kind, track, ...said }) {
    if (kind === "devices") media.dispatchEvent(new Event("devicechange"));
    else if (tracks.has(track)) Object.assign(tracks.get(track), said);
  }

  const open = wrapDevices(media, { ask, adopt: (facts) => tracks.set(facts.track, facts) });
  wrapLegacy(open);
  wrapButton(open, ask);
  wrapTracks(ours, {
    stop: (track) => ours(track) && askNow("stop", { track: idOf(track) }), // its name and settings stay readable
    async apply(track, constraints) {
      const wanted = plain(constraints) ?? {};
      const facts = ours(track);
      const names = facts.kind === "video" ? ["deviceId", "groupId", "facingMode"] : []; // a microphone is the browser's to judge
      const other = names.find((name) => {
        const exact = list(wanted[name]?.exact);
        return exact.length > 0 && !exact.includes(facts.settings[name]);
      });
      if (other) throw overconstrained(other);
      const { said } = await ask("apply", { track: idOf(track), wanted: facts.kind === "video" ? sizesOf(wanted) : wanted }).catch(refuse);
      Object.assign(facts, said, { constraints: wanted });
    },
    clone(track, native) {
      const answered = askNow("clone", { track: idOf(track) }); // null where it has ended
      const [copy] = answered ? answered.stream.getTracks() : [native.call(track)];
      tracks.set(idOf(copy), { ...structuredClone(ours(track)), ...answered?.said });
      copy.enabled = track.enabled;
      return copy;
    },
  });
}

// ---- cameras ----------------------------------------------------------------------------------------------------

// Returns what stands for getUserMedia now.
function wrapDevices(media, { ask, adopt }) {
  const { enumerateDevices, getUserMedia } = MediaDevices.prototype;
  const { apply, getPrototypeOf } = Reflect;
  const enumerate = () => enumerateDevices.call(media);
  let met = false; // the page has to do with cameras, so its microphone is to be in step with ours

  async function devices() {
    met = true;
    const [all, camera] = await Promise.all([enumerate(), ask("camera").then(({ said }) => said, () => OFF)]);
    if (!camera.on) return all;
    const real = all.filter(({ kind }) => kind === "videoinput");
    const allowed = real.some(({ deviceId, label }) => deviceId !== "" || label !== "");
    if (!camera.open && !allowed) return all; // none, or one without a name: as it is before the permission
    const at = real.length > 0 ? all.indexOf(real[0]) : all.length;
    const after = all.slice(at).filter(({ kind }) => !camera.hide || kind !== "videoinput");
    return [...all.slice(0, at), device(camera, real[0]), ...after];
  }

  async function open(constraints) {
    const wanted = plain(constraints);
    if (!wanted?.video) {
      const held = wanted?.audio && met && !isScreen(wanted.audio) && (await ask("camera").then(({ said }) => said.on && said.sound, () => false));
      return held ? given({ audio: wanted.audio }, wanted) : getUserMedia.call(media, constraints);
    }
    met = true;
    const camera = (await ask("camera").catch(refuse)).said;
    const real = (await enumerate()).filter(({ kind }) => kind === "videoinput");
    const ids = real.flatMap(({ deviceId, groupId }) => [deviceId, groupId]).filter((id) => id !== "");
    const chosen = choose(wanted.video, camera, ids);
    if (chosen.camera === "none") throw overconstrained(chosen.constraint);
    if (chosen.camera === "theirs") {
      const stream = await getUserMedia.call(media, constraints);
      if (chosen.real) ask("theirs").catch(() => {}); // so that the popup says it
      return stream;
    }
    return given({ video: sizesOf(wanted.video), audio: wanted.audio ?? false }, wanted);
  }

  // What the extension opens, as the page may know it.
  async function given(asked, wanted) {
    const { said, stream } = await ask("open", asked).catch(refuse);
    for (const facts of said.tracks) {
      const constraints = wanted[facts.kind] === true ? {} : wanted[facts.kind];
      adopt({ ...(facts.kind === "video" && { label: NAME }), ...facts, constraints });
    }
    return stream;
  }

  const own = {
    enumerateDevices() {
      return this === media ? devices() : elsewhere(this, "enumerateDevices");
    },
    getUserMedia(constraints) {
      return this === media ? open(constraints) : elsewhere(this, "getUserMedia", constraints);
    },
  };
  // Another frame's devices by this frame's method: what that frame's own method gives, never the browser's.
  async function elsewhere(devices, name, ...given) {
    const theirs = getPrototypeOf(devices)?.[name];
    if (typeof theirs !== "function" || theirs === own[name]) throw new TypeError("Illegal invocation");
    return apply(theirs, devices, given);
  }
  replace(MediaDevices.prototype, own);
  return open;
}

// The form with two functions that old pages use.
function wrapLegacy(open) {
  for (const name of ["getUserMedia", "webkitGetUserMedia", "mozGetUserMedia"]) {
    if (!(name in Navigator.prototype)) continue; // pages look whether it is there
    replace(Navigator.prototype, {
      [name](constraints, good, bad) {
        open(constraints).then(good, bad);
      },
    });
  }
}

// The one that a person presses. Where it cannot be told whether the extension is on, it is.
function wrapButton(open, ask) {
  const button = buttonMethods(open, () => ask("camera").then(({ said }) => said.on, () => true));
  if (button === null) return;
  replace(button.prototype, { setConstraints: button.setConstraints });
  replaceGetter(button.prototype, "stream", button.streamFor);
}

// Our camera as the list of devices has it.
function device({ id, group, capabilities }, real) {
  const facts = { deviceId: id, kind: "videoinput", label: NAME, groupId: group };
  const one = Object.create(globalThis.InputDeviceInfo?.prototype ?? MediaDeviceInfo.prototype);
  for (const [name, value] of Object.entries(facts)) Object.defineProperty(one, name, { value, enumerable: true });
  const able = () => capabilities ?? { ...named(real?.getCapabilities?.() ?? {}), deviceId: id, groupId: group };
  const methods = { toJSON: () => ({ ...facts }), getCapabilities: () => structuredClone(able()) };
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(one, name, { value });
  return one;
}

function named({ width, height, frameRate, aspectRatio, resizeMode }) {
  return { width, height, frameRate, aspectRatio, resizeMode, facingMode: ["user"] };
}

// ---- tracks -----------------------------------------------------------------------------------------------------

function wrapTracks(ours, { stop, apply, clone }) {
  const Track = MediaStreamTrack.prototype;
  const native = { ...methodsOf(Track), labelOf: getter(Track, "label"), mutedOf: getter(Track, "muted") };
  const copyOf = (name) =>
    function () {
      const facts = ours(this);
      return facts ? structuredClone(facts[name]) : null;
    };
  const [settings, capabilities, constraints] = ["settings", "capabilities", "constraints"].map(copyOf);
  replace(Track, {
    getSettings() {
      return settings.call(this) ?? native.getSettings.call(this);
    },
    getCapabilities() {
      return capabilities.call(this) ?? native.getCapabilities.call(this);
    },
    getConstraints() {
      return constraints.call(this) ?? native.getConstraints.call(this);
    },
    async applyConstraints(constraints) {
      return ours(this) ? apply(this, constraints) : native.applyConstraints.call(this, constraints);
    },
    stop() {
      native.stop.call(this);
      stop(this);
    },
    clone() {
      return ours(this) ? clone(this, native.clone) : native.clone.call(this);
    },
  });
  replaceGetter(Track, "label", (track) => ours(track)?.label ?? native.labelOf(track));
  replaceGetter(Track, "muted", (track) => ours(track)?.muted ?? native.mutedOf(track));

  const { clone: cloneStream } = MediaStream.prototype;
  replace(MediaStream.prototype, {
    clone() {
      const all = this.getTracks();
      return all.some(ours) ? new MediaStream(all.map((track) => track.clone())) : cloneStream.call(this);
    },
  });
}

function methodsOf(prototype) {
  const { getSettings, getCapabilities, getConstraints, applyConstraints, stop, clone } = prototype;
  return { getSettings, getCapabilities, getConstraints, applyConstraints, stop, clone };
}

// ---- small things -----------------------------------------------------------------------------------------------

// In place of the browser's own, with its place, name and attributes. Where the browser has none, neither have we.
function replace(prototype, methods) {
  for (const [name, value] of Object.entries(methods)) {
    const before = Object.getOwnPropertyDescriptor(prototype, name);
    if (before) Object.defineProperty(prototype, name, { ...before, value });
  }
}

function replaceGetter(prototype, name, read) {
  const before = Object.getOwnPropertyDescriptor(prototype, name);
  const after = {
    get [name]() {
      return read(this);
    },
  };
  Object.defineProperty(prototype, name, { ...before, get: Object.getOwnPropertyDescriptor(after, name).get });
}

// What the page asks for as plain values, read once; undefined where it is nothing of the kind.
function plain(constraints) {
  try {
    const copy = JSON.parse(JSON.stringify(constraints));
    return typeof copy === "object" && copy !== null ? copy : undefined;
  } catch {
    return undefined;
  }
}

// Firefox has it, but does not let pages make one.
function overconstrained(constraint, message = "") {
  if (typeof OverconstrainedError === "function") return new OverconstrainedError(constraint, message);
  return Object.defineProperty(new DOMException(message, "OverconstrainedError"), "constraint", { value: constraint, enumerable: true });
}

function refuse({ name, message, constraint }) {
  throw name === "OverconstrainedError" ? overconstrained(constraint ?? "", message) : new DOMException(message, name);
}
