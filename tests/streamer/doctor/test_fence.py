"""The fence around checks, with a real child whose checks crash, hang and raise; the command as a person calls it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from engines import SettingError
from streamer.cli import vividstream
from streamer.doctor.checks import CHECKS, Check
from streamer.doctor.command import doctor_command, from_server
from streamer.doctor.fence import Answer, run_fenced
from streamer.doctor.finding import Verdict, ok
from streamer.doctor.settings import DoctorSettings

BAD_CHILD = """
    import ctypes, os, sys, time
    from streamer.doctor import child
    from streamer.doctor.checks import Check
    from streamer.doctor.finding import ok

    def crash(config): ctypes.string_at(0)
    def hang(config): time.sleep(60)
    def raises(config): raise RuntimeError("of its own")
    def prints(config):
        print("{not an answer")
        os.write(1, b"nor this")
        yield ok("still an answer")
    def fine(config): yield ok(f"port {config.port}")
    def strange(config): yield "no finding"

    child.CHECKS = tuple(Check(one.__name__, one) for one in (crash, hang, raises, prints, fine, strange))
    child.main()
"""


@pytest.fixture
def bad_child(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "bad_child.py"
    script.write_text(textwrap.dedent(BAD_CHILD), encoding="utf-8")
    return (sys.executable, str(script))


def named(*names: str, limit_s: float = 10.0) -> list[Check]:
    return [Check(name, lambda _config: [ok("never run here")], limit_s=limit_s) for name in names]


def says(answer: Answer) -> str:
    return f"{answer.name}: {answer.found[0].verdict} {answer.found[0].says}"


def test_a_check_that_crashes_hangs_or_raises_is_a_line_and_the_next_one_is_run(bad_child: tuple[str, ...]) -> None:
    checks = [*named("crash", "raises", "prints", "strange"), *named("hang", limit_s=0.5)]
    answers = list(run_fenced(checks, DoctorSettings(), bad_child))
    found = [says(answer) for answer in answers]
    assert found == [
        "crash: fail the check itself failed: SIGSEGV",
        "raises: fail the check itself failed: RuntimeError: of its own",
        "prints: ok still an answer",
        found[3],
        found[4],
    ]
    assert found[3].startswith("strange: fail the check itself failed")
    assert "did not end within" in found[4]
    assert answers[4].found[0].mend == "vividstream doctor --only hang --limit-s 600"


def test_the_whole_takes_no_longer_than_it_may(bad_child: tuple[str, ...]) -> None:
    began_s = time.monotonic()
    answers = list(run_fenced(named("hang", "fine", "hang", limit_s=60.0), DoctorSettings(limit_s=5), bad_child))
    assert time.monotonic() - began_s < 8
    assert answers[0].found[0].verdict is Verdict.FAIL
    assert [answer.found[0].says for answer in answers[1:]] == ["not looked at: the time was up"] * 2


def test_a_child_that_does_not_start_is_a_line(tmp_path: Path) -> None:
    script = tmp_path / "none.py"
    script.write_text("raise SystemExit('no libraries')", encoding="utf-8")
    (answer,) = run_fenced(named("fine"), DoctorSettings(), (sys.executable, str(script)))
    assert answer.found[0].says == "the check itself failed: exit status 1: no libraries"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_command_on_a_machine_like_this_one(tmp_path: Path) -> None:
    """All checks at once but the slow ones, as JSON; a broken identity is what fails."""
    (tmp_path / "anna.safetensors").write_bytes(b"no identity")
    quick = [check.name for check in CHECKS if check.name not in ("speed", "browsers")]
    ran = run("--json", "--identities-dir", str(tmp_path), *(part for name in quick for part in ("--only", name)))
    report = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert not report["ok"]
    assert {line["check"] for line in report["findings"]} == set(quick)
    for line in report["findings"]:
        assert line["verdict"] == "ok" or line["mend"], line
        assert "itself failed" not in line["says"]
        assert "\n" not in line["says"]
    broken = [line for line in report["findings"] if line["check"] == "identities" and line["verdict"] == "fail"]
    enrol = f"vividstream enroll anna --image PHOTO.jpg --overwrite --identities-dir {tmp_path}"
    assert [line["mend"] for line in broken] == [enrol]
    assert "Traceback" not in ran.stderr


def test_a_report_for_people_with_what_the_server_is_set_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vividstream.toml"
    file.write_text('[serve]\nport = 0\nice_server = "other nonsense"\nmax_sessions = 2\n', encoding="utf-8")
    monkeypatch.setenv("VIVIDSTREAM_SERVE_ICE_SERVER", "nonsense")
    ran = CliRunner().invoke(vividstream, ["--config", str(file), "doctor", "--only", "port", "--only", "relay"])
    assert ran.exit_code == 1
    lines = ran.stdout.splitlines()
    assert lines[0] == "ok    port        127.0.0.1: any free port will be taken"
    assert lines[1].startswith('FAIL  relay       "nonsense" is no address')
    assert lines[2].strip().startswith("$ vividstream doctor --ice-server")
    assert lines[-1] == "1 failed, 0 to know of, 1 ok"


def test_options_win_over_the_servers_variables() -> None:
    assert from_server({"VIVIDSTREAM_SERVE_PORT": "1", "VIVIDSTREAM_SERVE_KEY": "k.pem"}) == {
        "port": 1,
        "key": Path("k.pem"),
    }
    with pytest.raises(SettingError, match="VIVIDSTREAM_SERVE_PORT=x: must be a number"):
        from_server({"VIVIDSTREAM_SERVE_PORT": "x"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "camera"], 'unknown check "camera"; did you mean "cameras"'),
        (["--turn-server", "turn:h"], "turn_server and turn_secret belong together"),
        (["--udp-ports", "9-5"], 'udp_ports": must be first-last'),
        (["--limit-s", "1"], "limit_s"),
    ],
)
def test_a_wrong_call_is_a_sentence(arguments: list[str], says: str) -> None:
    with pytest.raises(SettingError, match=re.escape(says)):
        doctor_command.main(arguments, standalone_mode=False)
