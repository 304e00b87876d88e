"""Can it be seen that the invisible mark changes? Its contrast from frame to frame against Kelly's threshold surface.

    python -m benchmarks.marks_flicker

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
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.marked_clips import FPS, Frames, clips, coded
from benchmarks.report import table
from engines import Marker, own_payload

PIXELS_PER_DEGREE = 32.0  # a 24 inch screen of 1080 lines, half a metre away, a pixel on a pixel
DRIFT_DEG_S = 0.15
BLACK = 0.005  # of white: what a screen shows for 0
MASKING = 0.62
OCTAVES = tuple(0.5 * 2.0**k for k in range(6))  # cycles a degree, lower ends

Planes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Flicker:
    """One clip. In multiples of what is just seen: `changes` of the mark from frame to frame, the same beside the
    picture's own (`beside`), of a mark that flips (`flipped`), and what stands still (`standing`). `energy`: of frame
    differences with the mark over without; `coded_energy`: the same after H.264 at 500 kbit/s.
    """

    clip: str
    changes: float
    beside: float
    flipped: float
    standing: float
    energy: float
    coded_energy: float


def sensitivity(spatial: Planes, temporal_hz: Planes) -> Planes:
    """Kelly's surface, 1979, equations 5 and 8: one over the contrast that is just seen. spatial: cycles a degree."""
    alpha = 2 * np.pi * np.maximum(spatial, 1e-3)
    v = np.maximum(temporal_hz / np.maximum(spatial, 1e-3), DRIFT_DEG_S)
    return np.asarray((6.1 + 7.3 * np.abs(np.log10(v / 3)) ** 3) * v * alpha**2 * np.exp(-2 * alpha * (v + 2) / 45.9))


def _light(frames: Frames) -> Planes:
    """Luminance over that of white: [T, H, W]."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    return np.stack([(frame / 255.0) ** 2.2 @ weights + BLACK for frame in frames])


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


def seen(contrast_THW: Planes) -> Planes:
    """What is there, in multiples of what is just seen: [temporal frequency from 0 on, octave]."""
    count, height, width = contrast_THW.shape
    amplitude = np.abs(np.fft.fftn(contrast_THW)) / contrast_THW.size
    down, across = (np.abs(np.fft.fftfreq(n)) * PIXELS_PER_DEGREE for n in (height, width))
    spatial = np.hypot(down[:, None], across[None])
    hertz = np.abs(np.fft.fftfreq(count)) * FPS
    strengths = np.zeros((len(np.unique(hertz)), len(OCTAVES)))
    for row, frequency in enumerate(np.unique(hertz)):
        slices = amplitude[hertz == frequency]
        for column, low in enumerate(OCTAVES):
            inside = (spatial >= low) & (spatial < 2 * low)
            # As one grating: of the amplitude whose power is that of the whole octave.
            weighed = slices[:, inside] * sensitivity(spatial[inside], np.full(inside.sum(), frequency))
            strengths[row, column] = np.sqrt(2 * (weighed**2).sum())
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


def measure(count: int) -> list[Flicker]:
    """So many clips, half of them rendered, half real."""
    results = []
    for clip in clips({"rendered": count // 2, "real": count - count // 2, "swapped": 0}):
        frames = clip.frames
        after = _marked(frames)
        added, own = seen(contrast(frames, after)), seen(own_contrast(frames))
        changes, standing = float(added[1:].max()), float(added[0].max())
        beside = float((added / np.maximum(own, 1) ** MASKING)[1:].max())
        flipped = float(seen(contrast(frames, _marked(frames, _flipping)))[1:].max())
        energy = _differences(after) / _differences(frames)
        low = [_differences(coded(each, "libx264", 500_000)) for each in (frames, after)]
        results.append(Flicker(clip.name, changes, beside, flipped, standing, energy, low[1] / low[0]))
    return results


def markdown(results: list[Flicker]) -> str:
    names = ("changes", "beside", "flipped", "standing", "energy", "coded_energy")
    values = {name: [float(getattr(one, name)) for one in results] for name in names}
    said = {
        "changes": "the mark's changes from frame to frame, times what is just seen",
        "beside": "the same beside the picture's own change, which raises what is just seen (Legge and Foley 1980)",
        "flipped": "the first of a mark whose sign changes with every frame (a check of the check)",
        "standing": "the mark as it stands still, on an even ground, times what is just seen",
        "energy": "energy of frame differences, with the mark over without",
        "coded_energy": "the same after H.264 at 500 kbit/s",
    }
    worst = sorted(results, key=lambda one: -one.changes)[:3]
    rows = [(said[name], f"{np.mean(values[name]):.3f}", f"{max(values[name]):.3f}") for name in names]
    return "\n".join(
        [
            "## Flicker",
            "",
            f"{len(results)} clips, {FPS} frames a second, {PIXELS_PER_DEGREE:.0f} pixels a degree (24 inch, half a "
            "metre away). Contrast of what the mark adds, by octaves of spatial frequency and by temporal frequency, "
            "times the eye's sensitivity there (Kelly 1979): below 1 nobody sees it even on an even ground.",
            "",
            table(("", "mean", "worst clip"), rows),
            "",
            "Strongest change: " + ", ".join(f"{one.clip} {one.changes:.2f} ({one.beside:.2f})" for one in worst) + ".",
        ]
    )


@click.command()
@click.option("--count", type=int, default=12)
def main(count: int) -> None:
    """Measures the flicker of the invisible mark."""
    click.echo(markdown(measure(count)))


if __name__ == "__main__":
    main()
