"""`vividstream file`: a video file in, a swapped video file out.

    reader thread -> belt -> this thread: Session.step -> belt -> writer thread

Sound and subtitles ride on the same belts, so everything keeps the order of the input and every queue has a bound.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import TextIO

from engines import (
    EngineFault,
    Identity,
    IdentityError,
    IdentityStore,
    MediaError,
    Session,
    SessionState,
    SettingError,
    Status,
    instance_id,
    load,
)
from streamer.audit.log import record
from streamer.belt import Belt
from streamer.config import FileConfig
from streamer.consents import ConsentWatch, taken_off
from streamer.credentials import Swap, load_signer, sign_file
from streamer.errors import no_file
from streamer.file_report import (
    BROKEN_INPUT,
    BeltReport,
    FaceCounts,
    FileReport,
    FrameCounts,
    Outcome,
    PictureFacts,
)
from streamer.frame import Frame
from streamer.media import Companion, MediaReader
from streamer.muxer import MediaWriter, kind_of
from streamer.progress import Progress
from streamer.stage_times import StageTimes

BELT_ITEMS = 8  # pictures of a 4K film take 25 MB each
WITHOUT_IDENTITY = {"passthrough"}
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

log = logging.getLogger(__name__)

Item = Frame | Companion


@dataclass(slots=True)
class Stop:
    """Asked to stop, by which signal. Set from a signal handler, read by the threads."""

    asked: threading.Event = field(default_factory=threading.Event)
    by: int = 0


@dataclass(slots=True)
class Tally:
    """What a run counts; each part is written by one thread only."""

    read_times: StageTimes = field(default_factory=StageTimes)
    step_times: StageTimes = field(default_factory=StageTimes)
    write_times: StageTimes = field(default_factory=StageTimes)
    statuses: Counter[Status] = field(default_factory=Counter)
    faults: int = 0
    faces: int = 0
    frames_with_faces: int = 0
    most_faces: int = 0
    last: Frame | None = None
    taken_off: str = ""

    @property
    def frames(self) -> int:
        return self.statuses.total()

    def frame_counts(self, written: int) -> FrameCounts:
        return FrameCounts(
            stepped=self.frames,
            written=written,
            drawn=self.statuses[Status.DRAWN],
            warming=self.statuses[Status.WARMING],
            no_face=self.statuses[Status.NO_FACE],
            standby=self.statuses[Status.STANDBY],
            engine_faults=self.faults,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that takes part in one run."""

    config: FileConfig
    reader: MediaReader
    session: Session
    writer: MediaWriter
    stop: Stop
    identity: Identity | None  # that was worn at the beginning
    tally: Tally = field(default_factory=Tally)


def run_file(config: FileConfig, to: TextIO | None = None) -> FileReport:
    """Swaps one file, telling its progress to `to` (default: stderr).

    In the main thread, SIGINT, SIGTERM and SIGHUP end the run early with a playable file; a second one throws it away
    and raises KeyboardInterrupt. OUT appears whole or not at all.

    Raises MediaError for files that cannot be read or written, IdentityError, UnknownEngine or EngineUnavailable. The
    report's `exit_code` is for the process: 0, 3 where the input broke off, 128 and its number where a signal ended it.
    """
    to = to or sys.stderr
    _check_paths(config)
    load_signer()
    with closing(MediaReader(config.input, square_pixels=True)) as reader:
        identity = _load_identity(config)
        with closing(load(config.swap, identity)) as session:
            if identity is None and session.engine not in WITHOUT_IDENTITY:
                raise IdentityError("whose face? choose one with --identity; `vividstream identities` lists them")
            _warm_up(session, reader)
            if not config.swap.label:
                log.warning("the label that says that the face is synthetic is switched off for %s", config.output)
                record("label off", command="file", file=config.output.name, reason=config.swap.label_off_reason)
            with _stop_on_signals() as stop:
                run = Run(config, reader, session, MediaWriter(config.output, reader), stop, identity)
                with ConsentWatch(_store(config).load, lambda: session.identity, partial(_take_off, run)):
                    report = _complete(run, to)
    if config.report:
        report.write(config.report)
    return report


def _complete(run: Run, to: TextIO) -> FileReport:
    start_s = time.monotonic()
    progress = Progress(to, run.reader.facts.frames, start_s)
    try:
        belts = _swap_all(run, progress)
        if run.writer.pictures:
            run.writer.finish(lambda part: _seal(run, part))
    finally:
        run.writer.abandon()
    report = _report(run, belts, time.monotonic() - start_s)
    for warning in report.warnings:
        progress.say(f"warning: {warning}")
    progress.say(_summary(report))
    return report


