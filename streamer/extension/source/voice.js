// One microphone that a page got: the real one, a delay, and the track that the page has.

import { MOST_MS } from "./pace.js";

export class Voice {
  #context;
  #source;
  #delay;

  constructor(context, real) {
    this.real = real;
    this.#context = context;
    this.#source = context.createMediaStreamSource(new MediaStream([real]));
    this.#delay = context.createDelay(MOST_MS / 1_000);
    const out = context.createMediaStreamDestination();
    out.channelCount = real.getSettings().channelCount ?? 1;
    this.#source.connect(this.#delay).connect(out);
    [this.track] = out.stream.getAudioTracks();
  }

  // Along the line of the pace.
  follow(pace) {
    const { delayTime } = this.#delay;
    const nowS = this.#context.currentTime;
    const { ms, atS } = pace.goal;
    delayTime.cancelScheduledValues(nowS);
    delayTime.setValueAtTime(pace.at(nowS) / 1_000, nowS);
    if (atS > nowS) delayTime.linearRampToValueAtTime(ms / 1_000, atS);
  }

  end() {
    this.real.stop();
    this.track.stop();
    this.#source.disconnect();
    this.#delay.disconnect();
  }
}
