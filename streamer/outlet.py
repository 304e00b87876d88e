"""The way out of a connection: one place where a track that is shown gets its sender."""

from __future__ import annotations

from aiortc import RTCPeerConnection

from streamer.tracks import SwappedVideo
from streamer.transport.sender import PictureSender


def add_video(connection: RTCPeerConnection, track: SwappedVideo, send_only: bool = False) -> PictureSender:
    """Sends the track over the connection. send_only: on a line of its own, for a viewer that sends nothing back."""
    sender = connection.addTransceiver(track, direction="sendonly").sender if send_only else connection.addTrack(track)
    assert isinstance(sender, PictureSender), "streamer.transport.pin.install() comes before any connection"
    return sender
