"""Engines by name: what exists, what `auto` means, what a wrong name is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import (
    EngineBusy,
    EngineUnavailable,
    SettingError,
    SwapSettings,
    UnknownEngine,
    engine_names,
    engines_here,
    load,
    store,
)
from engines.pool import EnginePool
from engines.registry import LEARNED, choose, make


@pytest.fixture
def pool() -> Iterator[EnginePool]:
    made = EnginePool()
    yield made
    made.close()


@pytest.fixture
def no_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in which nothing was built; being named, it is the only one."""
    monkeypatch.setenv(store.STORE_VARIABLE, str(tmp_path))


@pytest.mark.parametrize("name", ["passthrough", "proxy"])
def test_what_learned_nothing_is_always_there(name: str, pool: EnginePool) -> None:
    made = make(name, SwapSettings(), pool)
    assert made.name == name
    made.close()


def test_names_are_sorted_and_chosen_as_they_are() -> None:
    assert engine_names() == tuple(sorted(engine_names()))
    assert {"passthrough", "proxy", *LEARNED} <= set(engine_names())
    for name in engine_names():
        assert choose(name) == (name, "asked for by name")


@pytest.mark.parametrize("name", LEARNED)
def test_an_engine_that_is_not_built_names_the_command_that_builds_it(name: str, no_engines: None) -> None:
    settings = SwapSettings(engine=name, runtime="ort", steps=2, device="cpu")
    with pytest.raises(EngineUnavailable) as told:
        load(settings)
    assert f"vividstream engines build {name} --runtime ort --steps 2" in str(told.value)


def test_random_weights_are_never_taken_unasked(no_engines: None) -> None:
    """Nor does a runtime that must be built first silently become another one."""
    with pytest.raises(EngineUnavailable):
        load(SwapSettings(engine="tiny", device="cpu"))
    with pytest.raises(EngineUnavailable, match="engines build tiny --runtime ort"):
        load(SwapSettings(engine="tiny", weights="random", runtime="ort", device="cpu"))


def test_random_weights_that_are_asked_for_say_what_they_are(no_engines: None) -> None:
    session = load(SwapSettings(engine="tiny", weights="random", size_px=64, device="cpu", precision="float32"))
    assert session.engine == "tiny"
    assert "RANDOM WEIGHTS" in session.why
    assert "torch, auto: on a CPU" in session.why
    session.close()


def test_sessions_with_one_pool_share_what_they_load(no_engines: None, pool: EnginePool) -> None:
    settings = SwapSettings(engine="tiny", weights="random", size_px=64, device="cpu", precision="float32")
    before = threading.active_count()
    sessions = [load(settings, pool=pool), load(settings.model_copy(update={"tone": "driver", "seed": 4}), pool=pool)]
    shared = {id(getattr(session._drawer, "_shared")) for session in sessions}  # noqa: B009
    assert len(shared) == 1
    other = load(settings.model_copy(update={"steps": 2}), pool=pool)
    assert id(getattr(other._drawer, "_shared")) not in shared  # noqa: B009
    for session in (*sessions, other):
        session.close()
    again = load(settings, pool=pool)
    assert id(getattr(again._drawer, "_shared")) in shared, "nobody used it, and it is still there"  # noqa: B009
    again.close()
    load(settings.model_copy(update={"steps": 3}), pool=pool).close()
    assert threading.active_count() <= before + 1, "another engine needed the room"
    pool.close()
    assert threading.active_count() <= before


def test_a_session_too_many_is_refused_and_leaves_nothing_behind(no_engines: None, pool: EnginePool) -> None:
    settings = SwapSettings(engine="tiny", weights="random", size_px=64, device="cpu", precision="float32")
    first = load(settings, pool=pool)
    shared = getattr(first._drawer, "_shared")  # noqa: B009
    shared._latest.append((0.5, 1))
    with pytest.raises(EngineBusy, match="1 session of 25 frames/s"):
        load(settings, pool=pool)
    assert shared.statistics().sessions == 1
    first.close()
    load(settings, pool=pool).close()


def test_only_engines_that_can_run_here_are_offered(no_engines: None) -> None:
    assert engines_here(SwapSettings()) == ("passthrough", "proxy")
    assert engines_here(SwapSettings(weights="random")) == tuple(sorted({"passthrough", "proxy", *LEARNED}))
    assert not set(engines_here(SwapSettings(weights="random", runtime="ort", device="cpu"))) & set(LEARNED)


def test_a_session_of_its_own_leaves_nothing_behind(no_engines: None) -> None:
    before = threading.active_count()
    session = load(SwapSettings(engine="tiny", weights="random", size_px=64, device="cpu", precision="float32"))
    session.close()
    assert threading.active_count() <= before


def test_auto_resolves_and_says_why() -> None:
    name, why = choose("auto")
    assert name in engine_names()
    assert name != "passthrough", "the real face is never shown unasked"
    assert why.startswith("auto: ")
    assert len(why) > 20


@pytest.mark.parametrize(("wrong", "meant"), [("proxi", "proxy"), ("pasthrough", "passthrough"), ("atuo", "auto")])
def test_a_wrong_name_is_told_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(UnknownEngine, match=f'unknown engine "{wrong}"; did you mean "{meant}"'):
        load(SwapSettings(engine=wrong))


def test_a_name_like_no_other_is_told_all() -> None:
    with pytest.raises(UnknownEngine) as told:
        choose("zzz")
    assert all(name in str(told.value) for name in (*engine_names(), "auto"))


def test_a_strange_setting_is_told_the_nearest() -> None:
    with pytest.raises(SettingError, match='unknown setting "tonne"; did you mean "tone"'):
        SwapSettings.read({"tonne": "driver"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tone", "drivers"),
        ("hold_ms", 301),
        ("hold_ms", -1),
        ("max_faces", "2"),
        ("label", 1),
        ("faces", "two"),
        ("runtime", "onnx"),
        ("device", "gpu"),
        ("device", "cuda:"),
        ("size_px", 300),
        ("steps", 0),
        ("texture_weight", float("nan")),
        ("texture_weight", -0.1),
        ("seed", -1),
        ("seed", 2**63),
        ("weights", "none"),
        ("batch", 0),
    ],
)
def test_an_impossible_value_names_its_setting_in_one_line(setting: str, value: object) -> None:
    with pytest.raises(SettingError, match=f'^setting "{setting}": [^\n]+$'):
        SwapSettings.read({setting: value})


def test_no_engine_is_imported_before_it_is_asked_for() -> None:
    """Engines may lean on libraries that are not installed: reading the list must not touch them."""
    script = (
        "import sys, json; from engines.registry import choose, engine_names; engine_names(); choose('auto');"
        "print(json.dumps([m for m in sys.modules if m.startswith('engines.swappers.')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) <= {"engines.swappers.base"}
