"""vividstream.toml: which file is read, what is wrong with it, in one sentence with line and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import click
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import SettingError
from streamer import cli
from streamer.settings_file import toml


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This user's folder of settings, empty; the current folder is another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(toml, "user_config_path", lambda *_, **__: tmp_path / "config")
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], list[str]]:
    """Exit status, and the lines on stdout and stderr."""
    try:
        cli.main(list(words))
        status: object = 0
    except SystemExit as ended:
        status = ended.code
    told = capsys.readouterr()
    assert isinstance(status, int)
    return status, told.out.splitlines(), told.err.splitlines()


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("[serve]\nprt = 1", 2, 'unknown setting "prt" in [serve]; did you mean "port"?'),
        ("[srve]\nport = 1", 1, 'unknown section "srve"; did you mean "serve"?'),
        ("\n\nprest = 'laptop'", 3, 'unknown setting "prest"; did you mean "preset"?'),
        ("serve = 3", 1, '"serve" must be a section: [serve], not a whole number: 3'),
        ("[[serve]]\nport = 1", 1, '"serve" must be a section: [serve], not a list'),
        ("[serve]\nport = '80'", 2, '"port" in [serve] must be a whole number (0 to 65535), not a text: "80"'),
        ("[serve]\nport = true", 2, "must be a whole number (0 to 65535), not true or false: true"),
        ("[serve]\nport = 70000", 2, "must be a whole number (0 to 65535), not 70000"),
        ("[serve]\nport = 2026-11-23", 2, "must be a whole number (0 to 65535), not a date: 2026-11-23"),
        ("[serve]\nport = { a = 1 }", 2, "must be a whole number (0 to 65535), not a section"),
        ("[serve]\n# one\n\nrelay_only = 'yes'", 4, 'must be true or false, not a text: "yes"'),
        ("[serve]\ntoken = 'short'", 2, 'must be a text (16 characters or more), not "short"'),
        ("[serve]\norigin = 'https://a'", 2, "must be a list of values in [ ], each a text, not a text"),
        ("[serve]\norigin = [1]", 2, "must be a list of values in [ ], each a text, not a whole number: 1"),
        ("[serve]\nhandshake_s = inf", 2, "must be a number (above 0), not a number: inf"),
        ("[serve]\nproxies = [\n  '10.0.0.1',\n  'home',\n]", 2, "'home' does not appear to be an IPv4"),
        ("[serve]\nudp_ports = 'all'", 2, "UDP ports of calls (50000-50099)"),
        ("[swap]\ntone = 'mx'", 2, 'must be one of "identity", "driver", "mix", not "mx"'),
        ("[swap]\ntne = 'mix'", 2, 'unknown setting "tne" in [swap]; did you mean "tone"?'),
        ("serve.port = 'x'", 1, '"port" in [serve] must be a whole number'),
        ("serve = { host = 'a',\nport = 'x' }", 1, "not TOML"),
        ("[serve]\nport =", 2, "not TOML: Invalid value"),
        ("[serve]\nport = 1\nport = 2", 3, "not TOML: Cannot overwrite a value"),
        ("[serve]\nport = 1\n[serve]", 3, "not TOML: Cannot declare ('serve',) twice"),
        ('[serve]\ntoken = """\nabc', 3, "not TOML"),
        ("preset = 'fast'", 1, 'must be one of "low-latency", "quality", "laptop", not "fast"'),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(
    capsys: pytest.CaptureFixture[str], text: str, line: int, sentence: str
) -> None:
    Path("c.toml").write_text(text, encoding="utf-8")
    os.chmod("c.toml", 0o600)
    status, out, err = said(capsys, "--config", "c.toml", "serve")
    assert (status, out, len(err)) == (1, [], 1)
    assert err[0].startswith(f"error: c.toml, line {line}: ")
    assert sentence in err[0]
    assert said(capsys, "--config", "c.toml", "config", "check")[0] == 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"\xff\xfe", "line 1: not UTF-8"), (b"a = 1\n\n# \xe4", "line 3: not UTF-8"), (b"#" * (1 << 20) + b"#", "1 MiB")],
)
def test_what_is_no_text(capsys: pytest.CaptureFixture[str], data: bytes, sentence: str) -> None:
    Path("c.toml").write_bytes(data)
    status, _, err = said(capsys, "--config", "c.toml", "identities")
    assert status == 1
    assert sentence in err[0]


