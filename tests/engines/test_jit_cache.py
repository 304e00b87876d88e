"""What was compiled is kept, and renewed when anything that it is made of changes, in whatever file."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

import numpy as np
import pytest
from numba.core import config

from engines import jit

MADE_OF = {
    "parts": """
from engines.jit import inlined

@inlined
def twice(value):
    return 2.0 * value
""",
    "sizes": "HIGH = 100.0\n",
    "whole": """
from engines.jit import kernel
import parts
import sizes
from sizes import HIGH

@kernel
def total(value):
    return parts.twice(value) + HIGH + sizes.HIGH
""",
    "apart": """
from engines.jit import kernel

@kernel
def alone(value):
    return value + 1.0
""",
}


class Start:
    """The modules of a folder as a new process has them: read from their files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits in a second, of a size: Python sees one
        monkeypatch.syspath_prepend(str(folder))
        for name in MADE_OF:
            sys.modules.pop(name, None)
        self.total = importlib.import_module("whole").total
        self.alone = importlib.import_module("apart").alone
        for name in MADE_OF:
            sys.modules.pop(name, None)

    def gives(self) -> tuple[float, float]:
        return self.total(1.0), self.alone(1.0)

    def compiled(self) -> tuple[int, int]:
        """How many of each were not found."""
        return sum(self.total.stats.cache_misses.values()), sum(self.alone.stats.cache_misses.values())


def write(folder: Path, **sources: str) -> None:
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of kernels. What is compiled lies beside them, as it does without a setting."""
    monkeypatch.setattr(config, "CACHE_DIR", "")
    write(tmp_path, **MADE_OF)
    return tmp_path


def test_an_edit_of_another_file_renews_what_is_made_of_it_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> tuple[tuple[float, float], tuple[int, int]]:
        started = Start(folder, monkeypatch)
        return started.gives(), started.compiled()

    assert start() == ((202.0, 2.0), (1, 1))
    assert start() == ((202.0, 2.0), (0, 0)), "the second start compiles nothing"
    write(folder, parts=MADE_OF["parts"].replace("2.0", "3.0"))
    assert start() == ((203.0, 2.0), (1, 0)), "a function that it calls"
    write(folder, sizes="HIGH = 50.0\n")
    assert start() == ((103.0, 2.0), (1, 0)), "a number that it names, by itself and of its module"
    write(folder, parts=MADE_OF["parts"], sizes=MADE_OF["sizes"])
    assert start() == ((202.0, 2.0), (0, 0)), "and back: what was kept is taken"


def test_another_process_takes_what_was_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Start(folder, monkeypatch).gives()
    code = "from whole import total; print(total(1.0), sum(total.stats.cache_misses.values()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "PYTHONHASHSEED": "7"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["202.0", "0"], done.stderr


def test_half_a_file_is_compiled_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Start(folder, monkeypatch).gives()
    for path in (folder / "__pycache__").glob("whole.total-*.nbc"):
        path.write_bytes(path.read_bytes()[:100])
    for path in (folder / "__pycache__").glob("apart.alone-*.nbi"):
        path.write_bytes(b"")
    again = Start(folder, monkeypatch)
    assert (again.gives(), again.compiled()) == ((202.0, 2.0), (1, 1))
    assert caplog.text.count("a compiled kernel cannot be read from") == 2
    third = Start(folder, monkeypatch)
    assert (third.gives(), third.compiled()) == ((202.0, 2.0), (0, 0))


def test_without_a_folder_to_write_to_it_compiles_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (folder / "__pycache__").write_bytes(b"")  # the superuser may write to every folder, but not to this one
    jit._warn_once.cache_clear()
    started = Start(folder, monkeypatch)
    assert (started.gives(), started.compiled()) == ((202.0, 2.0), (1, 1))
    assert caplog.text.count("set NUMBA_CACHE_DIR to a writable folder") == 1


def test_a_full_disk_ends_no_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jit._warn_once.cache_clear()
    started = Start(folder, monkeypatch)
    monkeypatch.setattr("numba.core.caching.open", Full(), raising=False)
    assert started.gives() == (202.0, 2.0)
    assert "No space left on device" in caplog.text


class Full:
    """Opens files of a disk that has no room: /dev/full says so at the first write, as such a disk does."""

    def __call__(self, path: str, mode: str) -> IO[bytes]:
        return cast("IO[bytes]", open("/dev/full" if "w" in mode else path, mode, buffering=0))


def test_old_versions_and_kernels_that_are_gone_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(9):
        for name in (f"pixels.blur-{number:016x}-85", f"pixels.blur-{number + 200}"):
            for path in (tmp_path / f"{name}.py311.nbi", tmp_path / f"{name}.py311.1.nbc"):
                path.write_bytes(b"")
                os.utime(path, (number, number))
    for stem in ("pixels.blurred-12.py311", "pixels.gone-12.py311", "skin.gone-12.py311", "pixels.blur-7-85.py312"):
        (tmp_path / f"{stem}.nbi").write_bytes(b"")
        (tmp_path / f"{stem}.1.nbc").write_bytes(b"")
    latest = f"pixels.blur-{0:016x}-85.py311"
    jit.sweep(tmp_path, latest, {"blur", "blurred"})
    kept = sorted(path.stem for path in tmp_path.glob("*.nbi"))
    assert len([stem for stem in kept if stem.startswith("pixels.blur-") and stem.endswith("py311")]) == 4
    assert latest in kept
    assert {"pixels.blurred-12.py311", "skin.gone-12.py311", "pixels.blur-7-85.py312"} < set(kept)
    assert "pixels.gone-12.py311" not in kept
    assert sorted(path.name for path in tmp_path.glob("*.nbc")) == sorted(f"{stem}.1.nbc" for stem in kept)


@jit.kernel
def _scaled(value: float) -> float:
    return value * float(FACTORS[1])


FACTORS = np.array([1.0, 2.0])


def test_a_name_says_what_a_kernel_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = jit.made_of(_scaled)
    assert jit.made_of(_scaled) == before
    monkeypatch.setitem(globals(), "FACTORS", np.array([1.0, 3.0]))
    assert jit.made_of(_scaled) != before, "an array that it names"
    monkeypatch.undo()
    assert jit.made_of(_scaled) == before
    monkeypatch.setitem(_scaled.targetoptions, "fastmath", False)  # type: ignore[attr-defined]  # Numba's
    assert jit.made_of(_scaled) != before, "how it is compiled"
