"""`vividstream eval swap`: opens what is asked for, reads every swap once, and makes a report of the readings."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from distill.errors import BadClip, NothingLeft, NotWritten
from distill.evaluate.by_file import ExpressionNet, Judge, PoseNet, open_judge
from distill.evaluate.clip_features import ClipNet, open_clip_net
from distill.evaluate.faces import FaceReader
from distill.evaluate.footage import PICTURES, Beginning, Footage, VideoFile, read_picture, videos_in
from distill.evaluate.identity import mean_face, same_network
from distill.evaluate.judge import judge_is_available
from distill.evaluate.look import Instruments, described_photos, read_swap
from distill.evaluate.measures import Read, measures
from distill.evaluate.origin import Origin, machine_facts, of_engine
from distill.evaluate.readings import Array, key_of
from distill.evaluate.readings import read as read_kept
from distill.evaluate.readings import write as keep
from distill.evaluate.settings import SwapEvalConfig
from distill.evaluate.sheet import sheet
from distill.evaluate.swap_report import SwapReport
from distill.evaluate.swaps import Swap, by_engine, on_disk, rendered
from engines import (
    EngineFault,
    Identity,
    IdentityStore,
    Rgb,
    SettingError,
    SwapSettings,
    UnknownEngine,
    engine_names,
    load,
    nearest,
)

Say = Callable[[str], None]
QUICK_CLIPS, QUICK_IDENTITIES, QUICK_FRAMES, QUICK_EVERY = 2, 2, 60, 6
TASK = Path("models/face_landmarker.task")  # under the data folder
SIZE_PX = 256  # to warm an engine up with


@dataclass(frozen=True, slots=True)
class Measured:
    """A report, the tiles for its picture sheet, and whether everybody in it was made up."""

    report: SwapReport
    tiles: Mapping[str, tuple[Rgb, Rgb]]
    synthetic: bool  # nobody in it exists


def run(config: SwapEvalConfig, say: Say) -> Measured:
    """Raises VividError for whatever was asked for and is not there; NothingLeft where no swap could be measured."""
    checked(config)
    with instruments_of(config, say) as instruments, swaps_of(config, say) as (swaps, origin, refused):
        read, frames, left_out = _read_all(swaps, instruments, origin, config.out, say)
        refused = [*refused, *left_out]
        if not read:
            raise NothingLeft("none of the swaps can be measured: " + "; ".join(refused), refused)
        gallery = gallery_of(config.gallery, instruments.judges, say)
        nets = [f"{net.kind}/{length}" for net in instruments.clip_nets for length in instruments.lengths]
        found = measures(read, [judge.name for judge in instruments.judges], nets, gallery)
        networks = {judge.name: judge.networks for judge in instruments.judges}
        report = SwapReport(
            name=config.name or _name_of(config),
            origin=origin.facts,
            instruments=_instrument_facts(config, instruments, gallery),
            machine=machine_facts(),
            measures=found,
            swaps=len(read),
            frames=frames,
            refused=refused,
            warnings=same_network(networks, origin.known_networks),
            inputs={swap.name: swap.key for swap in swaps},
        )
    tiles = {one.name: (one.readings.photo, one.readings.moments) for one in read}
    return Measured(report, tiles, all(swap.synthetic for swap in swaps))


def checked(config: SwapEvalConfig) -> None:
    """Raises SettingError or UnknownEngine for what cannot be, before anything is opened."""
    origins = [bool(config.clips), config.rendered, config.frames is not None]
    if sum(origins) != 1:
        raise SettingError(
            "what is to be measured? one of --clips VIDEO (swapped now), --rendered (people who do not exist, with "
            "their truth), --frames FOLDER (what another program made)"
        )
    if config.engine not in engine_names():
        raise UnknownEngine(f'unknown engine "{config.engine}"; {nearest(config.engine, engine_names())}')
    if config.fvd_sha256 and len(config.fvd_sha256) != len(config.fvd):
        raise SettingError("--fvd-sha256 is given once for each --fvd, in the same order")


def _name_of(config: SwapEvalConfig) -> str:
    return config.engine if config.frames is None else config.frames.resolve().name


def swap_settings(engine: str, pairs: Sequence[str]) -> SwapSettings:
    """Of KEY=VALUE words, without the label, which is no part of a swap. Raises SettingError."""
    values: dict[str, object] = {"engine": engine, "label": False}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        field = SwapSettings.model_fields.get(key)
        if not equals or field is None:
            raise SettingError(f'"{pair}" is not KEY=VALUE; {nearest(key, SwapSettings.model_fields)}')
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(Any if field.annotation is None else field.annotation)
            values[key] = adapter.validate_strings(text)
        except ValidationError as error:
            raise SettingError(f'setting "{key}": {error.errors()[0]["msg"]}') from error
    return SwapSettings.read(values)


@contextmanager
def instruments_of(config: SwapEvalConfig, say: Say) -> Iterator[Instruments]:
    """What looks, opened; what is not there and was not asked for is said, and its lines are left out."""
    shapes = config.blendshapes
    if shapes is None and (config.data / TASK).is_file():
        shapes = config.data / TASK
    if shapes is None:
        say("no file of blendshapes: expressions are not measured (--blendshapes face_landmarker.task)")
    wanted = config.judge or (("dlib",) if judge_is_available() else ())
    if not wanted:
        say("no judge of identity: pip install 'vividstream[eval]' brings one, or --judge arcface=FILE.onnx")
    with ExitStack() as stack:
        yield Instruments(
            faces=_until_the_end(stack, FaceReader(shapes)),
            judges=[_until_the_end(stack, open_judge(text)) for text in wanted],
            pose_net=None if config.hopenet is None else _until_the_end(stack, PoseNet(config.hopenet)),
            expression_net=None if config.deep3d is None else _until_the_end(stack, ExpressionNet(config.deep3d)),
            clip_nets=[_until_the_end(stack, net) for net in clip_nets(config)],
            lengths=config.lengths,
            every=QUICK_EVERY if config.quick and not config.rendered and config.every == 1 else config.every,
            rollout_s=config.rollout_s,
        )


class Closable(Protocol):
    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)


def _until_the_end(stack: ExitStack, one: Opened) -> Opened:
    stack.callback(one.close)
    return one


def clip_nets(config: SwapEvalConfig) -> list[ClipNet]:
    """Raises SettingError where a file is not the one that it has to be."""
    nets = [open_clip_net(text, config.lengths) for text in config.fvd]
    for net, expected in zip(nets, config.fvd_sha256):
        if net.sha256 != expected.lower():
            raise SettingError(f"{net.path}: its sha256 is {net.sha256}, not {expected}")
    return nets


@contextmanager
def swaps_of(config: SwapEvalConfig, say: Say) -> Iterator[tuple[list[Swap], Origin, list[str]]]:
    """What is to be read, where it comes from, and a line for each that cannot be."""
    if config.frames is not None:
        found, refused = on_disk(config.frames, say)
        yield found, Origin({"engine": "another program", "folder": str(config.frames)}), refused
        return
    settings = swap_settings(config.engine, config.set)
    session = load(settings)
    session.marker = None  # what the engine draws is measured, not the mark
    try:
        origin = of_engine(settings, session.why)
        session.warm_up(SIZE_PX, SIZE_PX)
        if config.rendered:
            yield rendered(session, origin.key, config.data, config.quick), origin, []
            return
        clips, refused = clips_of(config, say)
        yield by_engine(session, origin.key, clips, identities_of(config)), origin, refused
    finally:
        session.close()


def clips_of(config: SwapEvalConfig, say: Say) -> tuple[list[Footage], list[str]]:
    paths = videos_in(config.clips)
    if not paths:
        raise NothingLeft(f"no videos in {', '.join(map(str, config.clips))}")
    most = min(filter(None, (config.most_frames, QUICK_FRAMES if config.quick else None)), default=None)
    found: list[Footage] = []
    refused: list[str] = []
    for path in paths[:QUICK_CLIPS] if config.quick else paths:
        try:
            clip: Footage = VideoFile(path)
        except BadClip as error:
            refused.append(str(error))
            say(f"left out: {error}")
            continue
        found.append(clip if most is None else Beginning(clip, most))
    return found, refused


def identities_of(config: SwapEvalConfig) -> list[Identity]:
    store = IdentityStore(config.identities_dir)
    names = config.identity or tuple(store.built_in())[: QUICK_IDENTITIES if config.quick else None]
    return [store.load(name) for name in names]


def _read_all(
    swaps: Sequence[Swap], instruments: Instruments, origin: Origin, out: Path | None, say: Say
) -> tuple[list[Read], int, list[str]]:
    """Every swap's readings: kept ones where they are of the very same, else new ones, kept at once."""
    read: list[Read] = []
    refused: list[str] = []
    frames = fresh = 0
    start_s = time.monotonic()
    for done, swap in enumerate(swaps, 1):
        key = key_of([*swap.key, *_instrument_key(instruments)])
        path = None if out is None else out / "readings" / f"{file_name(swap.name)}.safetensors"
        readings = None if path is None else read_kept(path, key)
        what = "kept from before"
        if readings is None:
            fresh += 1
            try:
                readings = read_swap(swap, instruments)
            except (BadClip, EngineFault) as error:
                refused.append(f"{swap.name}: {error}" if swap.name not in str(error) else str(error))
                say(progress(done, len(swaps), swap.name, f"left out: {error}", time.monotonic() - start_s, fresh))
                continue
            if path is not None:
                keep(readings, path, key)
            what = f"{readings.drawn} of {readings.frames} frames drawn, {len(readings.looks)} looked at"
        frames += readings.frames
        read.append(Read(swap.name, swap.clip, swap.identity, readings))
        say(progress(done, len(swaps), swap.name, what, time.monotonic() - start_s, fresh))
    return read, frames, refused