def test_an_editors_marks_are_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_bytes(b"\xef\xbb\xbfpreset = 'laptop'\r\n[serve]\r\nprt = 1\r\n")
    assert "line 3" in said(capsys, "--config", "c.toml", "serve")[2][0]


@pytest.mark.parametrize(("path", "why"), [("none.toml", "no such settings file"), (".", "cannot be read")])
def test_a_file_that_was_asked_for_must_be_there(capsys: pytest.CaptureFixture[str], path: str, why: str) -> None:
    status, _, err = said(capsys, "--config", path, "identities")
    assert (status, len(err)) == (1, 1)
    assert why in err[0]


def test_the_users_own_file_is_read_and_needs_not_be_there(
    capsys: pytest.CaptureFixture[str], own_folder: Path
) -> None:
    assert said(capsys, "config", "show", "serve")[0] == 0
    (own_folder / "vividstream.toml").write_text("[serve]\nport = 9\n", encoding="utf-8")
    line = next(line for line in said(capsys, "config", "show", "serve")[1] if line.startswith("port "))
    assert f"# {own_folder / 'vividstream.toml'}, line 2" in line


def test_a_file_of_the_current_folder_is_not_read_but_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    Path("vividstream.toml").write_text("[swap]\nlabel = false\nlabel_off_reason = 'x'\n", encoding="utf-8")
    status, out, err = said(capsys, "config", "show", "serve")
    assert status == 0
    assert any(line.startswith("label ") and "true" in line and "# default" in line for line in out)
    assert err == ["note: the vividstream.toml of this folder is not read unless asked for: --config vividstream.toml"]
    assert said(capsys, "--config", "vividstream.toml", "config", "show", "serve")[2] == []


def test_a_mistake_in_another_commands_section_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text("[serve]\nport = 'x'\n", encoding="utf-8")
    assert said(capsys, "--config", "c.toml", "identities")[0] == 0
    assert said(capsys, "--config", "c.toml", "config", "show", "file")[0] == 0
    assert said(capsys, "--config", "c.toml", "config", "check")[0] == 1


def test_check_says_every_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text(
        "nothing = 1\n[swap]\nhold_ms = 301\ntoen = 2\n[serve]\nport = 'x'\n[file]\nworkers = 2\n", encoding="utf-8"
    )
    status, _, err = said(capsys, "--config", "c.toml", "config", "check")
    assert status == 1
    assert sorted({int(line.split("line ")[1].split(":")[0]) for line in err}) == [1, 3, 4, 6, 8]
    assert len(err) == 5


def test_check_looks_at_variables_and_at_values_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.toml").write_text("[serve]\nturn_server = 'turn:a:1'\n", encoding="utf-8")
    status, _, err = said(capsys, "--config", "c.toml", "config", "check")
    assert (status, err) == (1, ["c.toml: [serve] turn_server and turn_secret belong together"])
    monkeypatch.setenv("VIVIDSTREAM_SERVE_TURN_SECRET", "long enough")
    assert said(capsys, "--config", "c.toml", "config", "check")[0] == 0
    monkeypatch.setenv("VIVIDSTREAM_SERVE_PORT", "many")
    status, _, err = said(capsys, "--config", "c.toml", "config", "check")
    assert (status, err) == (1, ['VIVIDSTREAM_SERVE_PORT is "many"; it must be a whole number (0 to 65535)'])


