"""Can it be seen that the invisible mark changes? Its contrast from frame to frame against Kelly's threshold surface.

    python -m benchmarks.marks_flicker --count 86

What the mark adds is split by spatial and temporal frequency; each octave's contrast is multiplied with the eye's
sensitivity there: 1 is what is just seen on an even ground, with nothing beside it that hides it. Sensitivity is
that of D. H. Kelly, "Motion and vision II: stabilized spatio-temporal threshold surface" (J. Opt. Soc. Am. 69, 1979),
with the eye's drift of 0.15 degrees a second for what stands still (S. Daly, "Engineering observations from
spatiovelocity and spatiotemporal visual models", 1998). As a check of the check, a mark is measured whose sign changes
with every frame.

A mark that stands still changes its contrast only where the picture moves under it, and there the picture's own change
hides it: a threshold rises with the 0.62nd power of what masks it (G. E. Legge, J. M. Foley, "Contrast masking in human
vision", J. Opt. Soc. Am. 70, 1980). It is said with and without that; the picture's change is taken over the whole
frame, though it is strongest where the mark changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import click
import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfftn
from scipy.ndimage import gaussian_filter

from benchmarks.marked_clips import FPS, Frames, clips, coded
from benchmarks.report import table
from engines import Marker, own_payload

PIXELS_PER_DEGREE = 32.0  # a 24 inch screen of 1080 lines, half a metre away, a pixel on a pixel
DRIFT_DEG_S = 0.15
BLACK = 0.005  # of white: what a screen shows for 0
MASKING = 0.62
OCTAVES = tuple(0.5 * 2.0**k for k in range(6))  # cycles a degree, lower ends

THOROUGH = 6  # clips of which a flipping mark and coded differences are measured too
LIGHT = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)

Planes = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Flicker:
    """One clip. In multiples of what is just seen: `changes` of the mark from frame to frame, the same beside the
    picture's own (`beside`), of a mark that flips (`flipped`), and what stands still (`standing`). `energy`: of frame
    differences with the mark over without; `coded_energy`: the same after H.264 at 500 kbit/s. None: not measured.
    """

    clip: str
    changes: float
    beside: float
    standing: float
    flipped: float | None = None
    energy: float | None = None
    coded_energy: float | None = None


def sensitivity(spatial: Planes, temporal_hz: Planes) -> Planes:
    """Kelly's surface, 1979, equations 5 and 8: one over the contrast that is just seen. spatial: cycles a degree."""
    alpha = 2 * np.pi * np.maximum(spatial, 1e-3)
    v = np.maximum(temporal_hz / np.maximum(spatial, 1e-3), DRIFT_DEG_S)
    seen = (6.1 + 7.3 * np.abs(np.log10(v / 3)) ** 3) * v * alpha**2 * np.exp(-2 * alpha * (v + 2) / 45.9)
    return np.asarray(seen, np.float32)


def _light(frames: Frames) -> Planes:
    """Luminance over that of white: [T, H, W]."""
    weights = np.array([0.2126, 0.7152, 0.0722], np.float32)
    return np.stack([LIGHT[frame] @ weights + np.float32(BLACK) for frame in frames])


def contrast(before: Frames, after: Frames) -> Planes:
    """What was added, over the light around it (a degree): [T, H, W]."""
    light = _light(before)
    around = np.stack([gaussian_filter(plane, PIXELS_PER_DEGREE / 2) for plane in light])
    return np.asarray((_light(after) - light) / around)


def own_contrast(frames: Frames) -> Planes:
    """The picture's own, over the light around it (a degree): [T, H, W]."""
    light = _light(frames)
    around = np.stack([gaussian_filter(plane, PIXELS_PER_DEGREE / 2) for plane in light])
    return np.asarray(light / around - 1)


@lru_cache(maxsize=2)
def _frequencies(count: int, height: int, width: int) -> tuple[Planes, Planes, list[Planes]]:
    """Of half a spectrum: hertz of each slice, cycles a degree of each place, and what each hertz weighs there."""
    down = np.abs(np.fft.fftfreq(height)) * PIXELS_PER_DEGREE
    across = np.fft.rfftfreq(width) * PIXELS_PER_DEGREE
    spatial = np.hypot(down[:, None], across[None]).astype(np.float32)
    twice = np.full(len(across), 2.0, np.float32)  # the other half is its mirror
    twice[0] = twice[-1 if width % 2 == 0 else 0] = 1
    hertz = (np.abs(np.fft.fftfreq(count)) * FPS).astype(np.float32)
    weighs = [sensitivity(spatial, np.full_like(spatial, at)) ** 2 * twice for at in np.unique(hertz)]
    return hertz, spatial, weighs