def progress(done: int, swaps: int, name: str, what: str, elapsed_s: float, fresh: int) -> str:
    """`swap 3 of 24, NAME: 72 of 72 frames drawn; about 4 min left`. fresh: those that took time."""
    left_s = elapsed_s / max(fresh, 1) * (swaps - done)
    left = f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {left_s:.0f} s left"
    return f"swap {done} of {swaps}, {name}: {what}" + (f"; {left}" if done < swaps else "")


def file_name(name: str) -> str:
    """A swap's name as a file may be called."""
    return re.sub(r"[^\w.-]+", "_", name)[:100] or "swap"


def _instrument_key(instruments: Instruments) -> list[str]:
    """What the readings depend on besides the swap."""
    parts = [f"every={instruments.every}", f"rollout={instruments.rollout_s}", f"lengths={instruments.lengths}"]
    parts += [f"{judge.name}={','.join(judge.networks)}" for judge in instruments.judges]
    parts += [f"{net.kind}={net.sha256}" for net in instruments.clip_nets]
    parts += [net.sha256 for net in (instruments.pose_net, instruments.expression_net) if net is not None]
    return [*parts, instruments.faces.sha256]


def gallery_of(folder: Path | None, judges: Sequence[Judge], say: Say) -> dict[str, dict[str, Array]]:
    """JUDGE -> photo -> vector of people whom nobody wears. Photos without a face are said and left out."""
    if folder is None:
        return {}
    files = sorted(one for one in folder.iterdir() if one.suffix.lower() in PICTURES) if folder.is_dir() else []
    if not files:
        raise SettingError(f"{folder}: no photos in it")
    say(f"looking at {len(files)} photos of the gallery")
    found: dict[str, dict[str, Array]] = {judge.name: {} for judge in judges}
    without = 0
    for path in files:
        for name, vectors in described_photos([read_picture(path)], judges).items():
            without += not len(vectors)
            if len(vectors):
                found[name][f"gallery {path.name}"] = mean_face(vectors)
    if without:
        say(f"{without} photos of the gallery show no face")
    return found


def _instrument_facts(
    config: SwapEvalConfig, instruments: Instruments, gallery: Mapping[str, Mapping[str, Array]]
) -> dict[str, str]:
    facts = {f"judge {judge.name}": ", ".join(judge.networks) for judge in instruments.judges}
    facts |= {f"FVD's {net.kind}": f"{net.path.name} sha256 {net.sha256}" for net in instruments.clip_nets}
    facts["blendshapes"] = instruments.faces.sha256 or "none"
    for name, net in (("Hopenet", instruments.pose_net), ("Deep3D", instruments.expression_net)):
        if net is not None:
            facts[name] = net.sha256
    facts["looked at"] = f"one frame in {instruments.every}" if instruments.every > 1 else "every frame"
    if config.gallery is not None:
        facts["gallery"] = f"{max(map(len, gallery.values()), default=0)} other people of {config.gallery.name}"
    return facts


def write_sheet(measured: Measured, folder: Path) -> Path:
    """The picture sheet, sheet.jpg. Raises NotWritten."""
    path = folder / "sheet.jpg"
    try:
        sheet(measured.tiles, f"Swaps by {measured.report.name}").save(path, quality=88)
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror or error}") from error
    return path
