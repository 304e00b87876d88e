"""A WHEP player and a WHIP sender of GStreamer's own parts (webrtcbin, libnice): ADDRESS SECONDS VP8|H264.

The address says which: /whep/ or /whip/. Prints what came in, as JSON; a sender, that it has sent.

Run by the system's Python, which has GStreamer's bindings (Debian: python3-gi gir1.2-gst-plugins-bad-1.0
gstreamer1.0-plugins-{base,good,bad} gstreamer1.0-nice). It imports nothing of this project.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any
from urllib.request import Request, urlopen

gi: Any = importlib.import_module("gi")
for name, version in (("Gst", "1.0"), ("GstWebRTC", "1.0"), ("GstSdp", "1.0")):
    gi.require_version(name, version)
GLib, Gst, GstSdp, GstWebRTC = (
    importlib.import_module(f"gi.repository.{name}") for name in ("GLib", "Gst", "GstSdp", "GstWebRTC")
)


VIDEO = "application/x-rtp,media=video,payload=96,clock-rate=90000,encoding-name="
CAPS = {
    "VP8": VIDEO + "VP8",
    "H264": VIDEO + "H264,packetization-mode=(string)1,profile-level-id=(string)42e01f",
}
DECODERS = {"VP8": "rtpvp8depay ! vp8dec", "H264": "rtph264depay ! avdec_h264"}


CAMERA = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=480,framerate=30/1 ! videoconvert ! "
ENCODERS = {
    "VP8": "vp8enc deadline=1 cpu-used=8 target-bitrate=1500000 ! rtpvp8pay pt=96 ! " + VIDEO + "VP8",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=1500 key-int-max=60 ! "
    "video/x-h264,profile=constrained-baseline ! rtph264pay pt=96 config-interval=-1 ! " + VIDEO + "H264",
}
SENDER = (
    "webrtcbin name=webrtc bundle-policy=max-bundle {camera}{encoder} ! webrtc. audiotestsrc is-live=true ! opusenc ! "
    "rtpopuspay pt=111 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! webrtc."
)


class Peer:
    """Offers to receive a picture and a sound, and counts what comes out of the decoders; or offers to send them."""

    def __init__(self, address: str, codec: str) -> None:
        self.address = address
        self.codec = codec
        self.session = ""
        self.first_s: float | None = None
        self.pictures = self.sounds = 0
        self.size = ""
        self.reply: Any = None
        self.offer: Any = None
        self.since_s = time.monotonic()
        if "/whip/" in address:
            self.pipeline = Gst.parse_launch(SENDER.format(camera=CAMERA, encoder=ENCODERS[codec]))
            self.webrtc = self.pipeline.get_by_name("webrtc")
            self.webrtc.connect("on-negotiation-needed", self._negotiate)
        else:
            self.pipeline = Gst.Pipeline.new("player")
            self.webrtc = Gst.ElementFactory.make("webrtcbin", "webrtc")
            self._receive(codec)
        self.webrtc.connect("notify::ice-gathering-state", self._gathered)

    def _receive(self, codec: str) -> None:
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        for caps in (
            CAPS[codec],
            "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2",
        ):
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
        self.webrtc.connect("pad-added", self._decode)

    def start(self) -> None:
        self.pipeline.set_state(Gst.State.PLAYING)
        if "/whep/" in self.address:
            self._negotiate()

    def stop(self) -> None:
        self.pipeline.set_state(Gst.State.NULL)
        if self.session:
            urlopen(Request(self.session, method="DELETE"), timeout=5).close()

    def _negotiate(self, *_: Any) -> None:
        self.webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self._offered, None))

    def _offered(self, promise: Any, _: Any) -> None:
        self.reply = promise.get_reply()  # owns the offer
        self.offer = self.reply.get_value("offer")
        self.webrtc.emit("set-local-description", self.offer, Gst.Promise.new())

    def _gathered(self, *_: Any) -> None:
        if self.webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self._post)

    def _post(self) -> bool:
        offer = self.webrtc.get_property("local-description").sdp.as_text()
        request = Request(self.address, offer.encode(), {"Content-Type": "application/sdp"}, method="POST")
        with urlopen(request, timeout=10) as response:
            origin = "/".join(self.address.split("/")[:3])
            self.session = origin + response.headers["Location"]
            text = response.read().decode()
        _, message = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.webrtc.emit("set-remote-description", answer, Gst.Promise.new())
        return False

    def _decode(self, _: Any, pad: Any) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        video = "video" in pad.get_current_caps().to_string()
        chain = DECODERS[self.codec] if video else "rtpopusdepay ! opusdec"
        part = Gst.parse_bin_from_description(
            f"queue ! {chain} ! fakesink name=end signal-handoffs=true sync=false", True
        )
        part.get_by_name("end").connect("handoff", self._picture if video else self._sound)
        self.pipeline.add(part)
        part.sync_state_with_parent()
        pad.link(part.get_static_pad("sink"))

    def _picture(self, _: Any, __: Any, pad: Any) -> None:
        if self.first_s is None:
            self.first_s = time.monotonic() - self.since_s
        self.pictures += 1
        structure = pad.get_current_caps().get_structure(0)
        self.size = f"{structure.get_int('width')[1]}x{structure.get_int('height')[1]}"

    def _sound(self, *_: Any) -> None:
        self.sounds += 1


def main(address: str, seconds: float, codec: str) -> None:
    Gst.init(None)
    player = Peer(address, codec)
    player.start()
    loop = GLib.MainLoop()
    GLib.timeout_add(int(seconds * 1_000), loop.quit)
    loop.run()
    player.stop()
    sys.stdout.write(
        json.dumps(
            {
                "version": Gst.version_string(),
                "first_s": player.first_s,
                "pictures": player.pictures,
                "sounds": player.sounds,
                "size": player.size,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
