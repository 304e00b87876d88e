"""A whole run, through the public function: what is written, what is reported, what a failing engine shows."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import (
    EngineFault,
    IdentityError,
    Rgb,
    Session,
    SessionState,
    Status,
    StepResult,
    SwapSettings,
    UnknownEngine,
)
from streamer import file
from streamer.config import FileConfig
from streamer.file import BELT_ITEMS, run_file
from streamer.file_report import FileReport
from tests.streamer.clips import Clip, Sound, make, picture, play

UNEVEN = (0, 33, 70, 71, 150, 400, 401, 900)


BARE = SwapSettings(engine="passthrough", label=False)  # the label covers most of a tiny picture


def config_for(tmp_path: Path, **changes: Any) -> FileConfig:
    values = {"input": tmp_path / "in.mp4", "output": tmp_path / "out.mp4", "swap": SwapSettings(engine="passthrough")}
    return FileConfig(**{**values, **changes})


class Sessions:
    """Stands in for `engines.load`: real passthrough sessions whose step a test changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clocks_s: list[float] = []
        self.threads: set[int] = set()
        self._real_step = Session.step
        monkeypatch.setattr(Session, "step", lambda *arguments: self.step(*arguments))
        monkeypatch.setattr(Session, "warm_up", lambda *_: None)

    def step(self, session: Session, state: SessionState, rgb_HW3: Rgb, captured_s: float) -> StepResult:
        self.clocks_s.append(captured_s)
        self.threads.add(threading.get_ident())
        return self.change(self._real_step(session, state, rgb_HW3, captured_s), len(self.clocks_s) - 1)

    def change(self, result: StepResult, index: int) -> StepResult:
        return result


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    return Sessions(monkeypatch)


def test_the_session_steps_once_a_frame_in_order_on_the_frames_own_clock(tmp_path: Path, sessions: Sessions) -> None:
    make(tmp_path / "in.mp4", Clip(UNEVEN, sounds=[Sound(end_s=1.0)]))
    report = run_file(config_for(tmp_path, swap=BARE), io.StringIO())
    assert sessions.clocks_s == pytest.approx([stamp / 1000 for stamp in UNEVEN])
    assert sessions.threads == {threading.get_ident()}
    assert play(tmp_path / "out.mp4").indices == list(range(len(UNEVEN)))
    assert report.picture.seconds == pytest.approx(float(play(tmp_path / "in.mp4").end_s), abs=0.001)


