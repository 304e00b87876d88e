"""What the presets of the settings file cost and look like, against the defaults.

    python -m benchmarks.presets            640x480 and 1280x720, a test pattern and a person: 1 min
    python -m benchmarks.presets --quick    640x480, the pattern, fewer pictures: 10 s
    python -m benchmarks.presets --write

Each preset codes the same pictures, thirty a second, with both encoders at one rate (1 Mbit/s at 640x480, 2.5 at
1280x720; a preset that allows less gets what it allows). They take turns picture by picture, so whatever else the
machine does meets them alike. cpu: of coding one picture, all its threads; "of default": its share of the default's.
PSNR-Y: against the pictures that went in.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from benchmarks.corpus import DATA
from benchmarks.encoders import CLIP, COUNT, QUICK_COUNT, SIZES, Figures, Ours, Trial, figures, pattern, person, run
from benchmarks.report import machine, table, write_report
from streamer.encoding.h264 import H264Encoder
from streamer.encoding.settings import EncodingSettings
from streamer.encoding.vp8 import Vp8Encoder
from streamer.settings_file.presets import PRESETS

HEAD = ("preset", "codec", "kbit/s", "cpu ms", "of default", "PSNR-Y dB")
DEFAULT = "none"


def trials(bits_per_s: int) -> list[Trial]:
    """Both encoders as each preset sets them, and as they are without one."""
    found = []
    for name in (DEFAULT, *PRESETS):
        values = PRESETS[name].values.get("encoding", {}) if name != DEFAULT else {}
        settings = EncodingSettings.read({**values, "hardware_encoder": "no"})
        rate = min(bits_per_s, settings.max_kbps * 1000)
        for codec, make in (
            ("VP8", partial(Vp8Encoder, settings, rate)),
            ("H.264", partial(H264Encoder, settings, rate)),
        ):
            found.append(Trial(f"{name} {codec}", Ours(make())))
    return found


def rows(found: list[Figures]) -> list[tuple[str, ...]]:
    """A line for each, with what it takes of the default's processor time."""
    usual = {one.encoder.split()[1]: one.cpu_ms for one in found if one.encoder.startswith(DEFAULT)}
    lines: list[tuple[str, ...]] = []
    for one in found:
        name, codec = one.encoder.split()
        share = f"{one.cpu_ms / usual[codec]:.2f}"
        lines.append((name, codec, f"{one.kbit_s:.0f}", f"{one.cpu_ms:.1f}", share, f"{one.psnr_db:.1f}"))
    return lines


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="one size, the pattern only")
@click.option("--write", is_flag=True, help="writes docs/benchmarks")
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="where the clips are")
def main(quick: bool, write: bool, data: Path) -> None:
    count = QUICK_COUNT if quick else COUNT
    text, kept = [f"# Presets\n\n{machine()}. {count} pictures. `python -m benchmarks.presets`\n"], []
    for (width_px, height_px), (rate, _) in list(reversed(SIZES.items()))[: 1 if quick else None]:
        films = {"pattern": pattern(width_px, height_px, count)}
        if not quick and (data / CLIP).exists():
            films["person"] = person(data / CLIP, width_px, height_px, count)
        for film, frames in films.items():
            these = trials(rate)
            run(frames, these, rate)
            found = [figures(trial, frames, film) for trial in these if not trial.broken]
            kept += found
            text += [f"\n## {width_px}x{height_px}, {film}, {rate // 1000} kbit/s\n", table(HEAD, rows(found))]
            click.echo("\n".join(text[-2:]))
    if write:
        click.echo(write_report("presets", "\n".join(text), {"runs": [asdict(one) for one in kept]}))


if __name__ == "__main__":
    main()
