"""What /metrics says, in the text format that Prometheus reads. Names the calls by number, never by their secret id."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from streamer.room import Room
from streamer.tracks import CameraPicture
from streamer.worker import Worker

PREFIX = "vividstream"


def metrics_text(room: Room, workers: Sequence[Worker[CameraPicture]]) -> str:
    """All metrics of the server now."""
    calls = {f'call="{number}"': peer.numbers() for number, peer in enumerate(room.peers.values(), 1)}
    now_s = time.monotonic()
    numbered = {f'worker="{number}"': worker for number, worker in enumerate(workers, 1)}
    stuck = {label: worker.busy_s(now_s) for label, worker in numbered.items()}
    load = {label: worker.load.share(now_s) for label, worker in numbered.items()}
    ages, steps = _quantiles(calls, "age_ms"), _quantiles(calls, "step_ms")
    dropped = _counts(calls, "dropped", "reason")
    parts = [
        _metric("calls", "calls going on", {"": len(calls)}),
        _metric("ready", "1 when calls can be taken", {"": room.ready.is_set()}),
        _metric("engine_stuck_seconds", "how long a worker has been at one thing", stuck),
        _metric("load_share", "share of a worker's time that pictures take", load),
        _metric("engine_info", "the engine in use and why it was chosen", _engines(calls)),
        _metric("fps", "pictures a second", _each(calls, {"in": "fps_in", "out": "fps_out"}, "way")),
        _metric("picture_age_ms", "from a picture's first packet in to its last packet out", ages),
        _metric("step_ms", "time of the engine for one picture", steps),
        _metric("bits_per_second", "sent to the browser", _each(calls, {"out": "bits_per_s"}, "way")),
        _metric("dropped_total", "pictures and sounds not sent, by reason", dropped, "counter"),
        _metric("shown_total", "pictures sent, by what they show", _counts(calls, "shown", "what"), "counter"),
        _metric("engine_faults_total", "pictures on which the engine failed", _each(calls, {"": "faults"}), "counter"),
    ]
    return "".join(parts)


def _metric(name: str, help_text: str, samples: Mapping[str, float | bool], kind: str = "gauge") -> str:
    """One metric. `samples`: labels ('a="b",c="d"', or "") -> value."""
    full = f"{PREFIX}_{name}"
    lines = [f"# HELP {full} {help_text}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{{{labels}}} {value:g}" if labels else f"{full} {value:g}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"


def _engines(calls: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {f'{call},engine="{_label(n["engine"])}",why="{_label(n["why"])}"': 1.0 for call, n in calls.items()}


def _each(calls: Mapping[str, Mapping[str, Any]], keys: Mapping[str, str], label: str = "") -> dict[str, float]:
    return {
        f'{call},{label}="{value}"' if label else call: float(numbers[key])
        for call, numbers in calls.items()
        for value, key in keys.items()
    }


def _quantiles(calls: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, float]:
    return {
        f'{call},quantile="{quantile}"': float(numbers[key][name])
        for call, numbers in calls.items()
        for name, quantile in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"))
        if numbers[key][name] is not None
    }


def _counts(calls: Mapping[str, Mapping[str, Any]], key: str, label: str) -> dict[str, float]:
    return {f'{call},{label}="{name}"': float(n) for call, numbers in calls.items() for name, n in numbers[key].items()}


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", " ")
