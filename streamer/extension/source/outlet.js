// One track that a page got. It lasts as long as the page wants it, whatever happens to the call to the server: pictures
// are put into it, from the call or the card. Nothing else can be put into it; the camera is not known here.
//
// Chromium has a generator of tracks, which also works while the tab is hidden; Firefox has a canvas.

import { drawCard } from "./card.js";

export function newOutlet(width, height) {
  return new (typeof MediaStreamTrackGenerator === "function" ? Generated : Drawn)(width, height);
}

class Outlet {
  constructor(width, height, canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.atMost(Infinity);
    this.resize(width, height);
  }

  resize(width, height) {
    Object.assign(this.canvas, { width, height });
  }

  // Pictures a second, where the page wants fewer than come.
  atMost(frameRate) {
    this.gapMs = 750 / frameRate; // they do not come evenly
    this.shownMs = -Infinity;
  }

  isDue(nowMs) {
    if (nowMs - this.shownMs < this.gapMs) return false;
    this.shownMs = nowMs;
    return true;
  }

  // The whole canvas is covered; what has another shape is cut at its sides.
  draw(picture, width, height) {
    const { canvas } = this;
    const scale = Math.max(canvas.width / width, canvas.height / height);
    const [wide, high] = [canvas.width / scale, canvas.height / scale];
    const [left, top] = [(width - wide) / 2, (height - high) / 2];
    this.context.drawImage(picture, left, top, wide, high, 0, 0, canvas.width, canvas.height);
  }

  card() {
    drawCard(this.context, this.canvas.width, this.canvas.height);
  }
}

class Generated extends Outlet {
  #generator;
  #writer;
  #stamp = 0;

  constructor(width, height) {
    super(width, height, new OffscreenCanvas(width, height));
    const generator = (this.#generator = new MediaStreamTrackGenerator({ kind: "video" }));
    this.track = generator.clone(); // a plain track: a page cannot write into it
    this.#writer = generator.writable.getWriter();
    this.#writer.closed.catch(() => {}); // then it has ended
    this.card();
  }

  end() {
    this.track.stop();
    this.#generator.stop();
  }

  show(picture, width, height) {
    if (width === this.canvas.width && height === this.canvas.height) return this.#put(picture);
    this.draw(picture, width, height);
    this.#put(this.canvas);
  }

  card() {
    super.card();
    this.#put(this.canvas);
  }

  // Stamps only grow: a call after another begins anew, and encoders drop what seems to be older.
  #put(source) {
    if (this.#writer.desiredSize <= 0) return; // nobody takes them: the next one will be newer
    this.#stamp = Math.max(Math.round(performance.now() * 1_000), this.#stamp + 1);
    const frame = new VideoFrame(source, { timestamp: this.#stamp });
    this.#writer.write(frame).catch(() => frame.close());
  }
}

class Drawn extends Outlet {
  constructor(width, height) {
    super(width, height, document.createElementNS("http://www.w3.org/1999/xhtml", "canvas"));
    this.card();
    [this.track] = this.canvas.captureStream().getVideoTracks();
  }

  show(picture, width, height) {
    this.draw(picture, width, height);
  }

  end() {
    this.track.stop();
  }
}
