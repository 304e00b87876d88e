// Takes the place of the page's <video> in a Call: each picture of the result goes to `onpicture(picture, width, height)`.
//
// Chromium hands out the frames themselves. In Firefox a <video> in no document has them, and `draw` is to be called at
// the rate of the background's clock.

export class Screen {
  #onpicture;
  #each = null;
  #video = null;
  #ended = false;

  constructor(onpicture) {
    this.#onpicture = onpicture;
  }

  set srcObject(stream) {
    const [track] = stream.getVideoTracks();
    if (typeof MediaStreamTrackProcessor === "function") this.#read(track);
    else this.#play(stream);
  }

  requestVideoFrameCallback(each) {
    this.#each = each;
  }

  end() {
    this.#ended = true;
    if (this.#video) this.#video.srcObject = null;
  }

  get isDrawn() {
    return this.#video !== null;
  }

  draw() {
    const video = this.#video;
    if (!this.#ended && video?.videoWidth) this.#onpicture(video, video.videoWidth, video.videoHeight);
  }

  async #read(track) {
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      try {
        if (!this.#ended) this.#onpicture(frame, frame.displayWidth, frame.displayHeight);
        this.#note(frame.metadata?.().rtpTimestamp, performance.now());
      } finally {
        frame.close();
      }
      if (this.#ended) return reader.cancel();
    }
  }

  #play(stream) {
    const video = (this.#video = document.createElementNS("http://www.w3.org/1999/xhtml", "video"));
    Object.assign(video, { muted: true, playsInline: true, srcObject: stream });
    video.play().catch(() => {}); // ended before it began
    const each = (_now, { rtpTimestamp, expectedDisplayTime }) => {
      this.#note(rtpTimestamp, expectedDisplayTime);
      if (!this.#ended) video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback?.(each);
  }

  #note(rtpTimestamp, expectedDisplayTime) {
    const each = this.#each;
    this.#each = null;
    each?.(expectedDisplayTime, { rtpTimestamp, expectedDisplayTime });
  }
}
