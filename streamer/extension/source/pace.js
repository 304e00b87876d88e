// For how long the voice is held back: it follows the age of the pictures so slowly that nobody hears it.

export const MOST_MS = 1_000;
const SLEW_MS_PER_S = 50; // as the server's own sound
const LEAST_MS = 5; // what is less is not worth a change

// A straight line from one delay to another. Time is that of the sound, in seconds.
export class Pace {
  #from;
  #to;

  constructor(startMs = 0) {
    this.#from = this.#to = { ms: bounded(startMs), atS: 0 };
  }

  // The delay at that moment.
  at(nowS) {
    const [from, to] = [this.#from, this.#to];
    if (nowS >= to.atS) return to.ms;
    return from.ms + ((to.ms - from.ms) * Math.max(nowS - from.atS, 0)) / (to.atS - from.atS);
  }

  // What it goes to, and when it is there.
  get goal() {
    return this.#to;
  }

  // Another goal from now on. Returns whether it is worth a change.
  follow(wantedMs, nowS) {
    const ms = bounded(wantedMs);
    const change = Math.abs(ms - this.#to.ms);
    if (change < LEAST_MS && !(ms === 0 && change > 0)) return false;
    this.#from = { ms: this.at(nowS), atS: nowS };
    this.#to = { ms, atS: nowS + Math.abs(ms - this.#from.ms) / SLEW_MS_PER_S };
    return true;
  }
}

function bounded(ms) {
  return Math.min(Math.max(ms, 0), MOST_MS);
}