def _seal(run: Run, part: Path) -> None:
    """Logs the export, then signs the complete file; the credentials name the line of the log."""
    config, tally, identity = run.config, run.tally, run.identity
    facts: dict[str, str | bool | int | None] = {
        "label": config.swap.label,
        "frames_drawn": tally.statuses[Status.DRAWN],
    }
    if identity is not None:
        agreement = identity.manifest.agreement
        facts["consent_sha256"] = identity.manifest.consent_sha256
        facts["consent_until"] = agreement.expires if agreement else None
        facts["person_exists"] = not identity.manifest.synthetic
    name = identity.name if identity else None
    head = record("export", file=config.output.name, identity=name, engine=run.session.engine, **facts)
    facts |= {"instance": f"{instance_id():08x}", "audit_sha256": head.sha256}
    changed = run.session.engine not in WITHOUT_IDENTITY
    sign_file(part, config.output, Swap(_version(), run.session.engine, changed, facts), config.signing)


def _swap_all(run: Run, progress: Progress) -> dict[str, BeltReport]:
    """Moves every item from the reader through the session to the writer. Raises what either thread raised."""
    read: Belt[Item] = Belt(BELT_ITEMS)
    swapped: Belt[Item] = Belt(BELT_ITEMS)
    state = run.session.init()
    with ThreadPoolExecutor(2, thread_name_prefix="file") as pool:
        reading = pool.submit(_read_all, run.reader, read, run.stop, run.tally.read_times)
        writing = pool.submit(_write_all, swapped, run.writer, run.tally.write_times)
        try:
            for item in read:
                if run.stop.asked.is_set():
                    break
                if isinstance(item, Frame):
                    item = _swap(run.session, state, item, run.tally)
                    progress.show(run.tally.frames, time.monotonic())
                if not swapped.put(item):
                    break
        except BaseException:
            swapped.abandon()
            raise
        finally:
            read.abandon()
            swapped.close()
    writing.result()
    reading.result()
    return {"read": BeltReport.of(read.statistics), "swapped": BeltReport.of(swapped.statistics)}


def _read_all(reader: MediaReader, read: Belt[Item], stop: Stop, times: StageTimes) -> None:
    try:
        since_s = time.perf_counter()
        for item in reader:
            if isinstance(item, Frame):
                times.add("decode", (time.perf_counter() - since_s) * 1e3)
            if stop.asked.is_set() or not read.put(item):
                return
            since_s = time.perf_counter()
    finally:
        read.close()


def _write_all(swapped: Belt[Item], writer: MediaWriter, times: StageTimes) -> None:
    try:
        for item in swapped:
            since_s = time.perf_counter()
            writer.write(item)
            if isinstance(item, Frame):
                times.add("encode", (time.perf_counter() - since_s) * 1e3)
    finally:
        swapped.abandon()


def _swap(session: Session, state: SessionState, frame: Frame, tally: Tally) -> Frame:
    """One step. A frame on which the engine fails becomes the standby picture: the real face must not show."""
    since_s = time.perf_counter()
    try:
        result = session.step(state, frame.rgb_HW3, frame.captured_s)
    except EngineFault as fault:
        log.warning("frame at %.3f s: %s", frame.captured_s, fault)
        tally.faults += 1
        tally.statuses[Status.STANDBY] += 1
        tally.last = frame
        return replace(frame, rgb_HW3=session.standby(frame.rgb_HW3))
    tally.step_times.add("step", (time.perf_counter() - since_s) * 1e3)
    tally.step_times.add_all(result.stage_ms)
    tally.statuses[result.status] += 1
    tally.faces += result.faces_found
    tally.frames_with_faces += result.faces_found > 0
    tally.most_faces = max(tally.most_faces, result.faces_found)
    tally.last = replace(frame, rgb_HW3=result.rgb_HW3)
    return tally.last


def _check_paths(config: FileConfig) -> None:
    """Everything that can be refused before any work is done."""
    kind_of(config.output)
    if config.input.parts[:1] in (("http:",), ("https:",)):
        raise MediaError(f"{config.input}: is an address; fetch the file first")
    if why := no_file(config.input, "a video file", pipes=True):
        raise MediaError(f"{config.input}: {why}")
    for path in filter(None, (config.output, config.report)):
        if not path.parent.is_dir():
            raise MediaError(f"{path}: there is no folder {path.parent}")
        if path.is_dir():
            raise MediaError(f"{path}: is a folder")
        if path.exists() and path.samefile(config.input):
            raise MediaError(f"{path}: is the input itself; write to another file")
        if path.exists() and not config.overwrite:
            raise MediaError(f"{path}: exists already; --overwrite replaces it")
        if not os.access(path.parent, os.W_OK):
            raise MediaError(f"{path}: the folder {path.parent} may not be written to")
    if config.report and config.report.resolve() == config.output.resolve():
        raise MediaError(f"{config.report}: the report and the video cannot be the same file")


def _load_identity(config: FileConfig) -> Identity | None:
    if config.identity is None:
        return None
    return _store(config).load(config.identity)


