"""`vividstream bench`: the puppet is a face to the tracker, engines take turns, the report says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from engines.bench.command import bench_command
from engines.bench.measure import ROUNDS, SETTLE_STEPS, Subject, measure, percentiles, there_and_back
from engines.bench.puppet import Puppet
from engines.bench.report import table
from engines.errors import MediaError, SettingError, VividError
from engines.identity_store import IdentityStore
from engines.settings import SwapSettings
from engines.types import Rgb


@pytest.fixture(autouse=True)
def small_yardsticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast the machine is nobody asks here."""
    monkeypatch.setattr("engines.bench.peak.MATMUL_SIDE", 128)
    monkeypatch.setattr("engines.bench.peak.LEAST_S", 0.01)
    monkeypatch.setattr("engines.bench.command.PUPPET_FRAMES", 12)


@pytest.fixture(scope="module")
def film() -> list[Rgb]:
    return list(Puppet(IdentityStore(None).load("amara"), 240, 320).frames(12))


def test_the_puppet_moves_and_is_the_same_twice(film: list[Rgb]) -> None:
    again = list(Puppet(IdentityStore(None).load("amara"), 240, 320).frames(12))
    assert all(np.array_equal(a, b) for a, b in zip(film, again, strict=True))
    assert film[0].shape == (240, 320, 3)
    assert np.abs(film[0].astype(int) - film[11]).mean() > 2


@pytest.mark.parametrize("persona", ["amara", "henrik", "lucia", "rohan"])
def test_the_tracker_takes_every_persona_for_a_face(persona: str) -> None:
    store = IdentityStore(None)
    shown = list(Puppet(store.load(persona), 240, 320).frames(12))
    (run,) = measure([Subject("proxy", SwapSettings(engine="proxy"))], store.load("rohan"), shown, 20, 25.0)
    assert run.statuses == {"drawn": 20}


def test_engines_take_turns_over_the_same_pictures(film: list[Rgb]) -> None:
    subjects = [Subject(name, SwapSettings(engine=name)) for name in ("passthrough", "proxy")]
    runs = list(measure(subjects, IdentityStore(None).load("henrik"), film, 23, 25.0))
    assert [run.subject.label for run in runs] == ["passthrough", "proxy"]
    for run in runs:
        assert len(run.step_ms) == 23
        assert run.next_frame == SETTLE_STEPS + 23
        assert all(ms > 0 for ms in run.step_ms)
    assert {"track", "draw"} <= set(runs[1].stage_ms)
    assert sum(runs[0].step_ms) < sum(runs[1].step_ms)


def test_all_frames_are_shared_out_among_the_turns() -> None:
    for frames in (10, 11, 13, 300):
        shares = [frames * (turn + 1) // ROUNDS - frames * turn // ROUNDS for turn in range(ROUNDS)]
        assert sum(shares) == frames
        assert max(shares) - min(shares) <= 1


def test_a_clip_runs_forward_and_back_without_a_jump(film: list[Rgb]) -> None:
    three = film[:3]
    order = [next(i for i, one in enumerate(three) if one is there_and_back(three, n)) for n in range(9)]
    assert order == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert there_and_back(film[:1], 5) is film[0]


def test_percentiles_are_those_of_numpy() -> None:
    assert percentiles(list(map(float, range(101)))) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_the_report_says_what_was_measured(tmp_path: Path) -> None:
    onto = tmp_path / "bench.json"
    options = ["-e", "passthrough", "-e", "proxy", "--frames", "10", "--size", "320x240", "--json", str(onto)]
    done = CliRunner().invoke(bench_command, options, catch_exceptions=False)
    assert done.exit_code == 0
    facts = json.loads(onto.read_text())
    assert [one["subject"] for one in facts["subjects"]] == ["passthrough", "proxy"]
    assert facts["subjects"][1]["statuses"] == {"drawn": 10}
    assert facts["machine"]["versions"]["numpy"] == np.__version__
    for one in facts["subjects"]:
        assert f"{one['frames_per_s']:.1f}" in done.output
        assert one["step_ms"]["p50"] <= one["step_ms"]["p95"] <= one["step_ms"]["p99"]


def test_pictures_of_ones_own_are_stepped_over(tmp_path: Path, film: list[Rgb]) -> None:
    for number, picture in enumerate(film[:3]):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    options = ["-e", "proxy", "--frames", "10", "--size", "320x240", "--pictures", str(tmp_path)]
    done = CliRunner().invoke(bench_command, options, catch_exceptions=False)
    assert "10 drawn" in done.output


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (["--size", "640"], SettingError, "WIDTHxHEIGHT"),
        (["--size", "0x480"], SettingError, "WIDTHxHEIGHT"),
        (["-e", "proxy:torch"], SettingError, "no runtime"),
        (["-e", "prxy"], VividError, 'did you mean "proxy"'),
        (["-e", "tiny:trch"], SettingError, "runtime"),
        (["-e", "proxy", "--pictures", "."], MediaError, "no pictures"),
    ],
)
def test_bad_input_is_refused_in_words(
    options: list[str], error: type[VividError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        CliRunner().invoke(bench_command, options, catch_exceptions=False)


def test_a_picture_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"a\.png"):
        CliRunner().invoke(bench_command, ["-e", "proxy", "--pictures", str(tmp_path)], catch_exceptions=False)


def test_columns_stand_in_line() -> None:
    lines = table([("engine", "ms"), ("a", "1.0"), ("longer name", "10.0")])
    assert len({len(line) for line in lines}) == 1
    assert lines[1].endswith(" 1.0")
