"""The command line: one line for every error, the right status, settings that reach the models."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from engines import SettingError, SwapSettings
from streamer import cli
from streamer.config import AgreementSettings, EnrollConfig, FileConfig, ServerConfig
from tests.streamer.clips import make

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamer", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and the one line on stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert isinstance(ended.value.code, int)
    return ended.value.code, lines[0]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("serv",), 2, "Did you mean 'serve'?"),
        (("engines", "lst"), 2, "Did you mean 'list'?"),
        (("serve", "--engin", "proxy"), 2, "'--engine'"),
        (("serve", "--tone", "drivr"), 2, "'identity', 'driver', 'mix'"),
        (("serve", "--port", "many"), 2, "'many' is not a valid integer"),
        (("file",), 2, "Missing argument 'IN'"),
        (("file", "in.mp4"), 2, "Missing option '-o'"),
        (("enroll", "ada"), 2, "Missing option '--image'"),
        (("serve", "--engine", "prxy"), 1, 'did you mean "proxy"?'),
        (("file", "in.mp4", "-o", "out.mp4", "--engine", "prxy"), 1, 'did you mean "proxy"?'),
        (("serve", "--port", "70000"), 1, 'setting "port"'),
        (("serve", "--hold-ms", "301"), 1, 'setting "hold_ms"'),
        (("serve", "--token", "short"), 1, 'setting "token"'),
    ],
)
def test_a_wrong_call_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, said: str
) -> None:
    code, line = fails(capsys, *arguments)
    assert code == status
    assert said in line
    assert line.startswith("error: ")


RECORDS = "set VIVIDSTREAM_RECORDS to another folder"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("enroll ada --image {face} --who Ada --purpose calls --age adult", RECORDS),
        ("file {clip} -o {out}/out.mp4 --engine passthrough", RECORDS),
        ("serve --port 0 --engine passthrough", RECORDS),
        ("consent phrase", RECORDS),
        ("audit show", RECORDS),
        ("engines list", RECORDS),
        ("config init", "-o names another file"),
    ],
)
def test_without_a_home_what_needs_one_says_which_folder_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: str, says: str
) -> None:
    """A service's user, say. Not even the superuser makes a folder in /proc."""
    for name in ("VIVIDSTREAM_RECORDS", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/none")
    made = {"face": ROOT / "docs/personas/amara.png", "clip": make(tmp_path / "in.mp4"), "out": tmp_path}
    code, line = fails(capsys, *arguments.format_map(made).split())
    assert code == 1
    assert line.startswith("error: ")
    assert "/proc/none/." in line
    assert "No such file or directory" in line
    assert line.endswith(says)


def test_without_a_home_what_needs_none_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("VIVIDSTREAM_RECORDS")
    monkeypatch.setenv("HOME", "/proc/none")
    cli.main(["identities"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(make(tmp_path / "in.mp4"))])
    assert ended.value.code == 3, capsys.readouterr().err


def test_a_folder_that_may_not_be_written_to_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whatever command, where none has a better sentence."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/root/secret")

    monkeypatch.setattr(cli, "_print_table", refuse)
    assert fails(capsys, "identities") == (1, "error: /root/secret: Permission denied")


def test_an_environment_variable_is_a_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIVIDSTREAM_SERVE_ENGINE", "tini")
    code, line = fails(capsys, "serve")
    assert code == 1
    assert '"tini"' in line


def test_the_module_and_the_console_script_are_the_same_program() -> None:
    assert run("--version").stdout.startswith("vividstream ")
    done = run("serve", "--engine", "prxy")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_without_a_command_the_help_is_shown() -> None:
    done = run()
    assert done.returncode == 2
    assert "serve" in done.stdout


def config_of(monkeypatch: pytest.MonkeyPatch, module: str, function: str, *arguments: str) -> Any:
    """The settings that a command hands over, its body taken out."""
    handed_over: list[Any] = []

    def body(config: Any) -> SimpleNamespace:
        handed_over.append(config)
        return SimpleNamespace(exit_code=0)

    monkeypatch.setattr(f"{module}.{function}", body)
    try:
        cli.main(arguments)
    except SystemExit as ended:
        assert ended.code == 0  # noqa: PT017  `file` ends the process itself
    return handed_over[0]


def test_serve_listens_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(monkeypatch, "streamer.app", "run_server", "serve")
    assert config == ServerConfig()
    assert config.is_loopback
    assert config.token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.20", "::", "example.org"])
def test_a_server_that_others_can_reach_has_a_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    config = config_of(monkeypatch, "streamer.app", "run_server", "serve", "--host", host)
    assert not config.is_loopback
    assert len(config.token) >= 32
    own = config_of(monkeypatch, "streamer.app", "run_server", "serve", "--host", host, "--token", "0123456789abcdef")
    assert own.token == "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_recognised(host: str) -> None:
    assert ServerConfig(host=host).is_loopback


def test_file_hands_over_every_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = "file in.mkv -o out.mp4 --identity ada --report r.json --overwrite --tone mix --no-label --hold-ms 0"
    reason = ("--label-off-reason", "a film with credits")
    folder = ("--identities-dir", str(tmp_path))
    config = config_of(monkeypatch, "streamer.file", "run_file", *words.split(), *reason, *folder)
    assert config == FileConfig(
        input=Path("in.mkv"),
        output=Path("out.mp4"),
        identity="ada",
        identities_dir=tmp_path,
        report=Path("r.json"),
        overwrite=True,
        swap=SwapSettings(tone="mix", label=False, label_off_reason="a film with credits", hold_ms=0),
    )


