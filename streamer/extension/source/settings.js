// What the extension keeps: only its own pages and its background may read it, no page and no content script.

const { storage } = globalThis.browser ?? globalThis.chrome;
const DEFAULTS = { on: true, hide: false, sound: true, server: "http://127.0.0.1:8080", token: "", identity: null, salt: "" };
const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

// At the first start: what `vividstream extension` was told.
export async function begin() {
  await storage.local.setAccessLevel?.({ accessLevel: "TRUSTED_CONTEXTS" });
  const kept = await storage.local.get();
  if (kept.salt) return;
  const preset = await fetch("preset.json").then((response) => response.json());
  const salt = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await storage.local.set({ ...DEFAULTS, ...preset, ...kept, salt });
}

export async function settings() {
  return { ...DEFAULTS, ...(await storage.local.get()) };
}

export function keep(changed) {
  return storage.local.set(changed);
}

// The server's address as it is used. Throws an Error with a sentence.
export function addressOf(text) {
  let url;
  try {
    url = new URL(text.trim());
  } catch {
    throw new Error("The server’s address begins with https:// or http://, like http://127.0.0.1:8080.");
  }
  const local = LOOPBACK.includes(url.hostname) || url.hostname.endsWith(".localhost");
  if (url.protocol !== "https:" && !(url.protocol === "http:" && local)) {
    throw new Error("Only a server on this machine is reached by http://; any other needs https://, else the token travels in clear.");
  }
  return url;
}

// {address, token} of what somebody pastes: the address that the server prints has the token in it.
export function parted(text, token) {
  const url = addressOf(text);
  return { server: url.origin, token: token.trim() || (url.searchParams.get("token") ?? "") };
}

// What the browser asks the person to let the extension reach. Patterns have no ports.
export function patternOf(server) {
  const { protocol, hostname } = new URL(server);
  return `${protocol}//${hostname}/*`;
}
