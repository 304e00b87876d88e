// Two tabs in a call: what goes between them travels over a BroadcastChannel. The page that calls sends, the other looks.

const wire = new BroadcastChannel("wire");
let connection = null;

function connect(send) {
  connection?.close();
  connection = new RTCPeerConnection();
  connection.onicecandidate = ({ candidate }) => candidate && wire.postMessage({ candidate: candidate.toJSON(), by: send });
  connection.ontrack = ({ track }) => {
    const video = document.getElementById(track.kind === "video" ? "other" : "other-sound");
    video.srcObject = new MediaStream([track]);
    video.play();
  };
  return connection;
}

async function call(stream) {
  const peer = connect(true);
  for (const track of stream.getTracks()) peer.addTrack(track, stream);
  await peer.setLocalDescription(await peer.createOffer());
  wire.postMessage({ offer: peer.localDescription.toJSON() });
  return peer;
}

wire.onmessage = async ({ data: { offer, answer, candidate } }) => {
  if (offer) {
    const peer = connect(false);
    await peer.setRemoteDescription(offer);
    await peer.setLocalDescription(await peer.createAnswer());
    wire.postMessage({ answer: peer.localDescription.toJSON() });
  } else if (answer) await connection.setRemoteDescription(answer);
  else if (candidate) await connection?.addIceCandidate(candidate);
};