def test_the_report_is_complete(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4", Clip(sounds=[Sound()]))
    report = run_file(config_for(tmp_path, report=tmp_path / "r.json"), io.StringIO())
    stored = json.loads((tmp_path / "r.json").read_text())
    assert FileReport.model_validate_json((tmp_path / "r.json").read_text()) == report
    assert stored["outcome"] == "complete"
    assert stored["engine"] == "passthrough"
    assert stored["why"]
    assert stored["settings"]["swap"]["engine"] == "passthrough"
    assert stored["settings"]["swap"]["hold_ms"] == 300
    assert stored["frames"] == {
        "stepped": 20,
        "written": 20,
        "drawn": 20,
        "warming": 0,
        "no_face": 0,
        "standby": 0,
        "engine_faults": 0,
    }
    for stage in ("decode", "step", "draw", "label", "encode"):
        times = stored["stages"][stage]
        assert times["count"] == 20
        assert 0 < times["p50_ms"] <= times["p95_ms"] <= times["p99_ms"]
    for belt in stored["belts"].values():
        assert belt["bound"] == BELT_ITEMS
        assert 1 <= belt["highest"] <= BELT_ITEMS
        assert belt["passed"] > 20
    assert stored["picture"]["seconds"] == 2.0
    assert stored["fps"] > 0
    assert stored["sounds"] == ["aac, copied"]


def test_statuses_and_faces_are_counted(tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [Status.WARMING] * 2 + [Status.DRAWN] * 10 + [Status.NO_FACE] * 3 + [Status.STANDBY] * 5

    def change(result: StepResult, index: int) -> StepResult:
        return replace(result, status=plan[index], faces_found=2 if 5 <= index < 9 else int(index < 12))

    monkeypatch.setattr(sessions, "change", change)
    make(tmp_path / "in.mp4")
    told = io.StringIO()
    report = run_file(config_for(tmp_path), told)
    frames = report.frames
    assert (frames.warming, frames.drawn, frames.no_face, frames.standby) == (2, 10, 3, 5)
    assert report.faces.frames_with_faces == 12
    assert report.faces.found == 16
    assert report.faces.most_in_a_frame == 2
    assert "10 drawn, 3 held, 7 standby" in told.getvalue()


def test_a_run_without_one_drawn_face_says_so(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "change", lambda result, _: replace(result, status=Status.WARMING))
    make(tmp_path / "in.mp4")
    told = io.StringIO()
    run_file(config_for(tmp_path), told)
    assert "warning: no face was found in any frame" in told.getvalue()


def test_a_frame_on_which_the_engine_fails_shows_nothing_of_itself(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(result: StepResult, index: int) -> StepResult:
        if 5 <= index < 8:
            raise EngineFault("the engine ran out of luck")
        return result

    monkeypatch.setattr(sessions, "change", change)
    make(tmp_path / "in.mp4", Clip(size_px=(128, 96)))
    told = io.StringIO()
    report = run_file(config_for(tmp_path, swap=BARE), told)
    edges = [np.abs(np.diff(shown.astype(int), axis=1)).max() for shown in play(tmp_path / "out.mp4").pictures]
    assert max(edges[5:8]) < min(edges[:5] + edges[8:]) / 2
    assert report.frames.engine_faults == 3
    assert report.frames.standby == 3
    assert "the engine failed on 3 frames" in told.getvalue()


def test_any_other_error_in_a_step_leaves_nothing_behind(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(result: StepResult, index: int) -> StepResult:
        if index == 7:
            raise ZeroDivisionError
        return result

    monkeypatch.setattr(sessions, "change", change)
    make(tmp_path / "in.mp4", Clip(range(0, 10_000, 100)))
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run_file(config_for(tmp_path), io.StringIO())
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert threading.active_count() == threads


def test_the_label_is_on_every_picture_unless_switched_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    size_px = (320, 240)
    make(tmp_path / "in.mp4", Clip(size_px=size_px))
    labelled = run_file(config_for(tmp_path), io.StringIO())
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        bare = run_file(
            config_for(tmp_path, output=tmp_path / "bare.mp4", swap=SwapSettings(engine="passthrough", label=False)),
            io.StringIO(),
        )
    assert (labelled.label, bare.label) == (True, False)
    assert "switched off" in caplog.text
    for index, (with_label, without) in enumerate(
        zip(play(tmp_path / "out.mp4").pictures, play(tmp_path / "bare.mp4").pictures, strict=True)
    ):
        original = picture(index, size_px).astype(int)
        assert np.abs(with_label - original).max() > 100
        assert np.abs(without - original).mean() < 3
        assert np.abs(without - original).max() < 60


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_after_the_frame_in_hand(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    def change(result: StepResult, index: int) -> StepResult:
        if index == 6:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(sessions, "change", change)
    make(tmp_path / "in.mp4", Clip(range(0, 10_000, 100)))
    report = run_file(config_for(tmp_path, swap=BARE, report=tmp_path / "r.json"), io.StringIO())
    assert (report.outcome, report.exit_code, report.frames.written) == ("stopped", status, 7)
    assert play(tmp_path / "out.mp4").indices == list(range(7))
    assert json.loads((tmp_path / "r.json").read_text())["outcome"] == "stopped"


def test_a_signal_before_the_first_frame_writes_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_init = Session.init

    def init(session: Session) -> SessionState:
        os.kill(os.getpid(), signal.SIGINT)
        return real_init(session)

    monkeypatch.setattr(Session, "warm_up", lambda *_: None)
    monkeypatch.setattr(Session, "init", init)
    make(tmp_path / "in.mp4")
    told = io.StringIO()
    report = run_file(config_for(tmp_path), told)
    assert (report.exit_code, report.frames.stepped) == (130, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert "nothing was written" in told.getvalue()


def test_a_signal_that_is_ignored_stays_ignored(
    tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(result: StepResult, index: int) -> StepResult:
        os.kill(os.getpid(), signal.SIGHUP)
        return result

    monkeypatch.setattr(sessions, "change", change)
    make(tmp_path / "in.mp4")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert run_file(config_for(tmp_path), io.StringIO()).outcome == "complete"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_does_not_end_the_run(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    make(tmp_path / "in.mp4")
    assert run_file(config_for(tmp_path), Gone()).outcome == "complete"


def test_a_signal_is_left_as_it_was(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in file.SIGNALS]
    make(tmp_path / "in.mp4")
    run_file(config_for(tmp_path), io.StringIO())
    assert [signal.getsignal(number) for number in file.SIGNALS] == before


def test_it_runs_outside_the_main_thread(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4")
    reports: list[FileReport] = []
    thread = threading.Thread(target=lambda: reports.append(run_file(config_for(tmp_path), io.StringIO())))
    thread.start()
    thread.join()
    assert reports[0].outcome == "complete"


def test_an_unknown_engine_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    make(tmp_path / "in.mp4")
    with pytest.raises(UnknownEngine):
        run_file(config_for(tmp_path, swap=SwapSettings(engine="pasthrough")), io.StringIO())
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_an_engine_that_draws_faces_wants_to_know_whose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "WITHOUT_IDENTITY", frozenset[str]())
    make(tmp_path / "in.mp4")
    with pytest.raises(IdentityError, match="--identity"):
        run_file(config_for(tmp_path), io.StringIO())


@pytest.mark.parametrize("name", ["single_face.mp4", "head-pose-face-detection-male.gif", "asl/asl_no.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.webm"])
def test_real_clips_keep_every_time(tmp_path: Path, shared_data: Path, name: str, target: str) -> None:
    source = shared_data / "clips" / name
    report = run_file(config_for(tmp_path, input=source, output=tmp_path / target), io.StringIO())
    before, after = play(source), play(tmp_path / target)
    grid_s = 0 if target == "out.mp4" else 0.0005  # WebM stores milliseconds
    assert report.outcome == "complete"
    assert [float(t) for t in after.times_s] == pytest.approx([float(t) for t in before.times_s], abs=grid_s + 1e-9)
