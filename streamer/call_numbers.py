"""What one call says of itself: gathered from its receiver, decoder, worker and sender once a second and when asked."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from streamer.decoding.link import DecoderLink
from streamer.quality import Pressure
from streamer.stats import CallStats
from streamer.transport.receiver import PictureReceiver
from streamer.transport.sender import PictureSender
from streamer.transport.types import ReceiveCounters


@dataclass(slots=True)
class Parts:
    """What a call consists of, as far as it is there yet."""

    camera: PictureReceiver | None = None
    decoder: DecoderLink | None = None
    sender: PictureSender | None = None


def way_in(parts: Parts) -> dict[str, object]:
    """What came from the camera, and what became of it before the worker."""
    counted = parts.camera.counters if parts.camera is not None else ReceiveCounters()
    decoder = parts.decoder.counters() if parts.decoder is not None else None
    return {
        "received": asdict(counted),
        "decoder": {} if decoder is None else {**asdict(decoder), "decode_ms": round(decoder.decode_ms)},
    }


def way_out(sender: PictureSender | None) -> dict[str, object]:
    """How pictures leave, and what is known of the line."""
    if sender is None:
        return {"sent": {}, "line": {}}
    numbers = sender.numbers
    line = {
        "target_bits_per_s": numbers.target_bps,
        "encoder_bits_per_s": numbers.encoder_bps,
        "rtt_ms": None if numbers.rtt_s is None else round(numbers.rtt_s * 1e3, 1),
        "loss": round(numbers.loss, 4),
        "queue_ms": round(numbers.queue_ms, 1),
        "encode_ms": round(numbers.encode_ms, 2),
        "encoder": numbers.encoder,
    }
    return {"sent": asdict(sender.counters), "line": line}


def count_drops(stats: CallStats, parts: Parts) -> None:
    """Pictures that came and were not shown, by reason: those that others have counted."""
    if parts.camera is not None:
        received = parts.camera.counters
        stats.dropped["incomplete"] = received.dropped_incomplete
        stats.dropped["undecodable"] = received.dropped_undecodable + received.dropped_full
    if parts.decoder is not None:
        decoder = parts.decoder.counters()
        stats.dropped["decoder_behind"] = decoder.dropped_behind + decoder.dropped_skipped
        stats.dropped["undecodable"] += decoder.dropped_for_key + decoder.refused
        stats.dropped["memory_in_use"] = decoder.dropped_no_slot
    if parts.sender is not None:
        stats.dropped["line_full"] = parts.sender.counters.dropped_late


class Seconds:
    """What changed from one second to the next."""

    def __init__(self) -> None:
        self._at_s = time.monotonic()
        self._before: dict[str, float] = {}

    def step(self, now_s: float, **counters: float) -> dict[str, float]:
        """How much each counter has grown a second since the last step."""
        span_s = max(now_s - self._at_s, 1e-3)
        grown = {name: (value - self._before.get(name, 0.0)) / span_s for name, value in counters.items()}
        self._at_s, self._before = now_s, counters
        return grown


def pressure(parts: Parts, share: float, grown: dict[str, float], pixels: int) -> Pressure:
    """The last second, as the decision about quality wants it."""
    numbers = parts.sender.numbers if parts.sender is not None else None
    return Pressure(
        share=share,
        came=round(grown["pictures_in"]),
        dropped=round(grown["overtaken"]),
        queue_s=0.0 if numbers is None else numbers.queue_ms / 1e3,
        bits_per_s=0 if numbers is None else numbers.target_bps,
        pixels=pixels,
    )
