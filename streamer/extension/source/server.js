// Requests to the configured server, with its token. In the background and the extension's own pages only.

import { addressOf, settings } from "./settings.js";

const PATIENCE_MS = 12_000;
const NO_ADDRESS = "The server cannot be reached. Is it running? (vividstream extension printed the command that starts it.)";

// Returns {status, tag, text, type}; status 0 where the server does not answer, `text` says it in words.
export async function request(path, { method = "GET", headers = {}, body } = {}, as = "text") {
  const { server, token } = await settings();
  let response;
  try {
    response = await fetch(new URL(path, addressOf(server)), {
      method,
      body,
      headers: { ...headers, ...(token && { Authorization: `Bearer ${token}` }) },
      credentials: "omit",
      redirect: "error",
      cache: "no-store",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    return { status: 0, tag: null, text: error instanceof TypeError || error.name === "TimeoutError" ? NO_ADDRESS : error.message };
  }
  const { status } = response;
  if (!response.ok) return { status, tag: null, text: JSON.stringify({ error: await inWords(response, token) }) };
  return { status, tag: response.headers.get("ETag"), text: await response[as]() };
}

// The JSON of an answer. Throws an Error with a sentence.
export async function read(path, options) {
  const { status, text } = await request(path, options);
  if (status === 0) throw new Error(text);
  const answer = text === "" ? null : JSON.parse(text);
  if (status >= 400) throw new Error(answer.error);
  return answer;
}

async function inWords(response, token) {
  const { error } = await response.json().catch(() => ({}));
  switch (response.status) {
    case 401:
      return token ? "The server does not take this token. Put the right one into the extension’s options." : "The server wants its token. Put it into the extension’s options.";
    case 403:
      return "The server does not take calls from a browser extension. Start it with the command that vividstream extension printed.";
    case 503:
      return `The server takes no more calls now: ${error ?? "it is full"}.`;
    default:
      return error ? `The server says: ${error}.` : `The server answered ${response.status}.`;
  }
}
