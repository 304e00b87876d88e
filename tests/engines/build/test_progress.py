"""How long a build still takes, on a clock that the test turns."""

from __future__ import annotations

import pytest

from engines.build.progress import Progress, duration


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_what_earlier_builds_took_is_what_is_left() -> None:
    clock, said = Clock(), list[str]()
    progress = Progress({"export": 10.0, "compile": 50.0, "seal": 1.0}, said.append, clock)
    with progress.stage("export"):
        clock.now_s += 4
        assert progress.left_s() == pytest.approx(57)
        clock.now_s += 6
    assert said == ["[1/3] export, 61 s left"]
    assert progress.taken_s == {"export": 10.0}


def test_a_slower_machine_is_noticed() -> None:
    clock, said = Clock(), list[str]()
    progress = Progress({"export": 10.0, "compile": 50.0}, said.append, clock)
    with progress.stage("export"):
        clock.now_s += 30
    with progress.stage("compile"):
        pass
    assert said[-1] == "[2/2] compile, 2 min left"


def test_a_stage_that_counts_is_measured_by_its_count() -> None:
    clock, said = Clock(), list[str]()
    progress = Progress({"rollout": 10.0, "seal": 1.0}, said.append, clock)
    with progress.stage("rollout"):
        clock.now_s += 1
        progress.step(1, 100)
        assert len(said) == 1, "not every frame is worth a line"
        clock.now_s += 19
        progress.step(50, 100)
        assert said[-1] == "[1/2] rollout 50/100, 21 s left"
    assert progress.taken_s["rollout"] == 20


def test_a_stage_that_fails_is_not_remembered() -> None:
    progress = Progress({"export": 10.0}, lambda line: None, Clock())
    with pytest.raises(ValueError, match="broken"), progress.stage("export"):
        raise ValueError("broken")
    assert progress.taken_s == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "under a second"), (8.4, "8 s"), (150, "2 min"), (5300, "88 min"), (9000, "2.5 h")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
