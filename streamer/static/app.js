// The page: what a person sees, chooses and is told.

import { Call, ServerSays, ask } from "/static/call.js";

const $ = (id) => document.getElementById(id);
const RETRIES_MS = [500, 1_500, 3_000, 6_000];
const REMEMBER = "vividstream";

let call = null;
let stream = null;
let attempt = 0; // every start and stop begins a new one; what belongs to an older one is thrown away
let faultsBefore = 0;
let troubleBefore = "";
const kept = remembered();
const wasSent = new URLSearchParams(location.search).has("placed"); // here by another server that was full: no further

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBER)) ?? {};
  } catch {
    return {};
  }
}

function remember(key, value) {
  kept[key] = value;
  try {
    localStorage.setItem(REMEMBER, JSON.stringify(kept));
  } catch {
    // private windows may refuse; then the choice lasts until the page is closed
  }
}

// ---- what is told ---------------------------------------------------------------------------------------------

const PILL = { idle: "Off", starting: "Starting…", live: "Live", lost: "Reconnecting…" };

function show(state, words = "") {
  document.body.dataset.state = state;
  $("pill-text").textContent = PILL[state];
  $("toggle").textContent = state === "idle" ? "Start" : "Stop";
  if (state === "idle") $("result").srcObject = null;
  cover(state === "live" ? "" : words || (state === "idle" ? "Choose a face, then start." : "One moment…"));
}

function cover(words) {
  $("cover").hidden = words === "";
  $("cover-text").textContent = words;
}

// A sentence that stays until things are well again. "" takes it away.
function complain(words) {
  if ($("notice").textContent === words) return;
  $("notice").textContent = words;
  $("notice").hidden = words === "";
}

function say(words) {
  if ($("status").textContent !== words) $("status").textContent = words;
}

function cameraTrouble(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser did not allow the camera. Allow it for this page (the camera sign in the address bar), then start again.";
    case "NotFoundError":
      return "No camera was found. Plug one in, then start again.";
    case "NotReadableError":
    case "AbortError":
      return "The camera cannot be opened. Another program may be using it: close that one, then start again.";
    case "OverconstrainedError":
      return "The chosen camera is not there any more. Choose another one.";
    default:
      return `The camera cannot be used: ${error.message}`;
  }
}

function pictureTrouble(numbers) {
  if (numbers.silent) return `There is no picture from your camera, so others see the standby picture: ${numbers.silent}.`;
  if (numbers.faults > faultsBefore) return "The engine failed on a picture, so others see the standby picture. The server’s log says why.";
  if (numbers.showing === "card") return "The engine does not keep up, so others see the standby picture. Close other programs, or choose a lighter engine.";
  if (numbers.showing === "drawn" || numbers.showing === "warming") return "";
  if (numbers.identity === null) return "No face is chosen, so others see the standby picture.";
  if (numbers.faces === 0) return "No face is in view, so others see the standby picture. Look at the camera, in good light.";
  return "Your face is covered or cannot be drawn, so others see the standby picture.";
}

// ---- start and stop -------------------------------------------------------------------------------------------

function choice() {
  const checked = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value ?? null;
  return { identity: checked("identity"), tone: checked("tone"), engine: $("engine").value || null };
}

async function openCamera() {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error("Browsers give the camera only to pages on this machine (http://127.0.0.1) or over HTTPS. Open the page that way.");
  }
  const camera = $("camera").value;
  const constraints = {
    video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, ...(camera && { deviceId: { exact: camera } }) },
    audio: $("microphone").checked,
  };
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new Error(cameraTrouble(error));
  }
}

async function start() {
  const mine = ++attempt;
  complain("");
  show("starting", "Opening the camera…");
  say("Starting");
  try {
    stream = await openCamera();
    if (mine !== attempt) return closeCamera();
    $("own").srcObject = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => stop("The camera was disconnected. Plug it in, then start again."));
    await listCameras();
    show("starting", "Connecting…");
    await connect(mine);
  } catch (error) {
    if (mine !== attempt) return;
    stop(error.message);
    if (error.elsewhere && !wasSent) location.assign(`${error.elsewhere}#${new URLSearchParams(chosen())}`);
  }
}

