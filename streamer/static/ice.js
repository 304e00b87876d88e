// How one connection finds its way: ICE servers, candidates as they are found, and a new way when the old one is lost.

const FRAGMENT = "application/trickle-ice-sdpfrag";
const TOGETHER_MS = 40; // candidates that come within this are sent at once
const RESTART_AFTER_MS = 2_000; // a connection that is silent for so long tries a new way; short silences mend themselves
const RESTARTS_EVERY_MS = 8_000;

// How the page asks the server that it came from.
export function here(path, options = {}) {
  return fetch(path, { credentials: "same-origin", ...options });
}

// The servers that the page's own server names; none where it names none, or cannot be asked.
export async function iceServers(reach = here) {
  try {
    const response = await reach("/ice");
    return response.ok ? ((await response.json()).iceServers ?? []) : [];
  } catch {
    return [];
  }
}

export class Ice {
  #connection;
  #reach;
  #path = null;
  #tag = null;
  #waiting = [];
  #timer;
  #restartTimer;
  #restartedMs = -Infinity;

  // Make it before the connection has a local description: candidates come from then on.
  constructor(connection, reach = here) {
    this.#connection = connection;
    this.#reach = reach;
    connection.addEventListener("icecandidate", ({ candidate }) => {
      this.#waiting.push(candidate?.candidate ? `a=${candidate.candidate}` : "a=end-of-candidates");
      this.#soon();
    });
    connection.addEventListener("connectionstatechange", () => {
      clearTimeout(this.#restartTimer);
      if (connection.connectionState !== "disconnected") return;
      const waitMs = Math.max(RESTART_AFTER_MS, this.#restartedMs + RESTARTS_EVERY_MS - performance.now());
      this.#restartTimer = setTimeout(() => this.restart().catch(() => {}), waitMs); // then the call is lost, and says so
    });
  }

  // The call is there: what was found so far, and all that comes, goes to its address.
  begin(path, tag) {
    this.#path = path;
    this.#tag = tag;
    this.#soon();
  }

  end() {
    clearTimeout(this.#timer);
    clearTimeout(this.#restartTimer);
    this.#path = null;
  }

  // A new ICE session beneath the same connection (RFC 9725, 4.3.3): for a computer that has changed networks.
  async restart() {
    const connection = this.#connection;
    if (this.#path === null || connection.signalingState !== "stable") return false;
    this.#restartedMs = performance.now();
    clearTimeout(this.#timer);
    this.#waiting = [];
    const path = this.#path;
    this.#path = null; // candidates of the new session wait until the server knows of it
    const before = connection.remoteDescription.sdp;
    await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
    const response = await send(this.#reach, path, "*", credentials(connection)).catch(() => null);
    this.#path = path;
    if (response?.status !== 200) {
      await connection.setLocalDescription({ type: "rollback" });
      return false;
    }
    this.#tag = response.headers.get("ETag");
    await connection.setRemoteDescription({ type: "answer", sdp: renewed(before, await response.text()) });
    this.#soon();
    return true;
  }

  #soon() {
    clearTimeout(this.#timer);
    if (this.#path !== null) this.#timer = setTimeout(() => this.#flush(), TOGETHER_MS);
  }

  async #flush() {
    const lines = this.#waiting.splice(0);
    if (lines.length === 0 || this.#path === null) return;
    await send(this.#reach, this.#path, this.#tag, [...credentials(this.#connection), ...lines]).catch(() => {}); // the others may do
  }
}

function send(reach, path, tag, lines) {
  const headers = { "Content-Type": FRAGMENT, "If-Match": tag };
  return reach(path, { method: "PATCH", headers, body: lines.map((line) => `${line}\r\n`).join("") });
}

// What says to which ICE session candidates belong: the first section's, which all media share.
function credentials(connection) {
  const sdp = connection.localDescription.sdp;
  return [/^m=.*$/m, /^a=mid:.*$/m, /^a=ice-ufrag:.*$/m, /^a=ice-pwd:.*$/m].map((pattern) => sdp.match(pattern)[0].trim());
}

// The server's description with the credentials and candidates of its new ICE session.
function renewed(sdp, fragment) {
  const line = (name) => fragment.match(new RegExp(`^a=ice-${name}:.*$`, "m"))[0].trim();
  const candidates = (fragment.match(/^a=candidate:.*$/gm) ?? []).map((one) => `${one.trim()}\r\n`).join("");
  return sdp
    .replace(/^a=(candidate:.*|end-of-candidates)\r\n/gm, "")
    .replace(/^a=ice-ufrag:.*$/gm, line("ufrag"))
    .replace(/^a=ice-pwd:.*$/gm, line("pwd"))
    .replace(/^(a=mid:.*\r\n)/m, `$1${candidates}a=end-of-candidates\r\n`);
}
