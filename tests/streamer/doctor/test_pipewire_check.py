"""The doctor's look at PipeWire: without it, with a real daemon alone, and with a session manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.camera.pipewire import PipeWireSink
from streamer.doctor import cameras
from streamer.doctor.finding import Verdict
from streamer.doctor.settings import DoctorSettings
from tests.conftest import lacking
from tests.streamer.camera.pipewire_daemon import PipeWire, missing


def test_each_part_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing():
        lacking(missing())
    pipewire = PipeWire(tmp_path)
    for name, value in pipewire.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    (found,) = cameras.pipewire(DoctorSettings())
    assert (found.verdict, found.mend) == (Verdict.WARN, "systemctl --user start pipewire wireplumber")
    assert "does not run for this user" in found.says
    monkeypatch.setattr(cameras, "MANAGERS", ("no such manager",))
    try:
        pipewire.start()
        (found,) = cameras.pipewire(DoctorSettings())
        assert "without a session manager" in found.says
        assert found.mend == "systemctl --user start wireplumber"
        monkeypatch.setattr(cameras, "MANAGERS", ("wireplumber",))
        (found,) = cameras.pipewire(DoctorSettings())
        assert "makes cameras" in found.says
        assert "vividstream doctor" not in pipewire.dump()  # it was there for a moment only
    finally:
        pipewire.kill()


def test_a_sink_that_was_never_opened_can_be_closed() -> None:
    PipeWireSink().close()