// What goes along to another server's page: it keeps no choices of ours.
function chosen() {
  return Object.fromEntries(Object.entries(choice()).filter(([, value]) => value !== null));
}

async function connect(mine) {
  const fresh = new Call();
  call = fresh;
  faultsBefore = 0;
  fresh.onnumbers = (numbers) => mine === attempt && live(fresh, numbers);
  fresh.onlost = () => mine === attempt && reconnect(mine);
  await fresh.start(stream, $("result"), choice());
  if (mine !== attempt) fresh.end();
}

async function reconnect(mine) {
  show("lost", "The connection was lost. Trying again…");
  complain("The connection to the server was lost. Trying again…");
  clearNumbers();
  for (const waitMs of RETRIES_MS) {
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (mine !== attempt) return;
    try {
      await connect(mine);
      complain("");
      return;
    } catch (error) {
      if (mine !== attempt) return;
      if (error instanceof ServerSays && error.status !== 0 && error.status < 500) return stop(error.message);
    }
  }
  stop("The connection to the server was lost, and it cannot be reached. Is it still running?");
}

function stop(complaint = "") {
  attempt++;
  call?.end();
  call = null;
  closeCamera();
  clearNumbers();
  show("idle");
  complain(complaint);
  say("Stopped");
}

function closeCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("own").srcObject = null;
}

function live(fresh, numbers) {
  if (document.body.dataset.state !== "live") {
    show("live");
    say("Live: the result is shown");
  }
  const trouble = pictureTrouble(numbers);
  if (trouble === "" || trouble === troubleBefore) complain(trouble); // what lasts a moment needs no words
  troubleBefore = trouble;
  faultsBefore = numbers.faults;
  document.body.dataset.showing = numbers.showing;
  showNumbers(numbers, fresh.ages.quantiles(performance.now()));
}

// ---- numbers --------------------------------------------------------------------------------------------------

function ms(value) {
  return value === null || value === undefined ? "–" : `${Math.round(value)} ms`;
}

function showNumbers(numbers, onScreen) {
  const age = onScreen ?? numbers.age_ms;
  const data = $("numbers").dataset;
  const keep = (key, value) => (value === null || value === undefined ? delete data[key] : (data[key] = value));
  keep("ageKind", onScreen ? "camera-to-screen" : "in-the-server");
  keep("ageP50Ms", age.p50);
  keep("ageP95Ms", age.p95);
  keep("ageCount", age.count);
  keep("serverAgeP50Ms", numbers.age_ms.p50);
  keep("serverAgeP95Ms", numbers.age_ms.p95);
  keep("fps", numbers.fps_out);
  keep("engine", numbers.engine);
  keep("identity", numbers.identity);
  $("age").textContent = ms(age.p50);
  $("age95").textContent = ms(age.p95);
  $("age95-sub").textContent = onScreen ? `in the server ${ms(numbers.age_ms.p95)}` : "";
  $("age-sub").textContent = onScreen ? `in the server ${ms(numbers.age_ms.p50)}` : "in the server";
  $("age-words").textContent = AGE_WORDS[onScreen ? "screen" : "server"];
  $("fps").textContent = numbers.fps_out.toFixed(0);
  $("fps-sub").textContent = `${numbers.fps_in.toFixed(0)} from the camera`;
  const dropped = Object.values(numbers.dropped).reduce((sum, one) => sum + one, 0);
  $("drops").textContent = dropped;
  $("drops-sub").textContent = dropsInWords(numbers.dropped);
  $("bitrate").textContent = `${(numbers.bits_per_s / 1e6).toFixed(1)} Mbit/s`;
  $("bitrate-sub").textContent = `from the server, ${(numbers.bits_per_s_in / 1e6).toFixed(1)} to it`;
  $("engine-used").textContent = numbers.engine;
  $("engine-why").textContent = numbers.why.replaceAll("`", "");  // a terminal's quotation marks
  showMore(numbers);
}