def _store(config: FileConfig) -> IdentityStore:
    return IdentityStore(config.identities_dir)


def _take_off(run: Run, worn: Identity, why: str) -> None:
    """Its consent ended: the rest of the film is the standby picture. In the thread that watches consents."""
    run.session.set_identity(None)
    run.tally.taken_off = why
    taken_off(worn, why, command="file", file=run.config.output.name)


def _warm_up(session: Session, reader: MediaReader) -> None:
    try:
        session.warm_up(reader.facts.height_px, reader.facts.width_px)
    except SettingError as error:
        raise MediaError(f"{reader.path}: {error}") from error


@contextmanager
def _stop_on_signals() -> Iterator[Stop]:
    """Outside the main thread, where Python takes no signals, only the caller can end the run."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _: FrameType | None) -> None:
        if stop.asked.is_set():
            raise KeyboardInterrupt
        stop.by = number
        stop.asked.set()
        with suppress(OSError):  # a terminal that was closed
            os.write(2, b"\nstopping: the file is being completed; once more throws it away\n")

    # What a shell or `nohup` told this process to ignore stays ignored.
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(run: Run, belts: dict[str, BeltReport], elapsed_s: float) -> FileReport:
    outcome, exit_code = _outcome(run)
    tally, facts, last = run.tally, run.reader.facts, run.tally.last
    return FileReport(
        version=_version(),
        outcome=outcome,
        exit_code=exit_code,
        settings=run.config,
        engine=run.session.engine,
        why=run.session.why,
        label=run.config.swap.label,
        picture=PictureFacts(
            width_px=facts.width_px,
            height_px=facts.height_px,
            seconds=float((last.pts + last.duration) * last.time_base) if last else 0.0,
            rate=float(facts.rate),
            turned_upright=facts.turned,
        ),
        frames=tally.frame_counts(run.writer.pictures - run.writer.pictures_left_out),
        faces=FaceCounts(
            frames_with_faces=tally.frames_with_faces, found=tally.faces, most_in_a_frame=tally.most_faces
        ),
        fps=round(tally.frames / elapsed_s, 2),
        elapsed_s=round(elapsed_s, 3),
        stages={**tally.read_times.summary(), **tally.step_times.summary(), **tally.write_times.summary()},
        belts=belts,
        sounds=tuple(run.writer.sounds),
        warnings=tuple(_warnings(run)),
    )


def _outcome(run: Run) -> tuple[Outcome, int]:
    """What became of the run, and the exit status of the process."""
    if run.stop.asked.is_set():
        return "stopped", 128 + run.stop.by
    if run.reader.broke_off:
        return "broken_input", BROKEN_INPUT
    return "complete", 0


def _warnings(run: Run) -> Iterator[str]:
    """What a person should know about the result."""
    reader, writer, tally = run.reader, run.writer, run.tally
    if reader.broke_off:
        yield f"{reader.path} {reader.broke_off}; what came before is written"
    if reader.damaged:
        yield f"{reader.path}: {reader.damaged} damaged packets were skipped or patched over"
    if reader.retimed:
        yield f"{reader.path}: {reader.retimed} pictures had no time of their own or an earlier one than before"
    for stream in (*reader.left_out, *writer.left_out):
        yield f"left out: {stream}"
    if writer.refused:
        yield f"{reader.path}: {writer.refused} damaged packets of sound or subtitles are left out"
    if writer.pictures_left_out:
        yield f"left out: {writer.pictures_left_out} pictures that follow faster than a gif can show"
    if reader.interlaced:
        yield "the input is interlaced; the result has whole pictures at the same rate"
    if reader.facts.colour.is_high_dynamic_range:
        yield "the input is HDR with more than 8 bits; the result keeps its colours in 8 bits"
    if tally.taken_off:
        yield f"{tally.taken_off}; from then on the result is the standby picture"
    if tally.faults:
        yield f"the engine failed on {tally.faults} frames, which show the standby picture"
    if tally.frames and not tally.statuses[Status.DRAWN]:
        seen = "a face was seen but could not be drawn" if tally.faces else "no face was found"
        yield f"{seen} in any frame: the whole result is the standby picture"
    if not writer.pictures:
        yield "stopped before the first picture: nothing was written"


def _summary(report: FileReport) -> str:
    frames = report.frames
    parts = [f"{frames.drawn} drawn"]
    parts += [f"{count} {name}" for name, count in (
        ("held", frames.no_face), ("standby", frames.standby + frames.warming)
    ) if count]  # fmt: skip
    took = f"{frames.stepped} frames in {report.elapsed_s:.1f} s ({report.fps:.1f} fps)"
    return f"{report.settings.output}: {took}, {', '.join(parts)}; engine {report.engine}"


def _version() -> str:
    try:
        return version("vividstream")
    except PackageNotFoundError:
        return "not installed"
