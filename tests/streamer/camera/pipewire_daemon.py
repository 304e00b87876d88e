"""A PipeWire of a test's own: its daemon and a session manager in a runtime folder that nothing else uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("pipewire", "wireplumber", "dbus-run-session", "gst-launch-1.0", "gst-inspect-1.0", "pw-dump")
START_S = 20.0


def missing() -> str:
    """The first program or plugin that is not installed; empty where all are."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return program
    for plugin in ("pipewiresrc", "videoconvert"):
        if subprocess.run(["gst-inspect-1.0", plugin], capture_output=True, check=False).returncode != 0:
            return f"GStreamer's {plugin}"
    return ""


def wait_for(what: Callable[[], object], limit_s: float = START_S) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return bool(what())


class PipeWire:
    """Started on a folder, for whose processes `environment` has to be set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o700)
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PIPEWIRE_RUNTIME_DIR": str(folder),
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns when the daemon answers and the session manager is its client."""
        self._run("pipewire")
        if not wait_for((self.folder / "pipewire-0").exists):
            raise TimeoutError("pipewire did not start")
        self._run("dbus-run-session", "--", "wireplumber")
        if not wait_for(lambda: "WirePlumber" in self.dump()):
            raise TimeoutError("wireplumber did not start")

    def dump(self) -> str:
        """The graph, as `pw-dump` prints it."""
        ran = subprocess.run(
            ["pw-dump"], env=self._variables(), capture_output=True, text=True, timeout=10, check=False
        )
        return ran.stdout

    def kill(self) -> None:
        """Ends both at once, without a word to their clients."""
        for process in reversed(self._running):
            process.kill()
            process.wait()
        self._running.clear()

    def reader(self, node: str, pixels: str, pictures: int, output: Path) -> subprocess.Popen[bytes]:
        """GStreamer reading the node's pictures into a file of RGBx."""
        line = (
            f"gst-launch-1.0 -q pipewiresrc target-object={node} num-buffers={pictures} ! video/x-raw,format={pixels} "
            f"! videoconvert ! video/x-raw,format=RGBx ! filesink buffer-mode=unbuffered location={output}"
        )
        return subprocess.Popen(line.split(), env=self._variables(), stderr=subprocess.DEVNULL)

    def _run(self, *command: str) -> None:
        with (self.folder / f"{command[-1]}.log").open("ab") as to:
            process = subprocess.Popen(command, env=self._variables(), stdout=to, stderr=to)
        self._running.append(process)

    def _variables(self) -> dict[str, str]:
        return {**{k: v for k, v in os.environ.items() if k != "PIPEWIRE_REMOTE"}, **self.environment}
