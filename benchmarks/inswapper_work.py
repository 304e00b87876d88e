"""Frames a second of an engine against work of inswapper's size, in ONNX Runtime, on the same machine, in turns.

    python -m benchmarks.inswapper_work                     tiny and proxy: 2 min on 2 cores
    python -m benchmarks.inswapper_work --quick             two turns: 30 s
    python -m benchmarks.inswapper_work --engine tiny --write

inswapper_128 itself may not be had: a graph of its structure with random weights is (target 128 px, source 512 numbers,
three convolutions down to 1024 x 32 x 32, twelve convolutions there, each normalised and styled, and up again), 138
million weights, float32, as it is published. Its 174.7 "GFLOP" are multiply-adds. Counted as two operations each, a
graph of the same layers with three of the twelve has as many: both are measured, and the smaller one is what is held
against the wish of eight times. Of an engine: the whole `Session.step` at 640x480 on the puppet of `vividstream bench`,
and its network alone, where it has one. Of inswapper: the network alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import click
import numpy as np

from benchmarks.report import PRIVATE, REPORTS, machine, median, read_settings, table, write_report
from benchmarks.wanted import HEAD as WANTED_HEAD
from benchmarks.wanted import Line
from engines import IdentityStore, Session, VividError, load
from engines.bench.measure import SETTLE_STEPS, there_and_back
from engines.bench.puppet import Puppet
from engines.graph import GraphSpec, TensorSpec
from engines.runtimes.ort import OrtFile
from engines.types import Floats, Rgb

SIDE_PX, SOURCE, WIDTH = 128, 512, 1024
WHOLE, HALF = 12, 3  # styled convolutions: inswapper's own, and as many as make 174.7 G single operations
WEARER, WORN, FPS = "amara", "henrik", 25.0
STEPS_A_TURN = 12
TIMES = 8.0


@dataclass(frozen=True, slots=True)
class Conv:
    """One convolution: channels in and out, kernel, stride, and the side of what comes out."""

    name: str
    into: int
    out: int
    kernel_px: int
    stride: int
    side_px: int

    @property
    def multiply_adds(self) -> int:
        return self.into * self.out * self.kernel_px**2 * self.side_px**2


def convolutions(styled: int) -> tuple[Conv, ...]:
    """All of the graph, in order."""
    side, low = SIDE_PX, SIDE_PX // 4
    return (
        Conv("down0", 3, WIDTH // 8, 7, 1, side),
        Conv("down1", WIDTH // 8, WIDTH // 4, 3, 1, side),
        Conv("down2", WIDTH // 4, WIDTH // 2, 3, 2, side // 2),
        Conv("down3", WIDTH // 2, WIDTH, 3, 2, low),
        *(Conv(f"styled{number}", WIDTH, WIDTH, 3, 1, low) for number in range(styled)),
        Conv("up0", WIDTH, WIDTH // 2, 3, 1, side // 2),
        Conv("up1", WIDTH // 2, WIDTH // 4, 3, 1, side),
        Conv("up2", WIDTH // 4, WIDTH // 8, 3, 1, side),
        Conv("up3", WIDTH // 8, 3, 7, 1, side),
    )


def multiply_adds(styled: int) -> int:
    """Of one frame, products with the source's numbers included."""
    return sum(conv.multiply_adds for conv in convolutions(styled)) + styled * SOURCE * 2 * WIDTH


def weights(styled: int) -> Iterator[tuple[str, Floats]]:
    """Random ones, by name, that leave pictures about as large as they are."""
    rng = np.random.default_rng(0)
    for conv in convolutions(styled):
        shape = (conv.out, conv.into, conv.kernel_px, conv.kernel_px)
        spread = np.float32((conv.into * conv.kernel_px**2) ** -0.5)
        yield f"{conv.name}.weight", spread * rng.standard_normal(shape, np.float32)
        yield f"{conv.name}.bias", np.zeros(conv.out, np.float32)
        if conv.name.startswith("styled"):
            yield f"{conv.name}.style", rng.standard_normal((SOURCE, 2 * WIDTH), np.float32) * np.float32(0.04)
    yield "ones", np.ones(WIDTH, np.float32)
    yield "zeros", np.zeros(WIDTH, np.float32)


