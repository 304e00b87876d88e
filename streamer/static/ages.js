// How old a picture is when this screen shows it.
//
// The server says when each picture that it sent had come in, on its own clock. This page notes when each picture was
// shown. A question and answer over the data channel tells how the two clocks stand to each other. What is left is the
// way from the camera to the server: half of the round trip, and what the browser's encoder takes on average.

const WINDOW_MS = 10_000;
const MOST_NOTES = 600;
const MOST_ANSWERS = 12;
const WRAP = 2 ** 32;

export class AgeMeter {
  #answers = []; // {roundTripMs, offsetMs}: server clock minus page clock
  #shown = new Map(); // RTP timestamp -> when shown, page clock
  #cameIn = new Map(); // RTP timestamp -> when it came in, server clock
  #ages = []; // [when, age]
  encoderMs = 0;

  answered(askedMs, serverMs, nowMs) {
    const roundTripMs = nowMs - askedMs;
    this.#answers.push({ roundTripMs, offsetMs: serverMs - askedMs - roundTripMs / 2 });
    if (this.#answers.length > MOST_ANSWERS) this.#answers.shift();
  }

  shown(rtpTimestamp, atMs) {
    if (rtpTimestamp === undefined || this.#shown.has(rtpTimestamp)) return;
    note(this.#shown, rtpTimestamp, atMs);
    this.#match(rtpTimestamp);
  }

  cameIn(pictures, rtpOrigin) {
    if (rtpOrigin === null) return;
    for (const [pts, serverMs] of pictures) {
      const timestamp = (((pts + rtpOrigin) % WRAP) + WRAP) % WRAP;
      note(this.#cameIn, timestamp, serverMs);
      this.#match(timestamp);
    }
  }

  // The clock answer with the shortest round trip is the one that erred least.
  #clock() {
    return this.#answers.reduce((best, one) => (best && best.roundTripMs <= one.roundTripMs ? best : one), null);
  }

  #match(timestamp) {
    const clock = this.#clock();
    if (!clock || !this.#shown.has(timestamp) || !this.#cameIn.has(timestamp)) return;
    const shownMs = this.#shown.get(timestamp);
    const serverToScreenMs = shownMs + clock.offsetMs - this.#cameIn.get(timestamp);
    this.#ages.push([shownMs, serverToScreenMs + clock.roundTripMs / 2 + this.encoderMs]);
    this.#cameIn.delete(timestamp);
  }

  // {p50, p95, count} of the last ten seconds, or null before there is anything.
  quantiles(nowMs) {
    this.#ages = this.#ages.filter(([atMs]) => atMs >= nowMs - WINDOW_MS).slice(-MOST_NOTES);
    const sorted = this.#ages.map(([, age]) => age).sort((a, b) => a - b);
    if (sorted.length < 10) return null;
    const rank = (share) => sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)];
    return { p50: rank(0.5), p95: rank(0.95), count: sorted.length };
  }
}

function note(map, key, value) {
  map.set(key, value);
  if (map.size > MOST_NOTES) map.delete(map.keys().next().value);
}
