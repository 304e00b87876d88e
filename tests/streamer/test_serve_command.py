"""`vividstream serve` as a process: it says where it is, serves, and ends cleanly."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parent.parent.parent
READY = re.compile(r"vividstream is ready: (http://\S+)")


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running process and the address that it printed. Ended at the end, whatever happens."""
    command = [sys.executable, "-m", "streamer", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        address = next((found[1] for line in process.stdout if (found := READY.search(line))), None)
        assert address is not None, f"it ended with {process.wait()} and no address"
        yield process, address
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def get(address: str) -> tuple[int, str]:
    try:
        with urlopen(address, timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_when_it_is_ready_and_ends_cleanly(number: signal.Signals) -> None:
    with serving("--engine", "passthrough") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert get(address + "healthz") == (200, '{"state": "ready"}')
        assert "<title>vividstream</title>" in get(address)[1]
        process.send_signal(number)
        assert process.wait(15) == 0


def test_reachable_from_other_machines_only_with_the_token_that_it_prints() -> None:
    with serving("--engine", "passthrough", "--host", "0.0.0.0") as (_, address):
        found = re.fullmatch(r"http://[^/:]+:(\d+)/\?token=(\S{16,})", address)
        assert found is not None
        own = f"http://127.0.0.1:{found[1]}/"
        status, body = get(own)
        assert status == 401
        assert "token" in json.loads(body)["error"]
        assert get(f"{own}engines?token={found[2]}")[0] == 200


def test_a_port_in_use_is_one_line_and_exit_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "serve", "--port", port, "--engine", "passthrough"],
            cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONWARNINGS": "error"},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"127.0.0.1 port {port} is in use" in done.stderr
