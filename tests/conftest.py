"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from tests import turns

# A slow moment of the machine is no failure: time is measured in benchmarks/, and pytest-timeout ends what hangs.
hypothesis.settings.register_profile("vividstream", deadline=None)
hypothesis.settings.load_profile("vividstream")

# As `vividstream` does for itself: threads of torch that spin would make tests minutes long on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

ROOT = Path(__file__).parent.parent
REQUIRE_SYSTEM = "VIVIDSTREAM_REQUIRE_SYSTEM"
OF_CALLS = ("attacks", "fuzz", "streamer")
# Folders and files (as their names begin) of tests/streamer in which no clock is looked at.
WITHOUT_CLOCK = (
    "audit", "settings_file", "test_cli", "test_completion", "test_consent.", "test_credentials", "test_file",
    "test_manual", "test_media", "verify",
)  # fmt: skip


def lacking(program: str) -> NoReturn:
    """Skips a test that needs a system program; fails it where .ci/run promised to have installed them all."""
    if os.environ.get(REQUIRE_SYSTEM) == "1":
        pytest.fail(f"{program} is not installed, and {REQUIRE_SYSTEM}=1 wants every test to run")
    pytest.skip(f"{program} is not installed")


@pytest.fixture(autouse=True, scope="session")
def own_records(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keys, logs and lists of tests lie in a folder of theirs, for processes that they start as well."""
    os.environ["VIVIDSTREAM_RECORDS"] = str(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real clips, photos and models, which lies beside the checkout and is never part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    lacking("chromium")


@pytest.fixture(autouse=True)
def whole_numbers() -> Iterator[None]:
    """Opening a session of ONNX Runtime makes the thread that opens it flush the smallest numbers to zero, which is
    wanted of a thread that draws, and refused by Hypothesis and NumPy in the tests that follow."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Before pytest-timeout's clock: waiting for a turn is no part of a test."""
    meeting = turns.folder()
    if meeting is None:
        return (yield)
    with turns.turn(meeting, alone=_needs_the_machine(item)):
        return (yield)


def _needs_the_machine(item: pytest.Item) -> bool:
    """All of live calls, which own time, and what is marked so elsewhere."""
    folder, *inside = item.path.relative_to(ROOT / "tests").parts
    of_call = folder in OF_CALLS and not (folder == "streamer" and inside[0].startswith(WITHOUT_CLOCK))
    return of_call or item.get_closest_marker("alone") is not None


def pytest_collection_finish() -> None:
    """What is imported stays: looking through half a million of its objects took 0.3 s after every call that ended."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Takes signals as a terminal gives them: a suite started in the background inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
