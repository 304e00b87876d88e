"""The invisible mark: is it found after what happens to videos, is it seen, what does it cost, what does it mistake?

    python -m benchmarks.marks --quick            12 clips: three minutes
    python -m benchmarks.marks --write            210 clips under 12 attacks, 20,000 unmarked pictures: 25 minutes
    python -m benchmarks.marks --write --resume out/marks.jsonl --null out/marks-null.json      the same, in parts

Clips are real ones, rendered people and swaps. A bit error is a coded bit that is read wrong at the place where the
mark was found, before the code corrects it.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks import marks_flicker, marks_null
from benchmarks.marked_clips import ATTACKS, FRAMES, QUARTER, Clip, Kind, clips, on_a_tripod
from benchmarks.report import PRIVATE, REPORTS, machine, mean, median, table, write_report
from engines import Marker, detect_mark, own_payload
from engines.types import Rgb

LOOKED_AT = 12
WANTED: dict[Kind, int] = {"rendered": 70, "real": 75, "swapped": 65}
QUICK: dict[Kind, int] = {"rendered": 4, "real": 5, "swapped": 3}
COLUMNS = ("after", "found", "rendered", "real", "swapped", "read", "bit errors", "weakest of 99 %", "s to find")


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


def quarters_of_still_ones(count: int) -> tuple[int, int]:
    """Of so many close-ups in which nothing moves: in how many quarters the mark is found, and read."""
    found = read = 0
    for clip in on_a_tripod(count):
        after = [frame.copy() for frame in clip.frames]
        for frame in after:
            Marker(own_payload()).apply(frame)
        finding = detect_mark(ATTACKS[QUARTER](after), LOOKED_AT)
        found += finding.marked
        read += finding.payload == own_payload()
    return found, read


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


def markdown(
    qualities: list[Quality], rows: list[tuple[object, ...]], costs: dict[str, float], still: tuple[int, int, int]
) -> str:
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
            "corrects them, where it was read. None of the clips was shown to the detector while it was made, but "
            "three of its portraits (82, 92, 172) while the strength in the dark was chosen. The embedding is not held "
            "out: how much less is added to what is bright was chosen on 66 of these clips, by flicker, SSIM and what "
            "was found on seven of them. *weakest "
            "of 99 %*: the power of ten of the false alarm that 99 % stay below (-6 is needed). *s to find*: processor "
            "time, median.",
            "",
            table(COLUMNS, rows),
            "",
            f"A quarter of a close-up in which nothing moves at all (a camera on a tripod before a photograph), "
            f"{QUARTER}: {still[0]} of {still[2]} found, {still[1]} read.",
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


@dataclass(frozen=True, slots=True)
class Measured:
    """All of one clip, as it is kept between runs."""

    clip: str
    kind: Kind
    quality: Quality
    results: list[Result]


def kept(path: Path | None) -> list[Measured]:
    """What an earlier run wrote, one line a clip."""
    if path is None or not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Measured(one["clip"], one["kind"], Quality(**one["quality"]), [Result(**each) for each in one["results"]])
        for one in lines
    ]


def measure_all(wanted: dict[Kind, int], resume: Path | None, minutes: float) -> list[Measured]:
    done, until_s = kept(resume), time.monotonic() + 60 * minutes
    if minutes <= 0:
        return done
    already = {kind: sum(one.kind == kind for one in done) for kind in wanted}
    for clip in clips(wanted, already):
        seen, found = measured(clip)
        done.append(Measured(clip.name, clip.kind, seen, found))
        if resume is not None:
            with resume.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done[-1])) + "\n")
        missed = [result.attack for result in found if not result.marked]
        click.echo(f"{len(done)} {clip.kind} {clip.name}: PSNR {seen.psnr_db:.1f}, SSIM {seen.ssim:.4f}; {missed}")
        if time.monotonic() > until_s:
            break
    return done


@click.command()
@click.option("--quick", is_flag=True, help="12 clips, few unmarked ones")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
@click.option("--resume", type=click.Path(path_type=Path), default=None, help="keeps each clip here, and goes on")
@click.option("--null", "null_file", type=click.Path(path_type=Path), default=None, help="of benchmarks.marks_null")
@click.option("--seed", type=int, default=1)
@click.option("--minutes", type=float, default=1e9, help="take no further clip after so many; 0: report what was kept")
@click.option("--flicker-clips", type=int, default=86, help="in how many it is asked whether the mark flickers")
def main(
    quick: bool,
    write: bool,
    resume: Path | None,
    null_file: Path | None,
    seed: int,
    minutes: float,
    flicker_clips: int,
) -> None:
    """Measures the invisible mark."""
    done = measure_all(QUICK if quick else WANTED, resume, minutes)
    results = [result for one in done for result in one.results]
    qualities = [one.quality for one in done]
    costs = {f"{width}x{height}": cost_ms(height, width) for height, width in ((480, 640), (720, 1280), (1080, 1920))}
    flickers = marks_flicker.measure(3 if quick else flicker_clips)
    rows, tried = summary(results), 5 if quick else 16
    still = (*quarters_of_still_ones(tried), tried)
    if null_file is not None:
        unmarked = json.loads(null_file.read_text(encoding="utf-8"))
    else:
        unmarked = marks_null.null(*((500, 20) if quick else (20_000, 500)), seed)
    text = "\n\n".join(
        [markdown(qualities, rows, costs, still), marks_flicker.markdown(flickers), marks_null.markdown(unmarked)]
    )
    figures = {
        "clips": {kind: sum(one.kind == kind for one in done) for kind in WANTED},
        "attacks": [dict(zip(COLUMNS, row)) for row in rows],
        "quarters_of_still_close_ups": dict(zip(("found", "read", "tried"), still)),
        "missed": [f"{one.clip}: {one.attack}" for one in results if not one.marked],
        "quality": {
            "psnr_db": spread_of([one.psnr_db for one in qualities]),
            "ssim": spread_of([one.ssim for one in qualities]),
            "flicker_levels": spread_of([one.flicker for one in qualities]),
        },
        "cost_ms": costs,
        "flicker": [asdict(one) for one in flickers],
        "null": {key: value for key, value in unmarked.items() if key != "maxima"},
        "machine": machine(),
    }
    click.echo(f"{text}\n{write_report('marks', text, figures, PRIVATE if not write else REPORTS)}")


def spread_of(values: list[float]) -> dict[str, float]:
    return {"mean": mean(values), "least": min(values), "most": max(values)}


if __name__ == "__main__":
    main()