def write_graph(path: Path, styled: int) -> GraphSpec:
    """The ONNX file; gives back what it takes and gives."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = []

    def add(kind: str, inputs: Sequence[str], name: str, **more: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **more))
        return name

    def conv(of: Conv, taken: str) -> str:
        pad = [of.kernel_px // 2] * 4
        if of.kernel_px == 7:  # reflected at the picture's edge
            taken, pad = add("Pad", (taken, "pads"), f"{of.name}.pad", mode="reflect"), [0] * 4
        given = (taken, f"{of.name}.weight", f"{of.name}.bias")
        return add("Conv", given, of.name, kernel_shape=[of.kernel_px] * 2, strides=[of.stride] * 2, pads=pad)

    def styled_conv(of: Conv, taken: str) -> str:
        normal = add("InstanceNormalization", (conv(of, taken), "ones", "zeros"), f"{of.name}.normal")
        style = add("MatMul", ("source", f"{of.name}.style"), f"{of.name}.styles")
        column = add("Reshape", (style, "column"), f"{of.name}.column")
        halves = [f"{of.name}.by", f"{of.name}.plus"]
        nodes.append(helper.make_node("Split", [column], halves, name=f"{of.name}.halves", axis=1, num_outputs=2))
        return add("Add", (add("Mul", (normal, halves[0]), f"{of.name}.scaled"), halves[1]), f"{of.name}.out")

    shown, kept = "target", ""
    for one in convolutions(styled):
        if one.name.startswith("styled"):
            second = int(one.name[6:]) % 2 == 1
            kept = kept if second else shown
            shown = styled_conv(one, shown)
            shown = add("Add", (shown, kept), f"{one.name}.sum") if second else add("Relu", (shown,), f"{one.name}.on")
            continue
        if one.name in ("up0", "up1"):
            shown = add("Resize", (shown, "", "twice"), f"{one.name}.twice", mode="linear")
        shown = conv(one, shown)
        last = one.name == "up3"
        shown = add("Tanh", (shown,), "output") if last else add("LeakyRelu", (shown,), f"{one.name}.on", alpha=0.2)
    picture, source = (1, 3, SIDE_PX, SIDE_PX), (1, SOURCE)
    constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        **dict(weights(styled)),
        "pads": np.array([0, 0, 3, 3, 0, 0, 3, 3], np.int64),
        "column": np.array([1, 2 * WIDTH, 1, 1], np.int64),
        "twice": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    floats = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    taken = [floats("target", shape=picture), floats("source", shape=source)]
    graph = helper.make_graph(nodes, "inswapper-size", taken, [floats("output", shape=picture)], held)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    inputs = (TensorSpec("target", picture), TensorSpec("source", source))
    return GraphSpec("inswapper-size", inputs, (TensorSpec("output", picture),))


@dataclass(slots=True)
class Timed:
    """Milliseconds of each frame."""

    name: str
    whole_ms: list[float] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)  # empty for geometry alone
    cpu_ms: list[float] = field(default_factory=list)


class Big:
    """Work of inswapper's size, a frame at a time, on all threads."""

    def __init__(self, folder: Path, styled: int, threads: int | None) -> None:
        path = folder / f"{styled}.onnx"
        self._file = OrtFile(path, write_graph(path, styled), threads=threads)
        path.unlink()  # half a gigabyte
        self._state = self._file.init()
        rng = np.random.default_rng(1)
        self._given: Mapping[str, Floats] = {
            "target": rng.random((1, 3, SIDE_PX, SIDE_PX), np.float32),
            "source": rng.standard_normal((1, SOURCE), np.float32),
        }
        label = "as published" if styled == WHOLE else "of half the operations"
        self.timed = Timed(f"inswapper-size, {label}")
        self.step(count_it=False)

    def step(self, count_it: bool = True) -> Floats:
        cpu_s, since_ns = time.process_time(), time.perf_counter_ns()
        shown: Floats = self._file.run(self._state, self._given, {})["output"]
        if count_it:
            self.timed.whole_ms.append((time.perf_counter_ns() - since_ns) / 1e6)
            self.timed.network_ms.append(self.timed.whole_ms[-1])
            self.timed.cpu_ms.append(1e3 * (time.process_time() - cpu_s))
        return shown

    def close(self) -> None:
        self._file.close()


class Ours:
    """An engine of this project: whole steps."""

    def __init__(self, engine: str, settings: Sequence[str], shown: Sequence[Rgb]) -> None:
        self.session: Session = load(read_settings(engine, settings), IdentityStore(None).load(WORN))
        self.session.warm_up(*shown[0].shape[:2])
        self.timed, self._shown, self._frame = Timed(engine), shown, 0
        self._state = self.session.init()
        for _ in range(SETTLE_STEPS):
            self.step(count_it=False)

    def step(self, count_it: bool = True) -> None:
        cpu_s, since_ns = time.process_time(), time.perf_counter_ns()
        result = self.session.step(self._state, there_and_back(self._shown, self._frame), self._frame / FPS)
        took_ms, self._frame = (time.perf_counter_ns() - since_ns) / 1e6, self._frame + 1
        if count_it:
            self.timed.whole_ms.append(took_ms)
            self.timed.cpu_ms.append(1e3 * (time.process_time() - cpu_s))
            if "graph" in result.stage_ms:
                self.timed.network_ms.append(result.stage_ms["graph"])


