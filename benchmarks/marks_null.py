"""What unmarked pictures score: the bound that the alarm of `engines.marks.chance` rests on, held against measurements.

    python -m benchmarks.marks_null --count 20000 --searches 500 --out out/marks-null.json

The bound is a theorem about random signs and a picture that knows nothing of them; nothing in it is fitted. What is
measured here is whether this program keeps its conditions: on every picture with the mark's own signs, and again with
signs that are drawn anew for each picture. As a second opinion a generalised extreme value distribution is fitted on
one half of the searches and held against the other.

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
from scipy.stats import genextreme, kstest

from benchmarks.corpus import DATA, read_clip
from benchmarks.report import mean, table
from engines.marks.chance import chance_log10, needed
from engines.marks.detect import (
    ALIGNED_LOOKS,
    SEARCHED_LOOKS,
    WORKING_PX,
    Gathered,
    Known,
    aligned,
    folded_at,
    known,
    plane_at,
    searched,
)
from engines.marks.pattern import CHIPS, SYNC_CHIPS, TILE_COLUMNS, TILE_ROWS
from engines.marks.payload import Payload, decode_all, encode
from engines.marks.still import standing_still
from engines.types import Floats, Rgb

LEVELS = (3.0, 4.0, 5.0, 5.5, 6.0)  # standard deviations at which tails are compared
KEPT_EVERY = 25
WORDS = 64  # right words that every code that is measured is held against
MOVED_FRAMES = 6  # of a clip that is searched for what stands still

Figures = dict[str, Any]


def unmarked(seed: int, moving: int) -> Iterator[list[Rgb]]:
    """Endless unmarked clips: parts of portraits and real frames, scaled, mirrored, compressed. Of one picture; every
    `moving`-th of MOVED_FRAMES, as a camera in a hand sees them.
    """
    random = np.random.default_rng(seed)
    stills = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((DATA / "synth_faces").glob("*.jpg"))]
    for path in sorted((DATA / "clips").rglob("*.m[kp][v4]")):
        stills += list(read_clip(path).frames[::15])
    number = 0
    while True:
        number += 1
        still = stills[int(random.integers(len(stills)))]
        width = int(random.uniform(0.4, 0.95) * still.shape[1])
        height = min(width * 3 // 4, int(0.95 * still.shape[0]))
        room_y, room_x = still.shape[0] - height, still.shape[1] - width
        top, left = int(random.integers(0, room_y + 1)), int(random.integers(0, room_x + 1))
        turned, quality = int(random.choice([-1, 1])), int(random.integers(30, 95))
        frames = []
        for _ in range(MOVED_FRAMES if number % moving == 0 else 1):
            part = still[top : top + height, left : left + width][:, ::turned]
            frames.append(_compressed(part, quality))
            step_y, step_x = np.rint(random.normal(0, 0.006 * width, 2))
            top, left = int(np.clip(top + step_y, 0, room_y)), int(np.clip(left + step_x, 0, room_x))
        yield frames


def _compressed(part: Rgb, quality: int) -> Rgb:
    packed = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(part)).resize((320, 240), Image.Resampling.BILINEAR)
    image.save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))


def other_signs(random: np.random.Generator) -> Known:
    """Known chips at other places, with other signs: as independent of every picture as can be."""
    tile = np.zeros(CHIPS, np.float32)
    tile[random.permutation(CHIPS)[:SYNC_CHIPS]] = random.choice([-1, 1], SYNC_CHIPS)
    return Known(tile.reshape(TILE_ROWS, TILE_COLUMNS))


def _counts() -> NDArray[np.int64]:
    return np.zeros(len(LEVELS), np.int64)


@dataclass(slots=True)
class Tally:
    """What has been counted so far. `own`: with the mark's own signs, `other`: with signs drawn for that picture."""

    words: Floats  # [WORDS, CODED_BITS]
    random: np.random.Generator
    pictures: int = 0
    shifts: int = 0
    codes: int = 0
    passed: int = 0
    own_above: NDArray[np.int64] = field(default_factory=_counts)
    other_above: NDArray[np.int64] = field(default_factory=_counts)
    words_above: NDArray[np.int64] = field(default_factory=_counts)
    at_place: list[float] = field(default_factory=list)
    own_maxima: list[float] = field(default_factory=list)
    other_maxima: list[float] = field(default_factory=list)
    still_maxima: list[float] = field(default_factory=list)

    def take(self, frames: list[Rgb], search: bool) -> None:
        gathered = Gathered(len(frames))
        for frame in frames:
            gathered.add(frame)
        luma_HW = gathered.mean()
        folded = folded_at(plane_at(luma_HW, WORKING_PX, 1.0), 1.0)
        scores, signs = known().scores(folded)[0], other_signs(self.random)
        self.at_place.append(float(max(scores[row, column] for row in (-1, 0, 1) for column in (-1, 0, 1))))
        self.own_above += [(scores > level).sum() for level in LEVELS]
        others = signs.scores(folded)[0]
        self.other_above += [(others > level).sum() for level in LEVELS]
        self.shifts += scores.size
        self.pictures += 1
        if search:
            self._search(luma_HW, standing_still(gathered.luma), signs)

    def _search(self, luma_HW: Floats, still_HW: Floats | None, signs: Known) -> None:
        """In turns: with the own signs, with others, with the own ones in what stands still."""
        turn = (len(self.own_maxima) + len(self.other_maxima) + len(self.still_maxima)) % 3
        if turn == 1:
            self.other_maxima.append(searched(luma_HW, signs)[0].score)
            return
        if turn == 2 and still_HW is None:
            turn = 0
        places = searched(still_HW if turn == 2 and still_HW is not None else luma_HW)
        (self.still_maxima if turn == 2 else self.own_maxima).append(places[0].score)
        soft_NB = np.stack([aligned(luma_HW).soft, *(place.soft for place in places)])
        word_scores = soft_NB @ self.words.T
        self.words_above += [(word_scores > level).sum() for level in LEVELS]
        self.codes += len(soft_NB)
        self.passed += sum(payload is not None for payload in decode_all(soft_NB))

    def figures(self) -> Figures:
        maxima = [*self.own_maxima, *self.other_maxima, *self.still_maxima]
        alarms = [chance_log10(score, math.log10(SEARCHED_LOOKS)) for score in maxima]
        places = [chance_log10(score, math.log10(ALIGNED_LOOKS)) for score in self.at_place]
        compared = max(self.codes * WORDS, 1)
        return {
            "clips": self.pictures,
            "windows": self.shifts,
            "searches": len(maxima),
            "aligned_largest": max(self.at_place),
            "aligned_needed": needed(ALIGNED_LOOKS),
            "aligned_below": {str(k): mean([place < -k for place in places]) for k in (1, 2, 3)},
            "own_above": _shares(self.own_above, self.shifts),
            "other_above": _shares(self.other_above, self.shifts),
            "words_above": _shares(self.words_above, compared),
            "bound_above": {str(level): 10 ** chance_log10(level, 0.0) for level in LEVELS},
            "searched": {
                name: {"searches": len(of), "mean": mean(of), "spread": float(np.std(of)), "largest": max(of)}
                for name, of in (("own", self.own_maxima), ("other", self.other_maxima), ("still", self.still_maxima))
                if of
            },
            "search_needed": needed(SEARCHED_LOOKS),
            "search_below": {str(k): mean([alarm < -k for alarm in alarms]) for k in (1, 2, 3)},
            "fitted": _fitted(maxima),
            "codes_read": self.codes,
            "codes_that_passed": self.passed,
            "maxima": {
                name: [round(score, 3) for score in of]
                for name, of in (("own", self.own_maxima), ("other", self.other_maxima), ("still", self.still_maxima))
            },
        }


