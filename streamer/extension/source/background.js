// The one place that talks to the server: it knows the token, which nothing in a web page's process is told.

import { read, request } from "./server.js";
import { begin, keep, settings } from "./settings.js";

const { action, runtime, tabs } = globalThis.browser ?? globalThis.chrome;
const FRAGMENT = "application/trickle-ice-sdpfrag";
const SESSION = /^\/session\/[A-Za-z0-9_-]{1,128}$/;
const CLOCK_MS = { "call that draws": 33, call: 250 };

const ready = begin();
const calls = new Map(); // port -> {site, sessions, state}
const popups = new Set();
let trouble = ""; // why the last camera could not be opened
let theirs = ""; // the site that was given a real camera while we are on

// ---- frames -----------------------------------------------------------------------------------------------------

runtime.onMessage.addListener((said, sender, answer) => {
  if (!Object.hasOwn(ASKED, said.kind)) return false;
  const asked = ASKED[said.kind];
  asked(said, sender).then(answer, ({ message }) => answer({ error: message }));
  return true;
});

const ASKED = {
  async camera(_said, sender) {
    await ready;
    const { on, hide, sound, salt } = await settings();
    const [id, group] = await Promise.all(["camera", "group"].map((what) => digest(`${salt} ${what} ${siteOf(sender)}`)));
    return { on, hide, sound, id, group };
  },
  async trouble({ sentence }) {
    trouble = sentence;
    inform();
  },
  async theirs(_said, sender) {
    theirs = siteOf(sender);
    inform();
  },
};

runtime.onConnect.addListener((port) => {
  if (port.name === "popup") return servePopup(port);
  if (!(port.name in CLOCK_MS)) return port.disconnect();
  const call = { site: siteOf(port.sender), sessions: new Set(), state: null };
  calls.set(port, call);
  const clock = setInterval(() => port.postMessage({ tick: true }), CLOCK_MS[port.name]);
  port.onMessage.addListener(async (said) => {
    if (said.kind === "state") {
      call.state = said.state;
      trouble = theirs = "";
      return inform();
    }
    const answered = await reach(call, said);
    if (calls.has(port)) port.postMessage({ number: said.number, ...answered });
    else endSessions(call); // the frame went while the server was asked
  });
  port.onDisconnect.addListener(() => {
    clearInterval(clock);
    calls.delete(port);
    endSessions(call);
    inform();
  });
});

// Only what one call needs, and only sessions that this frame began. What is worn is not the frame's to say.
async function reach(call, { path, method, headers, body }) {
  await ready;
  const type = headers["Content-Type"];
  if (method === "GET" && path === "/ice") return request(path);
  if (method === "POST" && path === "/session") {
    const { identity } = await settings();
    const offer = { sdp: JSON.parse(body).sdp, choice: { identity: await known(identity) } };
    const answered = await request(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(offer) });
    if (answered.status === 201) call.sessions.add(`/session/${JSON.parse(answered.text).call}`);
    return answered;
  }
  if (SESSION.test(path) && call.sessions.has(path)) {
    if (method === "PATCH" && type === FRAGMENT) return request(path, { method, body, headers: { "Content-Type": type, "If-Match": headers["If-Match"] } });
    if (method === "GET") return request(path);
    if (method === "DELETE") {
      call.sessions.delete(path);
      return request(path, { method });
    }
  }
  return { status: 403, tag: null, text: JSON.stringify({ error: "the extension does not ask for that" }) };
}

// Somebody who is not there any more must not keep a call from beginning: the server's own choice is worn then.
async function known(identity) {
  if (identity === null) return null;
  const there = await read("/identities").catch(() => null);
  return there === null || there.identities.includes(identity) ? identity : null;
}

function endSessions(call) {
  for (const path of call.sessions) request(path, { method: "DELETE" });
  call.sessions.clear();
}

function siteOf(sender) {
  return sender.origin && sender.origin !== "null" ? sender.origin : new URL(sender.url ?? "about:blank").origin;
}

async function digest(text) {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- the popup and the options page -----------------------------------------------------------------------------

function servePopup(port) {
  if (!port.sender.url?.startsWith(runtime.getURL(""))) return port.disconnect();
  popups.add(port);
  port.onDisconnect.addListener(() => popups.delete(port));
  port.onMessage.addListener(async (changed) => {
    await keep(changed);
    if ("identity" in changed) await wear(changed.identity);
    await spread();
    inform();
  });
  inform();
}

// The same face in calls that are going on.
async function wear(identity) {
  const sessions = [...calls.values()].flatMap(({ sessions }) => [...sessions]);
  const options = { method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ identity }) };
  try {
    await Promise.all(sessions.map((path) => read(path, options)));
    trouble = "";
  } catch ({ message }) {
    trouble = message;
  }
}

// Tells all frames that the settings changed. What they are told is what any of them may ask for.
async function spread() {
  for (const { id } of await tabs.query({})) tabs.sendMessage(id, { kind: "settings" }).catch(() => {});
}

async function inform() {
  const { on } = await settings();
  const states = [...calls.values()].filter(({ state }) => state !== null).map(({ site, state }) => ({ site, ...state }));
  const bad = on && (theirs || trouble || states.some(({ state }) => state === "lost" || state === "trouble"));
  action.setBadgeText({ text: !on ? "off" : bad ? "!" : states.length > 0 ? "on" : "" });
  action.setBadgeBackgroundColor({ color: bad ? "#b3261e" : on ? "#18864b" : "#586462" });
  for (const popup of popups) popup.postMessage({ calls: states, trouble, theirs });
}
