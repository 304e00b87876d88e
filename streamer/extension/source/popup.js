// On or off, which face, how the calls are.

import { read, request } from "./server.js";
import { settings } from "./settings.js";

const { runtime } = globalThis.browser ?? globalThis.chrome;
const $ = (id) => document.getElementById(id);
const STATES = {
  starting: "Connecting…",
  live: "Live",
  lost: "Reconnecting: others see the standby picture.",
  trouble: "Others see the standby picture.",
};

const port = runtime.connect({ name: "popup" });
let serverTrouble = "";
let told = { calls: [], trouble: "", theirs: "" };

function show() {
  const { calls, trouble, theirs } = told;
  const on = $("on").checked;
  const call = calls.find(({ state }) => state !== "live") ?? calls[0];
  document.body.dataset.state = on ? (call?.state ?? "idle") : "off";
  $("on-words").textContent = on ? "On" : "Off";
  $("state").textContent = !on ? "Off: pages get your real cameras." : call ? `${STATES[call.state]}${call.site ? ` (${new URL(call.site).host})` : ""}` : "Ready. Choose the camera “vividstream” in your call.";
  const real = theirs && `${new URL(theirs).host} shows your real camera. Choose “vividstream” in its list of cameras.`;
  const words = on ? call?.sentence || real || trouble || serverTrouble : "";
  $("notice").textContent = words;
  $("notice").hidden = words === "";
  $("age").hidden = !(on && call?.p50);
  $("p50").textContent = call?.p50 ? `${Math.round(call.p50)} ms` : "–";
  $("voice").hidden = typeof call?.held !== "number";
  $("held").textContent = `${call?.held} ms`;
  $("p95").textContent = call?.p95 ? `${Math.round(call.p95)} ms` : "–";
}

async function fill() {
  const { on, identity } = await settings();
  $("on").checked = on;
  show();
  try {
    const { identities, chosen } = await read("/identities");
    const worn = identities.includes(identity) ? identity : chosen;
    document.querySelector(".faces").replaceChildren(...(await Promise.all(identities.map((name) => face(name, name === worn)))));
    if (identities.length === 0) serverTrouble = "Nobody is enrolled on the server (vividstream enroll).";
  } catch ({ message }) {
    serverTrouble = message;
  }
  $("faces").hidden = serverTrouble !== "";
  show();
}

async function face(name, worn) {
  const label = Object.assign(document.createElement("label"), { className: "face" });
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "identity", value: name, checked: worn });
  const portrait = Object.assign(document.createElement("img"), { alt: "", width: 64, height: 64 });
  const { status, text } = await request(`/identities/${encodeURIComponent(name)}/portrait`, {}, "blob");
  if (status === 200) portrait.src = URL.createObjectURL(text);
  label.append(input, portrait, Object.assign(document.createElement("span"), { textContent: name }));
  return label;
}

port.onMessage.addListener((said) => {
  told = said;
  show();
});
document.addEventListener("change", ({ target }) => {
  if (target.id === "on") port.postMessage({ on: target.checked });
  if (target.name === "identity") port.postMessage({ identity: target.value });
  show();
});
$("options").addEventListener("click", () => runtime.openOptionsPage());
fill();
