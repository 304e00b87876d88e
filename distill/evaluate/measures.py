"""The columns: what the readings of many swaps come to, each with 95 % and with the input's own value beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.evaluate import identity
from distill.evaluate.frechet import Interval, mean_with_interval, with_interval
from distill.evaluate.readings import Readings
from distill.evaluate.temporal import drift

Array = NDArray[np.float64]
Stream = str  # "result" or "driver"
LEAST_DRIFT_S = 30.0  # of a clip: of a shorter one nothing is said about minutes
LEAST_CLIPS = 2000  # for an FVD that can be compared with published ones


@dataclass(frozen=True, slots=True)
class Read:
    """One swap's readings, and what they are of."""

    name: str
    clip: str
    identity: str
    readings: Readings


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table.

    better   "higher", "lower", or "1": the input's own value
    result   of the swapper; input: of an engine that changes nothing, where that says something
    parts    how many swaps (clips, for FVD) it is the mean of
    by_swap  the value of each swap, by name
    """

    key: str
    title: str
    better: str
    result: Interval
    input: float
    parts: int
    by_swap: Mapping[str, float]


def measures(read: Sequence[Read], judges: Sequence[str], nets: Sequence[str], distractors: Gallery) -> list[Measure]:
    """All that was measured, in the table's order; what was measured nowhere is left out.

    nets: "NET/T" of the clip features. distractors: JUDGE -> name -> vector of people who are worn by nobody here.
    """
    found = [_drawn(read), *(_fvd(read, net) for net in nets)]
    for judge in judges:
        found += _identity(read, judge, distractors.get(judge, {}))
    found += [_looks(read, *row) for row in FROM_LOOKS]
    found += [_change(read, *row) for row in FROM_CHANGES]
    found += [_energy(read), *_drifts(read, judges)]
    found += [_looks(read, *row) for row in FROM_TRUTH]
    found += [_speed(read, 50), _speed(read, 95)]
    return [one for one in found if not math.isnan(one.result.value)]


Gallery = Mapping[str, Mapping[str, Array]]
# key, title, better, field of Look, the input's own value
FROM_LOOKS = (
    ("pose", "pose error, degrees", "lower", "pose", 0.0),
    ("expression", "expression error, blendshapes", "lower", "expression", 0.0),
    ("gaze", "gaze error, degrees", "lower", "gaze", 0.0),
    ("hopenet", "pose error, Hopenet, degrees", "lower", "net_pose", 0.0),
    ("deep3d", "expression error, Deep3D", "lower", "net_expression", 0.0),
)
FROM_TRUTH = (
    ("true_psnr", "true swap, PSNR in the face, dB", "higher", "true_psnr", math.nan),
    ("true_ssim", "true swap, SSIM in the face", "higher", "true_ssim", math.nan),
    ("true_colour", "true swap, colour error, dE", "lower", "true_colour", math.nan),
)
FROM_CHANGES = (
    ("warp", "warp error, levels", "lower", "warp"),
    ("flicker", "flicker, levels", "lower", "patches"),
)


def _of_swaps(
    key: str, title: str, better: str, read: Sequence[Read], value: Callable[[Readings], float], own: float
) -> Measure:
    by_swap = {one.name: value(one.readings) for one in read}
    known = [number for number in by_swap.values() if not math.isnan(number)]
    return Measure(key, title, better, mean_with_interval(known), own, len(known), by_swap)


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _mean_of(read: Sequence[Read], value: Callable[[Readings], float]) -> float:
    return _mean(np.array([value(one.readings) for one in read], np.float64))


def _drawn(read: Sequence[Read]) -> Measure:
    return _of_swaps("drawn", "frames drawn, %", "higher", read, lambda one: 100 * one.drawn / one.frames, 100.0)


def _fvd(read: Sequence[Read], net: str) -> Measure:
    kind, length = net.split("/")
    rows: dict[Stream, list[Array]] = {}
    sources: list[str] = []
    for one in read:
        clips = one.readings.clips.get(f"{net}/result")
        if clips is not None and len(clips):
            sources += [one.clip] * len(clips)
            for stream in ("result", "driver"):
                rows.setdefault(stream, []).append(one.readings.clips[f"{net}/{stream}"])
    value = Interval(math.nan)
    if len(sources) > 1:
        value = with_interval(np.concatenate(rows["result"]), np.concatenate(rows["driver"]), sources, sources)
    return Measure(f"fvd{length}_{kind}", f"FVD{length}, {kind}", "lower", value, 0.0, len(sources), {})


def _identity(read: Sequence[Read], judge: str, distractors: Mapping[str, Array]) -> list[Measure]:
    photos: dict[str, list[Array]] = {}
    for one in read:
        photos.setdefault(one.identity, []).append(one.readings.photos[judge])
    faces = {name: identity.mean_face(np.concatenate(some)) for name, some in photos.items() if len(some[0])}
    gallery = {**distractors, **faces}

    def vectors(one: Read, stream: Stream) -> Array:
        pairs: Array = one.readings.vectors[f"{judge}/{stream}"]
        return pairs[:, 1]

    def per_swap(value: Callable[[Read, Stream], float]) -> tuple[dict[str, float], float]:
        return {one.name: value(one, "result") for one in read}, _mean(np.array([value(one, "driver") for one in read]))

    def like(one: Read, stream: Stream) -> Array:
        return identity.cosines(vectors(one, stream), faces.get(one.identity, np.zeros(0)))

    def driver_like(one: Read, stream: Stream) -> float:
        return _mean(np.asarray((vectors(one, stream) * vectors(one, "driver")).sum(axis=1)))

    def within(first: int) -> Callable[[Read, Stream], float]:
        if len(gallery) <= first:
            return lambda one, stream: math.nan
        return lambda one, stream: (
            100 * identity.found_within(identity.ranks(vectors(one, stream), gallery, one.identity), first)
        )

    rows: list[tuple[str, str, str, Callable[[Read, Stream], float]]] = [
        ("top1", f"found first of {len(gallery)}, %", "higher", within(1)),
        ("top5", f"found among five of {len(gallery)}, %", "higher", within(5)),
        ("cosine", "cosine with the identity", "higher", lambda one, stream: _mean(like(one, stream))),
        ("driver_cosine", "cosine with the driver", "lower", driver_like),
        ("vidd", "identity, frame to frame", "lower", lambda one, stream: _steady(one, judge, stream)),
        ("variance", "identity, variance", "lower", lambda one, stream: identity.variance(like(one, stream))),
    ]
    found = []
    for key, title, better, value in rows:
        by_swap, own = per_swap(value)
        known = [number for number in by_swap.values() if not math.isnan(number)]
        found.append(
            Measure(f"{key}_{judge}", f"{title} ({judge})", better, mean_with_interval(known), own, len(known), by_swap)
        )
    return found


def _steady(one: Read, judge: str, stream: Stream) -> float:
    return identity.frame_to_frame(one.readings.vectors[f"{judge}/{stream}"])


def _looks(read: Sequence[Read], key: str, title: str, better: str, field: str, own: float) -> Measure:
    return _of_swaps(key, title, better, read, lambda one: _mean(one.column(field)), own)


def _change(read: Sequence[Read], key: str, title: str, better: str, field: str) -> Measure:
    own = _mean_of(read, lambda one: _mean(one.column(f"driver_{field}")))
    return _of_swaps(key, title, better, read, lambda one: _mean(one.column(f"result_{field}")), own)


def _energy(read: Sequence[Read]) -> Measure:
    def ratio(one: Readings) -> float:
        both = one.column("result_energy"), one.column("driver_energy")
        known = ~np.isnan(both[0] + both[1])
        own = float(both[1][known].sum())
        return float(both[0][known].sum()) / own if own > 0 else math.nan

    return _of_swaps("energy", "frame-difference energy, result / input", "1", read, ratio, 1.0)


def _drifts(read: Sequence[Read], judges: Sequence[str]) -> list[Measure]:
    def colour(one: Readings) -> float:
        if one.rollout:
            return drift(one.rollout["at_s"], one.rollout["colour"])
        return _long(one, one.colour["result"] - one.colour["driver"])

    def likeness(judge: str) -> Callable[[Readings], float]:
        def of(one: Readings) -> float:
            if one.rollout:
                return drift(one.rollout["at_s"], one.rollout[judge])
            face = identity.mean_face(one.photos[judge])
            return _long(one, identity.cosines(one.vectors[f"{judge}/result"][:, 1], face))

        return of

    found = [_of_swaps("drift_colour", "drift of colour in 5 min, dE", "lower", read, colour, 0.0)]
    for judge in judges:
        title = f"drift of identity in 5 min, cosine ({judge})"
        found.append(_of_swaps(f"drift_{judge}", title, "lower", read, likeness(judge), math.nan))
    return found


def _long(one: Readings, values: Array) -> float:
    at_s = one.column("at_s")
    return drift(at_s, values) if len(at_s) and np.ptp(at_s) >= LEAST_DRIFT_S else math.nan


def _speed(read: Sequence[Read], percentile: int) -> Measure:
    took = [one.readings.took_ms for one in read if len(one.readings.took_ms)]
    value = float(np.percentile(np.concatenate(took), percentile)) if took else math.nan
    by_swap = {
        one.name: float(np.percentile(one.readings.took_ms, percentile)) for one in read if len(one.readings.took_ms)
    }
    frames = sum(map(len, took))
    return Measure(
        f"ms_p{percentile}", f"ms a frame, p{percentile}", "lower", Interval(value), math.nan, frames, by_swap
    )
