"""What unmarked pictures score: the null that the alarm of `engines.marks.detect` rests on, held against its formulas.

    python -m benchmarks.marks_null --count 20000 --searches 500 --out out/marks-null.json

`benchmarks.marks --write` runs it, or takes a file that it wrote.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.corpus import DATA, read_clip
from benchmarks.report import mean, table
from engines.marks.detect import (
    ALARM,
    ALIGNED_LOOKS,
    NULL_WIDTH,
    SEARCHED_LOOKS,
    WAYS,
    WORKING_PX,
    Gathered,
    aligned,
    correlate,
    folded_at,
    plane_at,
    searched,
    tail_log10,
)
from engines.marks.payload import CODED_BITS, Payload, decode_all, encode
from engines.types import Floats, Rgb

LEVELS = (3.0, 4.0, 5.0, 5.5, 6.0)  # standard deviations at which tails are compared
LIKENESSES = (0.15, 0.2, 0.25, 0.3, 0.35)
KEPT_EVERY = 25
WORDS = 64  # right words that every code that is measured is held against

Figures = dict[str, Any]


def unmarked(seed: int) -> Iterator[Rgb]:
    """Endless unmarked pictures: parts of portraits and real frames, scaled, mirrored, compressed."""
    random = np.random.default_rng(seed)
    stills = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((DATA / "synth_faces").glob("*.jpg"))]
    for path in sorted((DATA / "clips").rglob("*.m[kp][v4]")):
        stills += list(read_clip(path).frames[::15])
    while True:
        still = stills[int(random.integers(len(stills)))]
        width = int(random.uniform(0.4, 1.0) * still.shape[1])
        height = min(width * 3 // 4, still.shape[0])
        top, left = (int(random.integers(0, room + 1)) for room in (still.shape[0] - height, still.shape[1] - width))
        part = still[top : top + height, left : left + width, :]
        image = Image.fromarray(np.ascontiguousarray(part[:, :: random.choice([-1, 1])])).resize((320, 240), 2)
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(random.integers(30, 95)))
        yield np.asarray(Image.open(packed))


@dataclass(slots=True)
class Tally:
    """What has been counted so far."""

    words: Floats  # [WORDS, CODED_BITS]
    pictures: int = 0
    shifts: int = 0
    codes: int = 0
    passed: int = 0
    above: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LEVELS), np.int64))
    near: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LIKENESSES), np.int64))
    at_place: list[float] = field(default_factory=list)
    maxima: list[float] = field(default_factory=list)

    def take(self, picture: Rgb, search: bool) -> None:
        gathered = Gathered(1)
        gathered.add(picture)
        luma_HW = gathered.mean()
        scores = correlate(folded_at(plane_at(luma_HW, WORKING_PX, 1.0), 1.0))[0]
        self.at_place.append(float(max(scores[row, column] for row in (-1, 0, 1) for column in (-1, 0, 1))))
        self.above += [(scores > level).sum() for level in LEVELS]
        self.shifts += scores.size
        self.pictures += 1
        if search:
            places = searched(luma_HW)
            self.maxima.append(places[0].score)
            self._read(np.stack([aligned(luma_HW).soft, *(place.soft for place in places)]))

    def _read(self, soft_NB: Floats) -> None:
        unit = soft_NB / np.linalg.norm(soft_NB, axis=1, keepdims=True)
        likeness = unit @ self.words.T / math.sqrt(CODED_BITS)
        self.near += [(likeness > level).sum() for level in LIKENESSES]
        self.codes += len(soft_NB)
        self.passed += sum(payload is not None for payload in decode_all(soft_NB))

    def figures(self) -> Figures:
        alarms = [tail_log10(score / NULL_WIDTH) + math.log10(SEARCHED_LOOKS) for score in self.maxima]
        compared = max(self.codes * WORDS, 1)
        return {
            "clips": self.pictures,
            "windows": self.shifts,
            "searches": len(self.maxima),
            "aligned_largest": max(self.at_place),
            "aligned_expected_largest": _quantile(1 / (ALIGNED_LOOKS * self.pictures)),
            "above": {str(level): float(n) / self.shifts for level, n in zip(LEVELS, self.above)},
            "gaussian": {str(level): 10 ** tail_log10(level / NULL_WIDTH) for level in LEVELS},
            "search_mean": mean(self.maxima),
            "search_spread": float(np.std(self.maxima)) if self.maxima else float("nan"),
            "search_largest": max(self.maxima, default=float("nan")),
            "search_maxima": sorted(round(score, 3) for score in self.maxima),
            "search_below_a_tenth": mean([alarm < -1 for alarm in alarms]),
            "search_below_a_hundredth": mean([alarm < -2 for alarm in alarms]),
            "codes_read": self.codes,
            "codes_that_passed": self.passed,
            "nearer_than": {str(level): float(n) / compared for level, n in zip(LIKENESSES, self.near)},
            "nearer_than_bound": {str(level): _within(level) for level in LIKENESSES},
        }


def null(count: int, searches: int, seed: int, keep: Path | None = None) -> Figures:
    """Scores of unmarked clips of one picture each: where an uncropped mark would lie, at every shift, in a search; and
    how near the codes read there come to words that somebody could have written. Every KEPT_EVERY pictures the figures
    so far are written to `keep`.
    """
    random = np.random.default_rng(seed)
    tally = Tally(np.stack([encode(Payload(int(n), int(n) % 4096)) for n in random.integers(0, 1 << 24, WORDS)]))
    every = max(count // max(searches, 1), 1)
    for number, picture in enumerate(islice(unmarked(seed), count), 1):
        tally.take(picture, number % every == 0 and len(tally.maxima) < searches)
        if keep is not None and (number % KEPT_EVERY == 0 or number == count):
            keep.write_text(json.dumps(tally.figures()), encoding="utf-8")
    return tally.figures()


def _within(likeness: float) -> float:
    """The bound that `code_log10` uses, for one word."""
    return float((1 - likeness**2) ** ((CODED_BITS - 1) / 2) / (2 * likeness * math.sqrt(CODED_BITS)))


def _quantile(chance: float) -> float:
    """The score that a Gaussian exceeds with that chance."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail_log10(middle / NULL_WIDTH) > math.log10(chance) else (low, middle)
    return high


