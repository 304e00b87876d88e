"""The invisible mark: is it found after what happens to videos, is it seen, what does it cost, what does it mistake?

    python -m benchmarks.marks --quick            12 clips: two minutes
    python -m benchmarks.marks --write            210 clips under 12 attacks
    python -m benchmarks.marks --null 20000       unmarked clips only: the null that the detector's alarm rests on

Clips are real ones, rendered people and swaps. A bit error is a coded bit that is read wrong at the place where the
mark was found, before the code corrects it.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise

import click
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.corpus import DATA, read_clip
from benchmarks.marked_clips import ATTACKS, FRAMES, Clip, Kind, clips
from benchmarks.report import PRIVATE, REPORTS, machine, mean, median, table, write_report
from engines import Marker, detect_mark, own_payload
from engines.marks.detect import (
    ALIGNED_LOOKS,
    NULL_WIDTH,
    SEARCHED_LOOKS,
    Gathered,
    aligned,
    correlate,
    searched,
    tail_log10,
)
from engines.types import Rgb

LOOKED_AT = 6
WANTED: dict[Kind, int] = {"rendered": 70, "real": 80, "swapped": 60}
QUICK: dict[Kind, int] = {"rendered": 4, "real": 5, "swapped": 3}
LEVELS = (3.0, 4.0, 5.0, 5.5, 6.0)  # at which the null's tail is held against the Gaussian's


@dataclass(frozen=True, slots=True)
class Quality:
    """What the mark does to a clip. flicker: root mean square of what it adds to frame differences, levels."""

    psnr_db: float
    ssim: float
    flicker: float


@dataclass(frozen=True, slots=True)
class Result:
    clip: str
    kind: str
    attack: str
    marked: bool
    read: bool
    false_positive_log10: float
    bit_errors: float | None
    took_s: float


def ssim(one: Rgb, other: Rgb) -> float:
    """Structural similarity of the brightness, Gaussian window of 1.5 pixels (Wang et al., 2004)."""
    weights = np.array([0.299, 0.587, 0.114])
    a, b = one @ weights, other @ weights

    def smooth(plane: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.asarray(gaussian_filter(plane, 1.5, truncate=3.5))

    mean_a, mean_b = smooth(a), smooth(b)
    spread = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    shared = smooth(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
    return float(np.mean(light * (2 * shared + 58.5225) / (spread + 58.5225)))


def quality(before: list[Rgb], after: list[Rgb]) -> Quality:
    added = [b.astype(np.float32) - a for a, b in zip(before[:4], after[:4])]
    error = float(np.mean([np.mean(plane**2) for plane in added]))
    flicker = math.sqrt(float(np.mean([np.mean((b - a) ** 2) for a, b in pairwise(added)])))
    return Quality(10 * math.log10(255**2 / error), ssim(before[0], after[0]), flicker)


def measured(clip: Clip) -> tuple[Quality, list[Result]]:
    payload = own_payload()
    after = clip.marked
    if after is None:
        after = [frame.copy() for frame in clip.frames]
        for frame in after:
            Marker(payload).apply(frame)
    results = []
    for name, attack in ATTACKS.items():
        attacked = attack(after)
        since_s = time.process_time()
        found = detect_mark(attacked, LOOKED_AT)
        took_s = time.process_time() - since_s
        right = found.payload == payload
        alarm = found.false_positive_log10
        results.append(Result(clip.name, clip.kind, name, found.marked, right, alarm, found.bit_errors, took_s))
    return quality(clip.frames, after), results


def cost_ms(height_px: int, width_px: int) -> float:
    """Processor time of marking one frame."""
    frame = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
    marker = Marker(own_payload())
    times = []
    for _ in range(101):
        since_s = time.process_time()
        marker.apply(frame)
        times.append(1e3 * (time.process_time() - since_s))
    return median(times[1:])


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


def null(count: int, searches: int, seed: int) -> dict[str, object]:
    """Scores of unmarked clips of one picture each: where an uncropped mark would lie, at every shift, in a search."""
    above, shifts = np.zeros(len(LEVELS)), 0
    at_place, maxima = [], []
    for number, picture in enumerate(unmarked(seed)):
        if number == count:
            break
        gathered = Gathered(1)
        gathered.add(picture)
        place = aligned(gathered.luma)
        at_place.append(place.score)
        scores = correlate(place.folded)[0]
        above += [(scores > level).sum() for level in LEVELS]
        shifts += scores.size
        if number < searches:
            maxima.append(searched(gathered.luma)[0].score)
    alarms = [tail_log10(score / NULL_WIDTH) + math.log10(SEARCHED_LOOKS) for score in maxima]
    return {
        "clips": count,
        "searches": len(maxima),
        "aligned_largest": max(at_place),
        "aligned_expected_largest": _quantile(1 / (ALIGNED_LOOKS * count)),
        "above": dict(zip(map(str, LEVELS), above / shifts)),
        "gaussian": {str(level): 10 ** tail_log10(level / NULL_WIDTH) for level in LEVELS},
        "search_mean": mean(maxima),
        "search_spread": float(np.std(maxima)) if maxima else float("nan"),
        "search_largest": max(maxima, default=float("nan")),
        "search_below_a_tenth": mean([alarm < -1 for alarm in alarms]),
        "search_below_a_hundredth": mean([alarm < -2 for alarm in alarms]),
    }


def _quantile(chance: float) -> float:
    """The score that a Gaussian exceeds with that chance."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail_log10(middle / NULL_WIDTH) > math.log10(chance) else (low, middle)
    return high