def seen(contrast_THW: Planes) -> Planes:
    """What is there, in multiples of what is just seen: [temporal frequency from 0 on, octave]."""
    hertz, spatial, weighs = _frequencies(*contrast_THW.shape)
    power = np.abs(rfftn(contrast_THW) / np.float32(contrast_THW.size)) ** 2
    strengths = np.zeros((len(weighs), len(OCTAVES)), np.float32)
    for row, (frequency, weigh) in enumerate(zip(np.unique(hertz), weighs)):
        weighed = power[hertz == frequency].sum(axis=0) * weigh
        for column, low in enumerate(OCTAVES):
            # As one grating: of the amplitude whose power is that of the whole octave.
            strengths[row, column] = np.sqrt(2 * weighed[(spatial >= low) & (spatial < 2 * low)].sum())
    return strengths


def _differences(frames: Frames) -> float:
    light = np.stack([frame.astype(np.float32).mean(axis=2) for frame in frames])
    return float(np.mean(np.diff(light, axis=0) ** 2))


def _marked(frames: Frames, add: Callable[[Frames, Frames], Frames] = lambda before, after: after) -> Frames:
    marker, after = Marker(own_payload()), [frame.copy() for frame in frames]
    for frame in after:
        marker.apply(frame)
    return add(frames, after)


def _flipping(before: Frames, after: Frames) -> Frames:
    """The mark, its sign another in every second frame."""
    turned = []
    for number, (one, other) in enumerate(zip(before, after)):
        added = other.astype(np.int16) - one
        turned.append(np.clip(one + (added if number % 2 else -added), 0, 255).astype(np.uint8))
    return turned


def measure(count: int, thorough: int = THOROUGH) -> list[Flicker]:
    """Of so many clips, real ones and up to 70 rendered; all that is asked only of some."""
    real = min(count // 2, 16) if count > 2 * THOROUGH else count - count // 2
    results = []
    for number, clip in enumerate(clips({"rendered": count - real, "real": real, "swapped": 0})):
        frames, after = clip.frames, _marked(clip.frames)
        added, own = seen(contrast(frames, after)), seen(own_contrast(frames))
        beside = float((added / np.maximum(own, 1) ** MASKING)[1:].max())
        one = Flicker(clip.name, float(added[1:].max()), beside, float(added[0].max()))
        results.append(one if number >= thorough else _thoroughly(one, frames, after))
    return results


def _thoroughly(one: Flicker, frames: Frames, after: Frames) -> Flicker:
    low = [_differences(coded(each, "libx264", 500_000)) for each in (frames, after)]
    return replace(
        one,
        flipped=float(seen(contrast(frames, _marked(frames, _flipping)))[1:].max()),
        energy=_differences(after) / _differences(frames),
        coded_energy=low[1] / low[0],
    )


def markdown(results: list[Flicker]) -> str:
    names = ("changes", "beside", "flipped", "standing", "energy", "coded_energy")
    values = {name: [getattr(one, name) for one in results if getattr(one, name) is not None] for name in names}
    said = {
        "changes": "the mark's changes from frame to frame, times what is just seen",
        "beside": "the same beside the picture's own change, which raises what is just seen (Legge and Foley 1980)",
        "flipped": "the first of a mark whose sign changes with every frame (a check of the check)",
        "standing": "the mark as it stands still, on an even ground, times what is just seen",
        "energy": "energy of frame differences, with the mark over without",
        "coded_energy": "the same after H.264 at 500 kbit/s",
    }
    worst = sorted(results, key=lambda one: -one.changes)[:3]
    rows = [
        (said[name], len(values[name]), f"{np.mean(values[name]):.3f}", f"{max(values[name]):.3f}")
        for name in names
        if values[name]
    ]
    seen_ones = sum(one.changes >= 1 for one in results)
    return "\n".join(
        [
            "## Flicker",
            "",
            f"{len(results)} clips, {FPS} frames a second, {PIXELS_PER_DEGREE:.0f} pixels a degree (24 inch, half a "
            "metre away). Contrast of what the mark adds, by octaves of spatial frequency and by temporal frequency, "
            "times the eye's sensitivity there (Kelly 1979): below 1 nobody sees it even on an even ground.",
            "",
            table(("", "clips", "mean", "worst clip"), rows),
            "",
            f"Clips at 1 or above: {seen_ones}. Strongest change: "
            + ", ".join(f"{one.clip} {one.changes:.2f} ({one.beside:.2f})" for one in worst)
            + ".",
        ]
    )


@click.command()
@click.option("--count", type=int, default=86)
def main(count: int) -> None:
    """Measures the flicker of the invisible mark."""
    click.echo(markdown(measure(count)))


if __name__ == "__main__":
    main()