Part = Literal["whole", "network", "cpu"]


def times_faster(mine: Timed, big: Timed, part: Part = "whole") -> float:
    """Frames a second of an engine over those of the big work, by medians; NaN where the engine has no network.

    part: of whole steps, of the networks alone, or by processor time, which other programs hardly disturb.
    """
    took = {"whole": mine.whole_ms, "network": mine.network_ms, "cpu": mine.cpu_ms}[part]
    theirs = big.cpu_ms if part == "cpu" else big.whole_ms
    return median(theirs) / median(took) if took and median(took) > 0 else float("nan")


def wanted(mine: Timed, half: Timed) -> list[Line]:
    return [Line(f"{mine.name}: frames/s over inswapper-size work", times_faster(mine, half), TIMES, at_most=False)]


HEAD = ("", "ms p50", "p95", "frames/s", "cpu ms", "network alone, ms", "G multiply-adds")
RATIOS = ("frames/s over", "whole step", "network alone", "whole step, by processor time")


def report(ours: Sequence[Timed], bigs: Mapping[int, Timed], threads: str) -> str:
    """The tables."""
    rows = [
        (
            one.name, f"{median(one.whole_ms):.1f}", f"{np.percentile(one.whole_ms, 95):.1f}",
            f"{1e3 / median(one.whole_ms):.2f}", f"{median(one.cpu_ms):.1f}",
            f"{median(one.network_ms):.1f}" if one.network_ms else "-", count,
        )
        for one, count in (
            *((timed, f"{multiply_adds(styled) / 1e9:.1f}") for styled, timed in bigs.items()),
            *((timed, "-") for timed in ours),
        )
    ]  # fmt: skip
    lines = [line for one in ours for line in wanted(one, bigs[HALF])]
    ratios = [
        (f"{one.name} / {big.name}", *(times_faster(one, big, part) for part in get_args(Part)))
        for one in ours
        for big in bigs.values()
    ]
    return "\n".join(
        [
            "# Frames a second against work of inswapper's size", "", f"{machine()}. {threads}.", "",
            table(HEAD, rows), "", table(RATIOS, ratios), "", table(WANTED_HEAD, [line.row() for line in lines]), "",
            f"Medians of {min(len(one.whole_ms) for one in ours)} steps of each engine and "
            f"{min(len(one.whole_ms) for one in bigs.values())} frames of each network, in turns.",
        ]
    )  # fmt: skip


@click.command(help=__doc__)
@click.option(
    "--engine", "engines", multiple=True, default=("tiny", "proxy"), show_default=True, help="may be repeated"
)
@click.option("--settings", multiple=True, help="key=value of the swap's settings, for all; may be repeated")
@click.option("--turns", type=click.IntRange(1), default=12, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="of the big work [default: as many as there are cores]")
@click.option("--quick", is_flag=True, help="two turns")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(
    engines: tuple[str, ...], settings: tuple[str, ...], turns: int, threads: int | None, quick: bool, write: bool
) -> None:
    shown = list(Puppet(IdentityStore(None).load(WEARER), 480, 640, FPS).frames(50))
    ours: list[Ours] = []
    bigs: dict[int, Big] = {}
    try:
        for engine in engines:
            ours.append(Ours(engine, settings, shown))
            click.echo(f"{engine}: {ours[-1].session.why}", err=True)
        with tempfile.TemporaryDirectory() as name:
            bigs = {styled: Big(Path(name), styled, threads) for styled in (WHOLE, HALF)}
        for turn in range(2 if quick else turns):
            for big in bigs.values():
                big.step()
            for one in ours if turn % 2 == 0 else reversed(ours):
                for _ in range(STEPS_A_TURN):
                    one.step()
    except VividError as error:
        raise click.ClickException(str(error)) from error
    finally:
        for one in ours:
            one.session.close()
        for big in bigs.values():
            big.close()
    timed = {styled: big.timed for styled, big in bigs.items()}
    text = report([one.timed for one in ours], timed, f"{threads or 'all'} threads for the big work")
    click.echo(text)
    figures = {
        "engines": [asdict(one.timed) for one in ours],
        "big": {multiply_adds(styled): asdict(one) for styled, one in timed.items()},
    }
    click.echo(f"written: {write_report('inswapper-work', text, figures, REPORTS if write else PRIVATE)}")


if __name__ == "__main__":
    main()
