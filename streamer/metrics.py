"""What /metrics says, in the text format that Prometheus reads. Names the calls by number, never by their secret id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamer.loop_lag import LoopLag
from streamer.room import Room
from streamer.stats import STAGES, Histogram
from streamer.tracks import CameraPicture
from streamer.transport import hardening
from streamer.worker import Worker

PREFIX = "vividstream"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Family:
    """One metric with all its samples."""

    name: str
    help_text: str
    kind: str = "gauge"
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)  # suffix, labels, value

    def add(self, value: float | None, *labels: tuple[str, str], suffix: str = "") -> None:
        """One sample; None is left out."""
        if value is not None:
            self.samples.append((suffix, labels, float(value)))

    def add_histogram(self, histogram: Histogram, *labels: tuple[str, str]) -> None:
        """Its samples are milliseconds, the metric's are seconds."""
        counts = histogram.cumulative()
        for bound, count in zip((*histogram.bounds, float("inf")), counts, strict=True):
            edge = "+Inf" if bound == float("inf") else f"{bound / 1e3:g}"
            self.add(count, *labels, ("le", edge), suffix="_bucket")
        self.add(histogram.total / 1e3, *labels, suffix="_sum")
        self.add(counts[-1], *labels, suffix="_count")

    def text(self) -> str:
        full = f"{PREFIX}_{self.name}"
        lines = [f"# HELP {full} {self.help_text}", f"# TYPE {full} {self.kind}"]
        for suffix, labels, value in self.samples:
            inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
            lines.append(f"{full}{suffix}{{{inner}}} {value:g}" if inner else f"{full}{suffix} {value:g}")
        return "\n".join(lines) + "\n"


def metrics_text(
    room: Room, workers: Sequence[Worker[CameraPicture]], lag: LoopLag | None = None, refused: Mapping[str, int] = {}
) -> str:
    """All metrics of the server now. `refused`: requests that the guards turned away, by reason."""
    now_s = time.monotonic()
    calls = {str(peer.number): peer.numbers() for peer in room.peers.values()}
    families = [
        *_of_server(room, workers, lag, refused, now_s),
        *_of_calls(calls),
        *_of_ways(calls),
        *_of_viewers({str(number): viewer.numbers() for number, viewer in enumerate(room.viewers.values(), 1)}),
        _ages(room),
    ]
    return "".join(family.text() for family in families)


def _of_server(
    room: Room, workers: Sequence[Worker[CameraPicture]], lag: LoopLag | None, refused: Mapping[str, int], now_s: float
) -> Iterable[Family]:
    yield _one("calls", "calls going on", len(room.peers))
    yield _one("calls_total", "calls that began since the start", room.begun, "counter")
    yield _one("viewers", "WHEP players going on", len(room.viewers))
    yield _one("ready", "1 when calls can be taken", room.ready.is_set())
    stuck = Family("engine_stuck_seconds", "how long a worker has been at one thing")
    load = Family("load_share", "share of a worker's time that pictures take")
    for number, worker in enumerate(workers, 1):
        stuck.add(worker.busy_s(now_s), ("worker", str(number)))
        load.add(worker.load.share(now_s), ("worker", str(number)))
    yield from (stuck, load)
    turned_away = Family("refused_total", "requests that were turned away, by reason", "counter")
    for why, count in refused.items():
        turned_away.add(count, ("reason", why))
    yield turned_away
    packets = Family("packets_refused_total", "packets from outside that were thrown away, by reason", "counter")
    for why, count in hardening.refused.items():
        packets.add(count, ("reason", why))
    yield packets
    yield _one("tasks", "tasks of the event loop", len(asyncio.all_tasks()))
    if lag is not None:
        family = Family("loop_lag_seconds", "how late the event loop was", "histogram")
        family.add_histogram(lag.all_ms)
        yield family


