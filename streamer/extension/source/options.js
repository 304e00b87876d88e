// Where the server is, and its token.

import { read } from "./server.js";
import { parted, patternOf, settings } from "./settings.js";

const { permissions, runtime } = globalThis.browser ?? globalThis.chrome;
const $ = (id) => document.getElementById(id);
const port = runtime.connect({ name: "popup" });

function say(state, notice = "") {
  $("state").textContent = state;
  $("notice").textContent = notice;
  $("notice").hidden = notice === "";
}

// The browser's question must follow from the click itself, so it comes before anything that waits.
async function save() {
  const where = parted($("server").value, $("token").value);
  if (!(await permissions.request({ origins: [patternOf(where.server)] }))) {
    throw new Error("The browser does not let the extension reach that server.");
  }
  const kept = new Promise((resolve) => port.onMessage.addListener(resolve));
  port.postMessage({ ...where, hide: $("hide").checked, sound: $("sound").checked });
  await kept;
  await fill();
  say("Trying…");
  const { identities } = await read("/identities");
  const { token } = await settings();
  if (!token) throw new Error("The server answers, but calls need a token: start it with the command that vividstream extension printed, and put the address that it then prints here.");
  say(`Saved. The server answers, with ${identities.length} ${identities.length === 1 ? "face" : "faces"}.`);
}

async function fill() {
  const { server, token, hide, sound } = await settings();
  $("server").value = server;
  $("token").value = token;
  $("hide").checked = hide;
  $("sound").checked = sound;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  save().catch(({ message }) => say("", message));
});
fill();