def _shares(counts: NDArray[np.int64], of: int) -> dict[str, float]:
    return {str(level): float(count) / max(of, 1) for level, count in zip(LEVELS, counts)}


def _fitted(maxima: list[float]) -> Figures:
    """Extreme values: fitted on every second search, checked on the rest, and what it says of the needed score."""
    one, other = np.array(maxima[::2]), np.array(maxima[1::2])
    if len(other) < 20:
        return {}
    form = genextreme(*genextreme.fit(one, 0.1, loc=one.mean(), scale=one.std()))
    quantiles = (0.5, 0.9, 0.95, 0.98)
    return {
        "shape": float(form.args[0]),
        "kolmogorov_smirnov_p": float(kstest(other, form.cdf).pvalue),
        "quantiles": {str(q): [float(form.ppf(q)), float(np.quantile(other, q))] for q in quantiles},
        "chance_of_needed": float(form.sf(needed(SEARCHED_LOOKS))),
    }


def null(count: int, searches: int, seed: int, keep: Path | None = None) -> Figures:
    """Scores of unmarked clips: where an uncropped mark would lie, at every shift, in a search; and how near the codes
    read there come to words that somebody could have written. Every KEPT_EVERY pictures the figures so far are
    written to `keep`.
    """
    random = np.random.default_rng(seed)
    words = np.stack([encode(Payload(int(n), int(n) % 4096)) for n in random.integers(0, 1 << 24, WORDS)])
    tally = Tally(words, random)
    every = max(count // max(searches, 1), 1)
    for number, frames in enumerate(islice(unmarked(seed, every), count), 1):
        tally.take(frames, number % every == 0 and number // every <= searches)
        if keep is not None and (number % KEPT_EVERY == 0 or number == count):
            keep.write_text(json.dumps(tally.figures()), encoding="utf-8")
    return tally.figures()


def markdown(figures: Figures) -> str:
    parts = [figures[name] for name in ("own_above", "other_above", "words_above", "bound_above")]
    rows = [(level, *(f"{part[level]:.2e}" for part in parts)) for level in parts[0]]
    kinds = {"own": "the mark's own signs", "other": "signs drawn anew", "still": "own signs, in what stands still"}
    found = [
        (kinds[name], of["searches"], f"{of['mean']:.2f}", f"{of['spread']:.2f}", f"{of['largest']:.2f}")
        for name, of in figures["searched"].items()
    ]
    below = [(f"0.{'0' * (int(k) - 1)}1", f"{figures['aligned_below'][k]:.4f}", f"{figures['search_below'][k]:.4f}")
             for k in figures["search_below"]]  # fmt: skip
    lines = [
        "## What unmarked pictures score",
        "",
        f"{figures['clips']} unmarked clips (parts of portraits and of real clips, scaled, mirrored or not, "
        f"compressed), {figures['windows'] / 1e6:.0f} million windows, each with the mark's own signs and with signs "
        f"drawn anew for that picture; and {figures['codes_read']} codes read at the likeliest places, each against "
        f"{WORDS} right words. Share that scores above so many standard deviations, and the bound, which is a theorem "
        "about random signs (`engines/marks/chance.py`) and has no fitted number in it:",
        "",
        table(("above", "own signs", "signs drawn anew", "words of the code", "bound"), rows),
        "",
        f"{figures['searches']} searches at every size and place (largest score of each; "
        f"{figures['search_needed']:.2f} is needed):",
        "",
        table(("searched", "searches", "mean", "spread", "largest"), found),
        "",
        "Share of clips whose false alarm the bound puts below, where an uncropped mark would lie (largest score "
        f"{figures['aligned_largest']:.2f}, {figures['aligned_needed']:.2f} is needed) and in a search; a sound bound "
        "gives no more than the chance itself:",
        "",
        table(("chance", "uncropped", "searched"), below),
        "",
        f"Of the codes {figures['codes_that_passed']} passed their CRC.",
    ]
    return "\n".join([*lines, *_opinion(figures)])


def _opinion(figures: Figures) -> list[str]:
    fitted = figures["fitted"]
    if not fitted:
        return []
    quantiles = "; ".join(f"{q}: {says:.2f} and {is_:.2f}" for q, (says, is_) in fitted["quantiles"].items())
    return [
        "",
        "A second opinion: a generalised extreme value distribution, fitted on every second search, says of the other "
        f"half (quantile: fitted and measured) {quantiles}; Kolmogorov-Smirnov p = "
        f"{fitted['kolmogorov_smirnov_p']:.2f}. It puts a search above the needed score at "
        f"{max(fitted['chance_of_needed'], 1e-12):.0e} or less.",
    ]


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
