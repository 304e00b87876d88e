// In the extension's own world of each frame: answers what the page's world asks.

import { offerChannel } from "./channel.js";
import { Hub } from "./hub.js";
import { Link } from "./link.js";

if (globalThis.navigator?.mediaDevices) begin();

function begin() {
  const link = new Link();
  const hub = new Hub(link, (said) => tell(said));
  let shown = "";

  const answers = {
    async camera() {
      const camera = await link.camera();
      shown = key(camera);
      return { said: { ...camera, open: hub.isOpen, capabilities: hub.capabilities } };
    },
    open: (wanted) => hub.open(wanted),
    apply: ({ track, video }) => hub.apply(track, video),
    clone: ({ track }) => hub.clone(track),
    stop: ({ track }) => hub.stop(track),
    theirs: () => link.tell({ kind: "theirs" }),
  };
  const tell = offerChannel((what, said) => answers[what](said));

  link.onsettings = (camera) => {
    if (!camera.on) hub.end();
    if (shown === "" || shown === key(camera)) return; // a page that never asked needs not know
    shown = key(camera);
    tell({ kind: "devices" });
  };
  globalThis.addEventListener("pagehide", () => hub.end());
}

function key({ on, hide }) {
  return `${on} ${on && hide}`;
}