const STAGES = {
  assembled: "its last packet is in",
  decoded: "decoded",
  taken: "the engine takes it",
  drawn: "drawn",
  encoded: "encoded",
  sent: "its last packet is out",
};
const ASKED = { engine: "the engine does not keep up", line: "the line does not carry more" };

function showMore(numbers) {
  const rows = Object.entries(numbers.ages_ms).map(([stage, ages]) => {
    const row = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: STAGES[stage] ?? stage });
    const cells = [ages.p50, ages.p95, ages.p99].map((age) =>
      Object.assign(document.createElement("td"), { textContent: age === null ? "–" : age.toFixed(1) }),
    );
    row.append(head, ...cells);
    return row;
  });
  $("stages").replaceChildren(...rows);
  const { received, sent, line, asked } = numbers;
  $("rtt").textContent = ms(line.rtt_ms);
  $("rtt-sub").textContent = line.encoder ? `${line.encoder}, ${line.encode_ms} ms a picture` : "\u00a0";
  $("lost").textContent = `${received.recovered} of ${received.nacks}`;
  $("lost-sub").textContent = `${received.plis} key frames asked for, ${sent.nacks} packets sent again`;
  $("asked").textContent = `${asked.fps} a second` + (asked.scale > 1 ? `, 1/${asked.scale} size` : "");
  $("asked-sub").textContent = asked.why ? (ASKED[asked.why] ?? asked.why) : "all that it has";
}

const QUANTILES = "over the last ten seconds: half of the pictures are younger than p50, 95 of 100 younger than p95.";
const AGE_WORDS = {
  screen: `A picture’s age is the time from this browser’s camera encoder, through the server, to this screen, ${QUANTILES}`,
  server: `A picture’s age is the time that it spent in the server, ${QUANTILES}`,
};
const DROPS = {
  newer_came: "overtaken by a newer one",
  replaced: "replaced before encoding",
  too_old: "too old to show",
  out_of_order: "late",
  incomplete: "lost on the way",
  undecodable: "that could not be decoded",
  decoder_behind: "behind the decoder",
  memory_in_use: "without room",
  line_full: "too many for the line",
  sound: "of the sound",
};

function dropsInWords(dropped) {
  const parts = Object.entries(dropped).filter(([, count]) => count > 0);
  return parts.length ? parts.map(([why, count]) => `${count} ${DROPS[why] ?? why}`).join(", ") : "none";
}

function clearNumbers() {
  const data = $("numbers").dataset;
  for (const key of Object.keys(data)) delete data[key];
  delete document.body.dataset.showing;
  $("stages").replaceChildren();
  for (const id of ["age", "age95", "fps", "drops", "bitrate", "engine-used", "rtt", "lost", "asked"]) $(id).textContent = "–";
  for (const id of ["age-sub", "age95-sub", "fps-sub", "drops-sub", "bitrate-sub", "engine-why", "rtt-sub", "lost-sub", "asked-sub"]) $(id).textContent = "\u00a0";
}

// ---- controls -------------------------------------------------------------------------------------------------

async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  const using = stream?.getVideoTracks()[0]?.getSettings().deviceId ?? $("camera").value;
  if (cameras.length === 0) return;
  $("camera").replaceChildren(
    ...cameras.map((camera, index) => new Option(camera.label || `Camera ${index + 1}`, camera.deviceId, false, camera.deviceId === using)),
  );
}

async function changeCamera() {
  if (document.body.dataset.state !== "live") return;
  const mine = attempt;
  try {
    const fresh = await openCamera();
    if (mine !== attempt) return fresh.getTracks().forEach((track) => track.stop());
    await call.replaceCamera(fresh.getVideoTracks()[0]);
    closeCamera();
    stream = fresh;
    $("own").srcObject = fresh;
  } catch (error) {
    complain(error.message);
  }
}

async function change(what) {
  if (document.body.dataset.state !== "live") return;
  try {
    await call.change(what);
    complain("");
  } catch (error) {
    complain(error.message);
  }
}

