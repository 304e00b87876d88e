"""Engines by name: what exists, what `auto` means, what a wrong name is told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engines import SettingError, SwapSettings, UnknownEngine, engine_names, load
from engines.registry import choose, make


def test_every_name_makes_an_engine_of_that_name() -> None:
    assert engine_names() == tuple(sorted(engine_names()))
    for name in engine_names():
        assert make(name).name == name
        assert choose(name) == (name, "asked for by name")


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
    [("tone", "drivers"), ("hold_ms", 301), ("hold_ms", -1), ("max_faces", "2"), ("label", 1), ("faces", "two")],
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