@pytest.mark.parametrize("reason", [[], ["--label-off-reason", "  "]])
@pytest.mark.parametrize("command", [["serve"], ["file", "in.mkv", "-o", "out.mp4"]])
def test_nobody_switches_the_label_off_without_saying_why(command: list[str], reason: list[str]) -> None:
    with pytest.raises(SettingError, match="--label-off-reason"):
        cli.vividstream([*command, "--no-label", *reason], standalone_mode=False)


@pytest.mark.parametrize("status", [3, 130, 143])
def test_file_passes_on_how_the_run_ended(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr("streamer.file.run_file", lambda config: SimpleNamespace(exit_code=status))
    with pytest.raises(SystemExit) as ended:
        cli.main(["file", "in.mp4", "-o", "out.mp4"])
    assert ended.value.code == status


def test_enroll_takes_several_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("enroll", "ada", "--image", "a.jpg", "--image", "b.jpg", "--who", "Ada", "--purpose", "my calls")
    config = config_of(monkeypatch, "streamer.enroll", "run_enroll", *words)
    agreement = AgreementSettings(who="Ada", purpose="my calls")
    assert config == EnrollConfig(name="ada", images=(Path("a.jpg"), Path("b.jpg")), agreement=agreement)


def test_an_unknown_setting_in_a_model_names_the_nearest() -> None:
    with pytest.raises(SettingError, match='unknown setting "max_session"; did you mean "max_sessions"'):
        ServerConfig.read({"max_session": 2})


@click.command()
def planted() -> None:
    """A command of another package."""
    click.echo("planted ran")


NOT_A_COMMAND = 3


def plug_in(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint("planted", value, cli.COMMANDS_GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point] if group == cli.COMMANDS_GROUP else [])


def test_installed_packages_add_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plug_in(monkeypatch, f"{__name__}:planted")
    cli.main(["planted"])
    assert capsys.readouterr().out == "planted ran\n"
    cli.main(["--help"])
    assert "A command of another package." in capsys.readouterr().out


def test_a_broken_added_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in(monkeypatch, "no_such_module:planted")
    assert fails(capsys, "planted") == (1, "error: command \"planted\" cannot start: No module named 'no_such_module'")
    plug_in(monkeypatch, f"{__name__}:NOT_A_COMMAND")
    assert "is not a click command" in fails(capsys, "planted")[1]
    cli.main(["identities", "--help"])  # the others still work
    cli.main(["--help"])
    assert "planted     cannot start:" in capsys.readouterr().out


def test_every_command_is_told_in_a_line_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    listed = capsys.readouterr().out.split("Commands:\n")[1].splitlines()
    assert len(listed) >= 20
    ended = listed.index("")
    assert not [line for line in listed[:ended] if line.endswith("...") or line.startswith("   ")]
    assert "`vividstream serve`" in " ".join(listed[ended:])


@pytest.mark.parametrize("missing", ["click", "pydantic"])
def test_without_a_command_line_it_is_one_line_too(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from streamer.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this installation is broken or too old: ")


def test_ctrl_c_while_it_starts_is_no_traceback() -> None:
    code = (
        "import sys, importlib.abc\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from streamer.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (cli.INTERRUPTED, "", "interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_what_cannot_be_printed_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "identities"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (1, "error: what is printed cannot be written: No space left on device\n")


def test_a_mistyped_folder_of_identities_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli.main(["identities", "--identities-dir", str(tmp_path / "identitys")])
    said = capsys.readouterr()
    assert said.err == f"note: {tmp_path / 'identitys'} is no folder, so only those that come with vividstream\n"
    assert said.out.startswith("amara ")
    cli.main(["identities", "--identities-dir", str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_help_shows_how_to_type_it_and_no_empty_default(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("serve", "file", "enroll", "camera"):
        cli.main([command, "--help"])
        said = capsys.readouterr().out
        assert f"For example: vividstream {command} " in said
        assert "[default: ]" not in said


def test_a_broken_installation_is_one_line_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What signs is needed when all is drawn."""
    monkeypatch.setitem(sys.modules, "c2pa", None)
    code, line = fails(capsys, "file", "no.mp4", "-o", str(tmp_path / "out.mp4"))
    assert (code, "no.mp4" in line) == (1, True)
    (tmp_path / "in.mp4").write_bytes(b"looked at later")
    code, line = fails(capsys, "file", str(tmp_path / "in.mp4"), "-o", str(tmp_path / "out.mp4"))
    assert code == 1
    assert line.startswith("error: this installation is broken or too old: ")
    assert "c2pa" in line
    assert line.endswith(f"{sys.executable} -m pip install .")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("GOMP_SPINCOUNT", None, cli.SPINS), ("GOMP_SPINCOUNT", "7", "7"), ("OMP_WAIT_POLICY", "ACTIVE", None)],
)
def test_idle_threads_sleep_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str, before: str | None, after: str | None
) -> None:
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(variable, "")  # so that it is put back afterwards
        monkeypatch.delenv(variable)
    if before is not None:
        monkeypatch.setenv(name, before)
    with pytest.raises(SystemExit):
        cli.main(["no-such-command"])
    assert os.environ.get("GOMP_SPINCOUNT") == after


def test_products_of_matrices_hold_no_second_core() -> None:
    code = (
        "import threadpoolctl\n"
        "from streamer import cli\n"
        "cli.main(['config', 'show', 'serve'])\n"
        "import numpy, scipy.linalg, engines\n"
        "engines.Session\n"
        "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info() if pool['user_api'] == 'blas'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{1}"


def test_engines_list_says_what_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["engines", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith(("passthrough ", "proxy "))] == ["ready", "ready"]
    assert any(line.startswith("auto takes ") for line in lines)
