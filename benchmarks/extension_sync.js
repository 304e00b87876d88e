// When flashes and beeps come, on the page's clock. Put into two worlds of one page: into the extension's, where the
// real camera and microphone are, and into the page's own, for what it is given.

globalThis.sync = { flashes: [], beeps: [], stream: null };

async function frames(track, into) {
  const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
  const context = new OffscreenCanvas(16, 2).getContext("2d", { willReadFrequently: true });
  for (let bright = true; ; ) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    const atMs = performance.now();
    const { displayWidth: width, displayHeight: height } = frame;
    context.drawImage(frame, 0, height * 0.9, width, height * 0.08, 0, 0, 16, 2);
    frame.close();
    const green = context.getImageData(0, 0, 16, 2).data.filter((_, at) => at % 4 === 1);
    const is = green.reduce((sum, one) => sum + one, 0) / green.length > 110;
    if (is && !bright) into.push(atMs);
    bright = is;
  }
}

async function sounds(track, into) {
  const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
  const loud = (one) => Math.abs(one) > 0.05;
  for (let quiet = 0; ; ) {
    const { value: data, done } = await reader.read();
    if (done) return;
    const atMs = performance.now();
    const { sampleRate } = data;
    const samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    data.close();
    const [first, last] = [samples.findIndex(loud), samples.findLastIndex(loud)];
    if (first >= 0 && quiet + first > sampleRate / 5) into.push(atMs - (1_000 * (samples.length - first)) / sampleRate);
    quiet = last >= 0 ? samples.length - 1 - last : quiet + samples.length;
  }
}

function note(stream) {
  sync.stream = stream;
  for (const track of stream.getVideoTracks()) frames(track.clone(), sync.flashes);
  for (const track of stream.getAudioTracks()) sounds(track.clone(), sync.beeps);
}

// In the extension's world: whatever it opens is listened to as well.
function noteAll() {
  const { getUserMedia } = MediaDevices.prototype;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    const stream = await getUserMedia.call(this, constraints);
    note(new MediaStream(stream.getTracks()));
    return stream;
  };
}

// In the page's own.
async function ask(constraints) {
  note(await navigator.mediaDevices.getUserMedia(constraints));
  const [sound, picture] = [sync.stream.getAudioTracks()[0], sync.stream.getVideoTracks()[0]];
  return { clicked: navigator.userActivation.hasBeenActive, camera: picture.label, microphone: sound.label, settings: sound.getSettings() };
}