def markdown(figures: Figures) -> str:
    above, near = figures["above"], figures["nearer_than"]
    needed = _quantile(ALARM / (SEARCHED_LOOKS * WAYS))
    places = [(k, f"{above[k]:.2e}", f"{figures['gaussian'][k]:.2e}") for k in above]
    codes = [(k, f"{near[k]:.2e}", f"{figures['nearer_than_bound'][k]:.2e}") for k in near]
    return "\n".join(
        [
            "## What unmarked pictures score",
            "",
            f"{figures['clips']} unmarked clips of one picture (parts of portraits and of real clips, scaled, mirrored "
            f"or not, compressed), {figures['windows'] / 1e6:.0f} million windows; {figures['searches']} of "
            "them searched at every size and place. Share of all windows that score above so many standard deviations, "
            "and the null's:",
            "",
            table(("above", "measured", "null"), places),
            "",
            f"Where an uncropped mark would lie: largest score {figures['aligned_largest']:.2f}, the null expects "
            f"{figures['aligned_expected_largest']:.2f} at most. Largest score of a search: mean "
            f"{figures['search_mean']:.2f}, spread {figures['search_spread']:.2f}, largest "
            f"{figures['search_largest']:.2f} ({needed:.2f} is needed). Searches whose false alarm the null "
            f"puts below 0.1: {figures['search_below_a_tenth']:.3f}; below 0.01: "
            f"{figures['search_below_a_hundredth']:.4f} (a sound null gives no more than 0.1 and 0.01).",
            "",
            f"Codes: {figures['codes_read']} were read at the likeliest places, {figures['codes_that_passed']} passed "
            f"their CRC. Share of them that lie nearer to one of {WORDS} right words than a cosine, and the bound:",
            "",
            table(("cosine above", "measured", "bound"), codes),
        ]
    )


@click.command()
@click.option("--count", type=int, default=20_000, help="unmarked pictures")
@click.option("--searches", type=int, default=500, help="how many of those are searched too")
@click.option("--seed", type=int, default=1)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=None, help="figures so far, as JSON")
def main(count: int, searches: int, seed: int, out: Path | None) -> None:
    """Measures what unmarked pictures score."""
    click.echo(markdown(null(count, searches, seed, out)))


if __name__ == "__main__":
    main()
