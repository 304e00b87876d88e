"""Many videos: here, in processes, or on a Ray cluster, all with the same function; and what a rerun has to do."""

from __future__ import annotations

import importlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from distill.errors import BadClip, NothingLeft
from distill.prepare.decouple import Decoupler
from distill.prepare.process import Task, VideoReport, hashed, prepare_video
from distill.prepare.settings import PrepareSettings
from distill.prepare.state import Record
from engines import EngineUnavailable

POLL_S = 0.2
Show = Callable[[int, int], None]  # videos done, frames read


@dataclass(slots=True)
class Outcome:
    """What a run found and did. `refused` and `broke_off` (not wholly used) hold lines that name the file."""

    done: list[VideoReport] = field(default_factory=list)
    already: int = 0
    refused: list[str] = field(default_factory=list)
    broke_off: list[str] = field(default_factory=list)
    remade: list[str] = field(default_factory=list)
    clips: int = 0  # in the folder, those of earlier runs included
    twins: int = 0  # of those clips, how many have one


def prepare(videos: Sequence[Path], settings: PrepareSettings, show: Show | None = None) -> Outcome:
    """Prepares every video that the folder does not hold already. The same call again goes on where it was ended.

    Raises SettingError, BadShard and NotWritten (the folder cannot be used), NothingLeft where not one of the videos
    could be used, now or before.
    """
    record = Record.load(settings)
    outcome = Outcome(remade=record.remade)
    tasks: dict[str, Task] = {}
    twice: list[tuple[str, Path]] = []
    for video in videos:
        try:
            sha256 = hashed(video)
        except BadClip as error:
            outcome.refused.append(str(error))
            continue
        if sha256 in record.reports:
            outcome.already += 1
            _note(record.reports[sha256], video, outcome)
        elif sha256 in tasks:
            twice.append((sha256, video))
        else:
            tasks[sha256] = Task(video, sha256, settings)
    if settings.decoupler is not None and tasks:
        Decoupler(settings).close()  # what is wrong with it is said before the first video is read
    way = _on_cluster if settings.cluster else _in_processes if settings.workers > 1 else _here
    for report in way(list(tasks.values()), settings.workers, show or (lambda videos, frames: None)):
        if report.sha256:
            record.add(report)
        outcome.done.append(report)
        _note(report, Path(report.video), outcome)
    for sha256, video in twice:
        if sha256 in record.reports:
            outcome.already += 1
            _note(record.reports[sha256], video, outcome)
    outcome.clips = sum(one.clips for one in record.reports.values())
    outcome.twins = sum(one.twins for one in record.reports.values())
    if not outcome.clips:
        raise NothingLeft(f"nothing could be made of {len(videos)} videos", outcome.refused)
    return outcome


def _note(report: VideoReport, video: Path, outcome: Outcome) -> None:
    """Under the name that the video has now: the report may be of an earlier run, or of the same content elsewhere."""
    if report.refused:
        outcome.refused.append(f"{video}: {report.refused.removeprefix(f'{report.video}: ')}")
    elif report.broke_off:
        outcome.broke_off.append(f"{video}: {report.broke_off}")


def _here(tasks: list[Task], workers: int, show: Show) -> Iterator[VideoReport]:
    frames = done = 0

    def count(more: int) -> None:
        nonlocal frames
        frames += more
        show(done, frames)

    for done, task in enumerate(tasks):  # noqa: B007, `count` shows it
        yield prepare_video(task, count)
    show(len(tasks), frames)


_frames_read: Synchronized[int] | None = None  # of this worker process; set by `_start`


def _start(frames_read: Synchronized[int]) -> None:
    global _frames_read
    _frames_read = frames_read


def _work(task: Task) -> VideoReport:
    def count(more: int) -> None:
        if _frames_read is not None:
            with _frames_read.get_lock():
                _frames_read.value += more

    return prepare_video(task, count)


def _in_processes(tasks: list[Task], workers: int, show: Show) -> Iterator[VideoReport]:
    """Processes are spawned, not forked: the landmark nets hold threads. One that dies loses its video only."""
    context = multiprocessing.get_context("spawn")
    frames_read: Synchronized[int] = context.Value("q", 0)
    left, done = list(tasks), 0
    while left:
        died: list[Task] = []
        with _ending(ProcessPoolExecutor(min(workers, len(left)), context, _start, (frames_read,))) as pool:
            running = {pool.submit(_work, task): task for task in left}
            left = []
            waiting = set(running)
            while waiting:
                finished, waiting = wait(waiting, POLL_S, FIRST_COMPLETED)
                for future in finished:
                    try:
                        report = future.result()
                    except BrokenProcessPool:
                        died.append(running[future])
                        continue
                    done += 1
                    yield report
                show(done, frames_read.value)
        if len(died) == 1 or (died and workers == 1):
            yield _lost(died[0])
            left = died[1:]
        else:  # whose fault it was is not known: one after the other
            left, workers = died, 1


@contextmanager
def _ending(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Ends with the videos that are being read. Left by itself a pool would read all others first, disk full or not."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _lost(task: Task) -> VideoReport:
    """Without a sha256: it is not recorded, so a rerun tries again."""
    why = f"{task.video}: the process that read it died"
    return VideoReport(str(task.video), "", task.settings.consent, task.settings.licence, refused=why)


def _on_cluster(tasks: list[Task], workers: int, show: Show) -> Iterator[VideoReport]:
    """Ray Data: the cluster decides how many run at once. The output folder has to be one that all machines share."""
    try:
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise EngineUnavailable(f"Ray cannot start ({error}); pip install 'vividstream[cluster]'") from error
    if not tasks:
        return
    rows: Any = data.from_items([{"task": task.to_json()} for task in tasks], override_num_blocks=len(tasks))
    frames = 0
    for done, row in enumerate(rows.map(_work_row).iter_rows(), 1):
        report = VideoReport.from_json(json.loads(row["report"]))
        frames += report.frames
        show(done, frames)
        yield report


def _work_row(row: dict[str, str]) -> dict[str, str]:
    return {"report": json.dumps(prepare_video(Task.from_json(row["task"])).as_json())}
