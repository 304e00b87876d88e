// One call to the server: offer, answer, numbers, end. Knows nothing of the page, nor how the server is reached: `reach`
// has the form of fetch. The browser extension brings its own, since its requests go through its background script.

import { AgeMeter } from "/static/ages.js";
import { Ice, here, iceServers } from "/static/ice.js";

const ASK_EVERY_MS = 1_000;
const SILENT_MS = 6_000; // the server sends numbers once a second
const MOST_BITS_PER_S = 2_500_000;
const MOST_FPS = 30;

export class ServerSays extends Error {
  // elsewhere: the path by which the page gets to a server that has room, where this one is busy
  constructor(message, status, elsewhere = null) {
    super(message);
    this.status = status;
    this.elsewhere = elsewhere;
  }
}

// Asks the server for something. Throws ServerSays with its sentence, or one of our own where it cannot be reached.
export async function ask(path, method = "GET", body = undefined, extra = {}, reach = here) {
  const options = { method, ...extra };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await reach(path, options);
  } catch {
    throw new ServerSays("The server cannot be reached. Is it still running?", 0);
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const elsewhere = /^<(\/\w+)>; rel="alternate"$/.exec(response.headers.get("Link") ?? "")?.[1];
    throw new ServerSays(answer.error ?? `The server answered ${response.status}.`, response.status, elsewhere);
  }
  return answer;
}

export class Call {
  #reach;
  #connection;
  #ice;
  #channel;
  #path = null;
  #ended = false;
  #timer;
  #heardMs = performance.now();
  #before = null;
  #asked = { fps: MOST_FPS, scale: 1 };
  ages = new AgeMeter();
  onnumbers = () => {};
  onlost = () => {};

  constructor(reach = here) {
    this.#reach = reach;
  }

  // Starts the call. `stream` has the camera and perhaps a microphone; the result plays in `video`.
  async start(stream, video, choice) {
    const servers = await iceServers(this.#reach);
    const connection = (this.#connection = new RTCPeerConnection({ iceServers: servers, bundlePolicy: "max-bundle" }));
    const ice = (this.#ice = new Ice(connection, this.#reach));
    const result = new MediaStream();
    for (const track of stream.getTracks()) {
      if (track.kind === "video") track.contentHint = "motion";
      connection.addTransceiver(track, { direction: "sendrecv", streams: [stream] });
    }
    connection.addEventListener("track", ({ track, receiver }) => {
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      result.addTrack(track);
    });
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "failed" || connection.connectionState === "closed") this.#lose();
    });
    this.#openChannel();
    await connection.setLocalDescription(await connection.createOffer());
    const offer = { sdp: connection.localDescription.sdp, choice };
    const answer = await ask("/session", "POST", offer, {}, this.#reach);
    this.#path = `/session/${answer.call}`;
    if (this.#ended) {
      this.#hangUp();
      return answer;
    }
    await connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    ice.begin(this.#path, answer.tag);
    await this.#applyAsk();
    video.srcObject = result;
    this.#watch(video);
    this.#heardMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), ASK_EVERY_MS);
    return answer;
  }

  // Another identity, tone or engine in the middle of the call.
  change(choice) {
    return ask(this.#path, "PATCH", choice, {}, this.#reach);
  }

  // Where nothing comes: whether the server still knows the call. It is lost where not, long before the silence says so.
  async check() {
    try {
      await ask(this.#path, "GET", undefined, {}, this.#reach);
    } catch (error) {
      if (error.status === 0 || error.status === 404) this.#lose();
    }
  }

  // The RTP timestamp of the result's newest picture; undefined before the first.
  get newest() {
    const receiver = this.#connection.getReceivers().find(({ track }) => track.kind === "video");
    return receiver?.getSynchronizationSources()[0]?.rtpTimestamp;
  }

  async replaceCamera(track) {
    const sender = this.#connection.getSenders().find((one) => one.track?.kind === "video");
    track.contentHint = "motion";
    await sender.replaceTrack(track);
  }

  end() {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#timer);
    this.#ice?.end();
    this.#hangUp();
    this.#connection?.close();
  }

  #hangUp() {
    if (!this.#path) return;
    ask(this.#path, "DELETE", undefined, { keepalive: true }, this.#reach).catch(() => {}); // it may be gone already
  }

  #lose() {
    if (this.#ended) return;
    this.end();
    this.onlost();
  }

  #openChannel() {
    const channel = (this.#channel = this.#connection.createDataChannel("numbers"));
    channel.addEventListener("open", () => this.#askClock());
    channel.addEventListener("close", () => this.#lose()); // the first thing that one hears of a server that ends
    channel.addEventListener("message", ({ data }) => {
      const now = performance.now();
      this.#heardMs = now;
      const said = JSON.parse(data);
      if ("pong_ms" in said) {
        this.ages.answered(said.pong_ms, said.server_ms, now);
      } else if ("numbers" in said) {
        this.ages.cameIn(said.pictures, said.rtp_origin);
        this.onnumbers(said.numbers);
      } else if ("ask" in said) {
        this.#asked = said.ask;
        this.#applyAsk().catch(() => {}); // then the server goes on dropping what is too much
      }
    });
  }

  #askClock() {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify({ ping_ms: performance.now() }));
  }

  #watch(video) {
    if (!("requestVideoFrameCallback" in video)) return;
    const each = (_now, picture) => {
      this.ages.shown(picture.rtpTimestamp, picture.expectedDisplayTime);
      if (!this.#ended) video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  }

  async #tick() {
    this.#askClock();
    if (performance.now() - this.#heardMs > SILENT_MS) {
      this.#lose();
      return;
    }
    await this.#measureEncoder();
  }

  async #measureEncoder() {
    const report = await this.#connection.getStats();
    // An extension of Firefox sees the page's objects through a wall, which lets no iterator through.
    const parts = (report.wrappedJSObject ?? report).values();
    for (const part of parts) {
      if (part.type !== "outbound-rtp" || part.kind !== "video") continue;
      const before = this.#before;
      this.#before = part;
      const frames = before ? part.framesEncoded - before.framesEncoded : 0;
      if (frames > 0) this.ages.encoderMs = (1_000 * (part.totalEncodeTime - before.totalEncodeTime)) / frames;
    }
  }

  // What is sent: as much as the server asks for, which is less while it or the line cannot keep up.
  async #applyAsk() {
    const sender = this.#connection.getSenders().find((one) => one.track?.kind === "video");
    const parameters = sender.getParameters();
    for (const encoding of parameters.encodings ?? []) {
      encoding.maxBitrate = MOST_BITS_PER_S;
      encoding.maxFramerate = Math.min(this.#asked.fps, MOST_FPS);
      encoding.scaleResolutionDownBy = Math.max(this.#asked.scale, 1);
    }
    await sender.setParameters(parameters);
  }
}
