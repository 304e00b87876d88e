// In the extension's own world of each frame: answers what the page's world asks.

import { offerChannel } from "./channel.js";
import { Hub } from "./hub.js";
import { Link } from "./link.js";
import { Voices } from "./voices.js";

if (globalThis.navigator?.mediaDevices) begin();

function begin() {
  const link = new Link();
  const voices = new Voices((said) => tell(said));
  const hub = new Hub(link, (said) => tell(said), voices);
  const whose = ({ track }) => (voices.has(track) ? voices : hub);
  let shown = "";

  const answers = {
    async camera() {
      const camera = await link.camera();
      shown = key(camera);
      voices.allow(camera.on && camera.sound);
      return { said: { ...camera, open: hub.isOpen, capabilities: hub.capabilities } };
    },
    open: (wanted) => (wanted.video ? hub : voices).open(wanted),
    apply: ({ track, wanted }) => whose({ track }).apply(track, wanted),
    clone: ({ track }) => whose({ track }).clone(track),
    stop: ({ track }) => whose({ track }).stop(track),
    theirs: () => link.tell({ kind: "theirs" }),
  };
  const tell = offerChannel((what, said) => answers[what](said));

  link.onsettings = (camera) => {
    if (!camera.on) hub.end();
    voices.allow(camera.on && camera.sound);
    if (shown === "" || shown === key(camera)) return; // a page that never asked needs not know
    shown = key(camera);
    tell({ kind: "devices" });
  };
  globalThis.addEventListener("pagehide", () => {
    hub.end();
    voices.end();
  });
}

function key({ on, hide }) {
  return `${on} ${on && hide}`;
}