function faceRadio(name, chosen) {
  const label = document.createElement("label");
  label.className = "face";
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "identity", value: name, checked: chosen });
  const portrait = Object.assign(document.createElement("img"), {
    src: `/identities/${encodeURIComponent(name)}/portrait`,
    alt: "",
    loading: "lazy",
    width: 96,
    height: 96,
  });
  const words = Object.assign(document.createElement("span"), { textContent: name });
  label.append(input, portrait, words);
  return label;
}

async function fill() {
  const [identities, engines] = await Promise.all([ask("/identities"), ask("/engines")]);
  const names = identities.identities;
  const chosen = names.includes(kept.identity) ? kept.identity : identities.chosen;
  $("faces").replaceChildren(...names.map((name) => faceRadio(name, name === chosen)));
  $("faces-empty").hidden = names.length > 0;
  const engine = engines.engines.includes(kept.engine) ? kept.engine : engines.chosen;
  const words = { auto: "Automatic", passthrough: "passthrough (shows your real face)" };
  $("engine").replaceChildren(...engines.engines.map((name) => new Option(words[name] ?? name, name, false, name === engine)));
  const tone = kept.tone ?? engines.tone;
  document.querySelector(`input[name="tone"][value="${tone}"]`).checked = true;
  if (!engines.label) $("label-note").textContent = "This server does not mark its pictures as synthetic. Wear only a face that is yours to use.";
}

function view(name) {
  $("stage").dataset.view = name;
  document.querySelector(`input[name="view"][value="${name}"]`).checked = true;
}

function listen() {
  $("toggle").addEventListener("click", () => (document.body.dataset.state === "idle" ? start() : stop()));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("change", ({ target }) => {
    if (target.name === "identity" || target.name === "tone") {
      remember(target.name, target.value);
      change({ [target.name]: target.value });
    } else if (target.id === "engine") {
      remember("engine", target.value);
      change({ engine: target.value });
    } else if (target.id === "camera") {
      changeCamera();
    }
  });
  $("view").addEventListener("change", ({ target }) => {
    view(target.value);
    remember("view", target.value);
  });
  const handle = "34px"; // its centre stays that far inside, so the split must too
  $("split").addEventListener("input", ({ target }) =>
    $("stage").style.setProperty("--split", `calc(${handle} / 2 + (100% - ${handle}) * ${target.value / 100})`),
  );
  $("own").addEventListener("resize", ({ target }) => {
    if (target.videoWidth) $("stage").style.setProperty("--aspect", `${target.videoWidth} / ${target.videoHeight}`);
  });
  new ResizeObserver(([entry]) => $("stage").style.setProperty("--stage-height", `${entry.contentRect.height}px`)).observe($("split").parentElement);
  window.addEventListener("pagehide", () => call?.end());
}

// What was chosen on the other server's page, until the next choice here: anybody can write such an address.
function takeOver() {
  const sent = new URLSearchParams(location.hash.slice(1));
  for (const key of ["identity", "engine"]) kept[key] = sent.get(key) ?? kept[key];
  const tones = [...document.querySelectorAll('input[name="tone"]')].map(({ value }) => value);
  if (tones.includes(sent.get("tone"))) kept.tone = sent.get("tone");
}

async function open() {
  if (wasSent) takeOver();
  if (location.search) history.replaceState(null, "", location.pathname); // the token is in a cookie now
  listen();
  if (["side", "split", "result"].includes(kept.view)) view(kept.view);
  try {
    await fill();
  } catch (error) {
    complain(error.message);
    return;
  }
  if (wasSent) complain("The server that you came from is busy. This one takes you: start again.");
  if (!window.isSecureContext || !navigator.mediaDevices) {
    complain("Browsers give the camera only to pages on this machine (http://127.0.0.1) or over HTTPS. Open the page that way.");
    $("toggle").disabled = true;
    return;
  }
  await listCameras().catch(() => {}); // names come with the permission; without it the default camera is offered
}

open();
