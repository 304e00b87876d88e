"""Units and container files: what systemd and the documents say of them."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, lacking

UNITS = ROOT / "packaging" / "systemd"
CONTAINER = ROOT / "packaging" / "container"
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
TOKEN = "0123456789abcdef"


@pytest.fixture
def analyze(tmp_path: Path) -> str:
    """systemd-analyze, and beside it each unit with a program that this machine has."""
    program = shutil.which("systemd-analyze")
    if program is None:
        lacking("systemd-analyze")
    for unit in UNITS.glob("*.service"):
        text = unit.read_text(encoding="utf-8").replace("/opt/vividstream/bin/vividstream", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return program


@pytest.mark.parametrize(("unit", "manager"), [("vividstream", "--system"), ("vividstream-camera", "--user")])
def test_systemd_has_nothing_against_the_units(analyze: str, tmp_path: Path, unit: str, manager: str) -> None:
    command = [analyze, "verify", manager, "--man=no", str(tmp_path / f"{unit}.service")]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(("unit", "most"), [("vividstream", 1.5), ("vividstream-camera", 6.5)])
def test_the_exposure_is_what_the_page_says(analyze: str, tmp_path: Path, unit: str, most: float) -> None:
    command = [analyze, "security", "--offline=true", "--no-pager", str(tmp_path / f"{unit}.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= most
    assert f"calls it {found[1]}" in DEPLOYMENT


def test_the_container_is_nobodys_and_its_build_stays_behind() -> None:
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    last = {
        stage.split()[-1] if " AS " not in stage.split("\n")[0] else stage.split("\n")[0].split(" AS ")[1]: stage
        for stage in stages
    }
    assert {"build", "build-cpu", "build-gpu", "base", "cpu", "gpu"} == set(last)
    assert "USER 10001:10001" in last["base"]
    assert "HEALTHCHECK" in last["base"]
    for name in ("cpu", "gpu"):
        assert "RUN" not in last[name]
        assert f"COPY --from=build-{name} /opt/vividstream" in last[name]
    for folder in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        for source in folder.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}\n" in (CONTAINER / "Containerfile.dockerignore").read_text(encoding="utf-8")


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        right = self.headers.get("Authorization") == f"Bearer {TOKEN}" and self.path == "/healthz"
        self.send_response(type(self).status if right else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "variables", "expected"),
    [
        (200, {"VIVIDSTREAM_SERVE_TOKEN": TOKEN}, 0),
        (200, {"VIVIDSTREAM_SERVE_TOKEN_FILE": "tokens"}, 0),
        (503, {"VIVIDSTREAM_SERVE_TOKEN": TOKEN}, 1),
        (200, {"VIVIDSTREAM_SERVE_TOKEN": "another token"}, 1),
        (200, {}, 0),  # 401: a server that made up its token is there
        (200, {"VIVIDSTREAM_SERVE_PORT": "1"}, 1),
    ],
)
def test_the_health_check(status: int, variables: dict[str, str], expected: int, port: int, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"# who\nada {TOKEN}\n", encoding="utf-8")
    Answers.status = status
    done = subprocess.run(
        [sys.executable, "-I", CONTAINER / "healthy"], timeout=60, cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "VIVIDSTREAM_SERVE_PORT": str(port), **variables},
    )  # fmt: skip
    assert done.returncode == expected