def _of_calls(calls: Mapping[str, Mapping[str, Any]]) -> Iterable[Family]:
    """What the panel shows too."""
    engine = Family("engine_info", "the engine in use and why it was chosen")
    fps = Family("fps", "pictures a second")
    age = Family("picture_age_ms", "from a picture's first packet in to its last packet out")
    stage_age = Family("stage_age_seconds", "age of the call's pictures when they have passed a stage")
    added = Family("added_ms", "from a picture's last packet in to its last packet out")
    step = Family("step_ms", "time of the engine for one picture")
    rate = Family("bits_per_second", "payload from the camera and to the browser")
    dropped = Family("dropped_total", "pictures and sounds not sent, by reason", "counter")
    shown = Family("shown_total", "pictures sent, by what they show", "counter")
    faults = Family("engine_faults_total", "pictures on which the engine failed", "counter")
    asked = Family("asked_fps", "pictures a second that the camera is asked for")
    scale = Family("asked_scale", "by how much the camera is asked to scale its pictures down")
    messages = Family("messages_refused_total", "messages of the page that were thrown away, by reason", "counter")
    silent = Family("camera_silent", "1 when no picture has come from the camera for seconds")
    for number, numbers in calls.items():
        call = ("call", number)
        engine.add(1, call, ("engine", numbers["engine"]), ("why", numbers["why"]))
        fps.add(numbers["fps_in"], call, ("way", "in"))
        fps.add(numbers["fps_out"], call, ("way", "out"))
        rate.add(numbers["bits_per_s_in"], call, ("way", "in"))
        rate.add(numbers["bits_per_s"], call, ("way", "out"))
        for family, key in ((age, "age_ms"), (added, "added_ms"), (step, "step_ms")):
            for name, quantile in QUANTILES.items():
                family.add(numbers[key][name], call, ("quantile", quantile))
        for stage, ages in numbers["ages_ms"].items():
            for name, quantile in QUANTILES.items():
                if ages[name] is not None:
                    stage_age.add(ages[name] / 1e3, call, ("stage", stage), ("quantile", quantile))
        for family, key, label in ((dropped, "dropped", "reason"), (shown, "shown", "what")):
            for name, count in numbers[key].items():
                family.add(count, call, (label, name))
        for why, count in numbers["messages_refused"].items():
            messages.add(count, call, ("reason", why))
        faults.add(numbers["faults"], call)
        asked.add(numbers["asked"]["fps"], call)
        scale.add(numbers["asked"]["scale"], call)
        silent.add(numbers["silent"] is not None, call)
    return engine, fps, age, added, stage_age, step, rate, dropped, shown, faults, asked, scale, messages, silent


def _of_ways(calls: Mapping[str, Mapping[str, Any]]) -> Iterable[Family]:
    """What transport, decoder and sender have counted."""
    received = Family("received_total", "what the camera's receiver has counted", "counter")
    decoder = Family("decoder_total", "what the decoder has counted", "counter")
    sent = Family("sent_total", "what the sender of pictures has counted", "counter")
    rtt = Family("rtt_seconds", "round trip to the viewer")
    loss = Family("loss_share", "of the packets to the viewer, lately")
    queue = Family("send_queue_seconds", "how long packets wait to be sent")
    target = Family("target_bits_per_second", "that the line to the viewer carries, as reckoned")
    for number, numbers in calls.items():
        call = ("call", number)
        for family, key in ((received, "received"), (decoder, "decoder"), (sent, "sent")):
            for name, count in numbers[key].items():
                family.add(count, call, ("what", name))
        line = numbers["line"]
        if line:
            rtt.add(None if line["rtt_ms"] is None else line["rtt_ms"] / 1e3, call)
            loss.add(line["loss"], call)
            queue.add(line["queue_ms"] / 1e3, call)
            target.add(line["target_bits_per_s"], call)
    return received, decoder, sent, rtt, loss, queue, target


def _of_viewers(viewers: Mapping[str, Mapping[str, Any]]) -> Iterable[Family]:
    fps = Family("viewer_fps", "pictures a second to a viewer")
    age = Family("viewer_picture_age_ms", "age of the pictures that a viewer gets, when they leave")
    for number, numbers in viewers.items():
        fps.add(numbers["fps_out"], ("viewer", number))
        for name, quantile in QUANTILES.items():
            age.add(numbers["age_ms"][name], ("viewer", number), ("quantile", quantile))
    return fps, age


def _ages(room: Room) -> Family:
    """Over all calls since the start, those that ended included."""
    family = Family("picture_age_seconds", "age of pictures when they have passed a stage, of all calls", "histogram")
    for stage in STAGES:
        total = Histogram()
        for journey in (room.past, *(peer.stats.journey for peer in room.peers.values())):
            total.merge(journey.age_ms[stage])
        family.add_histogram(total, ("stage", stage))
    return family


def _one(name: str, help_text: str, value: float, kind: str = "gauge") -> Family:
    family = Family(name, help_text, kind)
    family.add(value)
    return family


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", " ")
