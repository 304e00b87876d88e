// A sender (WHIP, with trickle) and a player (WHEP) as any page would write them. Knows nothing of this server.
window.interop = (() => {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const state = { connection: null, session: null, tag: null, links: null, statuses: [], video: null };

  function begin(options) {
    const configuration = { iceServers: options.iceServers ?? [], bundlePolicy: "max-bundle" };
    if (options.relayOnly) configuration.iceTransportPolicy = "relay";
    state.connection = new RTCPeerConnection(configuration);
    return state.connection;
  }

  async function post(path, connection, options) {
    const headers = { "Content-Type": "application/sdp", ...(options.token && { Authorization: `Bearer ${options.token}` }) };
    const waiting = [];
    connection.onicecandidate = ({ candidate }) => waiting.push(candidate);
    await connection.setLocalDescription(await connection.createOffer());
    if (!options.trickle) while (connection.iceGatheringState !== "complete") await wait(20);
    const response = await fetch(path, { method: "POST", headers, body: connection.localDescription.sdp });
    state.statuses.push(response.status);
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    state.session = new URL(response.headers.get("Location"), response.url).toString();
    state.tag = response.headers.get("ETag");
    state.links = response.headers.get("Link");
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
    if (options.trickle) {
      const send = (candidate) => patch(fragment(connection, candidate ? [candidate] : []), state.tag);
      connection.onicecandidate = ({ candidate }) => send(candidate);
      for (const candidate of waiting) await send(candidate);
    }
    return response.status;
  }

  function fragment(connection, candidates) {
    const sdp = connection.localDescription.sdp;
    const first = (pattern) => sdp.match(pattern)[0];
    const lines = [first(/a=ice-ufrag:.*/), first(/a=ice-pwd:.*/), first(/m=.*/), first(/a=mid:.*/)];
    for (const { candidate } of candidates) if (candidate) lines.push(`a=${candidate}`);
    if (candidates.length === 0) lines.push("a=end-of-candidates");
    return lines.join("\r\n") + "\r\n";
  }

  async function patch(body, tag) {
    const headers = { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag };
    const response = await fetch(state.session, { method: "PATCH", headers, body });
    state.statuses.push(response.status);
    return response;
  }

  return {
    state,
    async send(path, options = {}) {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: true });
      const connection = begin(options);
      for (const track of stream.getTracks()) connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      return post(path, connection, options);
    },
    async watch(path, options = {}) {
      const connection = begin(options);
      const result = new MediaStream();
      connection.ontrack = ({ track }) => result.addTrack(track);
      for (const kind of ["video", "audio"]) connection.addTransceiver(kind, { direction: "recvonly" });
      state.video = document.body.appendChild(Object.assign(document.createElement("video"), { muted: true, autoplay: true }));
      state.video.srcObject = result;
      return post(path, connection, options);
    },
    // A new ICE session beneath the same connection, as RFC 9725 section 4.3.3 has it.
    async restart() {
      const connection = state.connection;
      const before = connection.remoteDescription.sdp;
      connection.onicecandidate = null;
      await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
      const found = () => connection.iceGatheringState === "complete" && /a=candidate:/.test(connection.localDescription.sdp);
      while (!found()) await wait(20);
      const candidates = connection.localDescription.sdp.match(/a=candidate:.*/g).map((line) => ({ candidate: line.slice(2).trim() }));
      const response = await patch(fragment(connection, [...new Map(candidates.map((c) => [c.candidate, c])).values()]), "*");
      const body = await response.text();
      if (response.status !== 200) return `${response.status}: ${body}`;
      state.tag = response.headers.get("ETag");
      const ours = (name) => body.match(new RegExp(`a=ice-${name}:.*`))[0].trim();
      const lines = before.split("\r\n").filter((line) => !/^a=(candidate|end-of-candidates)/.test(line));
      const sdp = lines
        .map((line) => (line.startsWith("a=ice-ufrag:") ? ours("ufrag") : line.startsWith("a=ice-pwd:") ? ours("pwd") : line))
        .join("\r\n");
      const added = body.match(/a=candidate:.*/g).map((line) => line.trim()).join("\r\n");
      await connection.setRemoteDescription({ type: "answer", sdp: sdp.replace(/(a=mid:.*\r\n)/, `$1${added}\r\n`) });
      return "200";
    },
    async end() {
      const response = await fetch(state.session, { method: "DELETE" });
      state.connection.close();
      return response.status;
    },
    // What the video shows: pictures so far, and the picture's size.
    shown(video = state.video ?? document.getElementById("result") ?? document.querySelector("video")) {
      const quality = video.getVideoPlaybackQuality?.();
      const frames = quality?.totalVideoFrames || video.mozPaintedFrames || 0;
      return { frames, width: video.videoWidth, height: video.videoHeight };
    },
    async pair() {
      const report = await state.connection.getStats();
      const pairs = [...report.values()].filter((one) => one.type === "candidate-pair" && one.state === "succeeded" && one.nominated);
      const local = pairs.map((one) => report.get(one.localCandidateId)?.candidateType);
      return { state: state.connection.connectionState, local, statuses: state.statuses, links: state.links };
    },
  };
})();