def summary(results: list[Result]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for attack in ATTACKS:
        of = [result for result in results if result.attack == attack]
        kinds = [[result.marked for result in of if result.kind == kind] for kind in ("rendered", "real", "swapped")]
        errors = [result.bit_errors for result in of if result.bit_errors is not None]
        weakest = sorted(result.false_positive_log10 for result in of)[-max(len(of) // 100, 1)]
        found = f"{sum(result.marked for result in of)}/{len(of)}"
        each = [f"{sum(kind)}/{len(kind)}" for kind in kinds]
        read = mean([result.read for result in of])
        took = median([result.took_s for result in of])
        rows.append((attack, found, *each, f"{100 * read:.1f} %", mean(errors), f"{weakest:.1f}", f"{took:.2f}"))
    return rows


def markdown(qualities: list[Quality], results: list[Result], costs: dict[str, float]) -> str:
    columns = ("after", "found", "rendered", "real", "swapped", "read", "bit errors", "weakest of 99 %", "s to find")
    count = len(qualities)
    dull = [quality.psnr_db for quality in qualities], [quality.ssim for quality in qualities]
    return "\n".join(
        [
            "# The invisible mark",
            "",
            f"`python -m benchmarks.marks`, {machine()}.",
            "",
            f"{count} clips of {FRAMES} frames, {LOOKED_AT} looked at. *found*: marked, at 1e-6 false alarms a clip. "
            "*read*: the payload, right to the last bit. *bit errors*: share of coded bits read wrong before the code "
            "corrects them, where it was read. *weakest of 99 %*: the power of ten of the false alarm that 99 % stay "
            "below (-6 is needed). *s to find*: processor time, median.",
            "",
            table(columns, summary(results)),
            "",
            "| | mean | worst clip |",
            "|---|---|---|",
            f"| PSNR, dB | {mean(dull[0]):.2f} | {min(dull[0]):.2f} |",
            f"| SSIM | {mean(dull[1]):.4f} | {min(dull[1]):.4f} |",
            f"| added to frame differences, levels (rms) | {mean([q.flicker for q in qualities]):.3f} | "
            f"{max(q.flicker for q in qualities):.3f} |",
            "",
            "Marking one frame, processor time on one core: "
            + ", ".join(f"{size} {cost:.2f} ms" for size, cost in costs.items())
            + ". On a GPU nothing has been measured.",
        ]
    )


def null_markdown(figures: dict[str, object]) -> str:
    above, gaussian = figures["above"], figures["gaussian"]
    assert isinstance(above, dict)
    assert isinstance(gaussian, dict)
    return "\n".join(
        [
            "# What unmarked clips score",
            "",
            f"`python -m benchmarks.marks --null {figures['clips']}`: {figures['clips']} unmarked clips of one picture "
            f"(parts of portraits and of real clips, scaled, mirrored, compressed), {figures['searches']} of them "
            "searched at every size and place.",
            "",
            "Share of all places of all clips that score above so many standard deviations, and the null's:",
            "",
            table(("above", "measured", "null"), [(k, f"{above[k]:.2e}", f"{gaussian[k]:.2e}") for k in above]),
            "",
            f"Where an uncropped mark would lie: largest score {figures['aligned_largest']:.2f}, the null expects "
            f"{figures['aligned_expected_largest']:.2f} at most. Largest score of a search: mean "
            f"{figures['search_mean']:.2f}, spread {figures['search_spread']:.2f}, largest "
            f"{figures['search_largest']:.2f}. Searches whose false alarm the null puts below 0.1: "
            f"{figures['search_below_a_tenth']:.3f}; below 0.01: {figures['search_below_a_hundredth']:.4f} (a sound "
            "null gives no more than 0.1 and 0.01).",
        ]
    )


@click.command()
@click.option("--quick", is_flag=True, help="12 clips")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
@click.option("--null", "count", type=int, default=0, help="only so many unmarked clips")
@click.option("--searches", type=int, default=500, help="how many of those are searched too")
@click.option("--seed", type=int, default=1)
@click.option("--minutes", type=float, default=1e9, help="take no further clip after so many")
def main(quick: bool, write: bool, count: int, searches: int, seed: int, minutes: float) -> None:
    """Measures the invisible mark."""
    folder = REPORTS if write else PRIVATE
    if count:
        figures = null(count, searches, seed)
        text = null_markdown(figures)
        click.echo(f"{text}\n{write_report('marks-null', text, figures, folder)}")
        return
    qualities, results, until_s = [], [], time.monotonic() + 60 * minutes
    for number, clip in enumerate(clips(QUICK if quick else WANTED)):
        seen, found = measured(clip)
        qualities.append(seen)
        results += found
        missed = [result.attack for result in found if not result.marked]
        if time.monotonic() > until_s:
            break
        click.echo(f"{number + 1} {clip.kind} {clip.name}: PSNR {seen.psnr_db:.1f}, SSIM {seen.ssim:.4f}; {missed}")
    costs = {f"{width}x{height}": cost_ms(height, width) for height, width in ((480, 640), (720, 1280), (1080, 1920))}
    text = markdown(qualities, results, costs)
    figures = {"quality": [asdict(item) for item in qualities], "results": [asdict(item) for item in results]}
    click.echo(f"{text}\n{write_report('marks', text, figures | {'cost_ms': costs, 'machine': machine()}, folder)}")


if __name__ == "__main__":
    main()