@pytest.mark.parametrize("name", ["who", "purpose", "age", "guardian", "how", "agreed", "expires"])
def test_a_consent_is_never_in_a_file(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("c.toml").write_text(f"[consent.renew]\n{name} = 'self'\n", encoding="utf-8")
    err = said(capsys, "--config", "c.toml", "consent", "renew", "ada")[2]
    assert err == [
        f'error: c.toml, line 2: "{name}" in [consent.renew] is said each time and cannot stand in a file: --{name}'
    ]


def test_an_argument_is_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text("[enroll]\nname = 'ada'\n", encoding="utf-8")
    assert "an argument is given on the command line" in said(capsys, "--config", "c.toml", "enroll")[2][0]


def test_paths_lie_beside_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[serve]\ncertificate = 'cert.pem'\nkey = '~/key.pem'\n", encoding="utf-8")
    out = "\n".join(said(capsys, "--config", str(tmp_path / "c.toml"), "config", "show", "serve")[1])
    assert f'"{tmp_path}/cert.pem"' in out
    assert f'"{Path.home()}/key.pem"' in out


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mode", "notes"), [(0o600, 0), (0o640, 1), (0o604, 1), (0o666, 2)])
def test_secrets_that_others_can_read_are_told_of(capsys: pytest.CaptureFixture[str], mode: int, notes: int) -> None:
    Path("c.toml").write_text("[serve]\ntoken = '0123456789abcdef'\n", encoding="utf-8")
    os.chmod("c.toml", mode)
    err = said(capsys, "--config", "c.toml", "identities")[2]
    assert len(err) == notes
    assert all("chmod 600 c.toml" in line and "0123456789abcdef" not in line for line in err)


def test_a_file_without_secrets_may_be_read_by_all(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text("[serve]\ntoken_file = 'tokens'\nturn_seconds = 60\n", encoding="utf-8")
    os.chmod("c.toml", 0o644)
    assert said(capsys, "--config", "c.toml", "identities")[2] == []


def test_every_line_is_known() -> None:
    text = '# head\n[a]\nb = 1\n"c d" = """\n[x]\ny = 1\n"""\n\n  [a.e]  # end\n'
    text += "f.g = [\n 1,\n]\nh = {i = 1, j = {k = 2}}\n"
    Path("c.toml").write_text(text, encoding="utf-8")
    assert toml.read(Path("c.toml")).lines == {
        ("a",): 2, ("a", "b"): 3, ("a", "c d"): 4, ("a", "e"): 9, ("a", "e", "f"): 10, ("a", "e", "f", "g"): 10,
        ("a", "e", "h"): 13, ("a", "e", "h", "i"): 13, ("a", "e", "h", "j"): 13, ("a", "e", "h", "j", "k"): 13,
    }  # fmt: skip


@given(st.text(alphabet="[]=\"'#.ab1{},\\\n\t ", max_size=60))
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    path = Path("any.toml")
    path.write_text(text, encoding="utf-8")
    try:
        found = toml.read(path)
    except SettingError as error:
        said = str(error)
    else:
        said = "any.toml, line "
        assert all(found.place(where).startswith("any.toml, line ") for where, _ in toml.leaves(found.values))
    assert said.startswith("any.toml, line ")


def test_a_plugged_in_command_has_its_section(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("planted")
    @click.option("--depth", type=int, default=3, help="how deep")
    def planted(depth: int) -> None:
        """A command of another package."""
        click.echo(f"planted {depth}")

    monkeypatch.setitem(cli.vividstream.commands, "planted", planted)
    Path("c.toml").write_text("[planted]\ndepth = 5\n", encoding="utf-8")
    assert said(capsys, "--config", "c.toml", "planted")[1] == ["planted 5"]
    Path("c.toml").write_text("[planted]\ndept = 5\n", encoding="utf-8")
    assert 'did you mean "depth"' in said(capsys, "--config", "c.toml", "planted")[2][0]
