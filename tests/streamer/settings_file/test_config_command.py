"""`vividstream config show | check | init`."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from streamer import cli
from streamer.config import ServerConfig
from streamer.settings_file.example import example, written
from streamer.settings_file.presets import PRESETS
from streamer.settings_file.tree import settings_of, walk

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streamer.settings_file.toml.user_config_path", lambda *_, **__: tmp_path / "config")


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    cli.main([*words, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def test_show_says_where_every_value_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.toml").write_text('preset = "laptop"\n[encoding]\nmax_kbps = 900\n[serve]\nworkers = 2\n', encoding="utf-8")
    monkeypatch.setenv("VIVIDSTREAM_SERVE_HOST", "::1")
    cli.main(["--config", "c.toml", "config", "show", "--json", "serve", "--", "--port", "9000"])
    held = json.loads(capsys.readouterr().out)["commands"]["serve"]
    assert {name: held[name] for name in ("max_kbps", "vp8_speed", "workers", "host", "port", "tone")} == {
        "max_kbps": {"value": 900, "from": "c.toml, line 3"},
        "vp8_speed": {"value": 16, "from": "preset laptop"},
        "workers": {"value": 2, "from": "c.toml, line 5"},
        "host": {"value": "::1", "from": "environment VIVIDSTREAM_SERVE_HOST"},
        "port": {"value": 9000, "from": "flag --port"},
        "tone": {"value": "identity", "from": "default"},
    }


def test_show_has_the_servers_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    held = shown(capsys, "config", "show", "serve")["commands"]["serve"]
    for name, field in ServerConfig.model_fields.items():
        if name in held:
            value = field.get_default()
            assert held[name] == {"value": [] if value == () else value, "from": "default"}


def test_secrets_are_hidden_everywhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.toml").write_text(f'[serve]\ntoken = "{TOKEN}"\nturn_server = "turn:a:1"\n', encoding="utf-8")
    monkeypatch.setenv("VIVIDSTREAM_SERVE_TURN_SECRET", TOKEN)
    monkeypatch.setenv("VIVIDSTREAM_JOIN_WHIP_TOKEN", TOKEN)
    for words in (["serve"], ["serve", "--json"], [], ["--json"], ["--all"]):
        cli.main(["--config", "c.toml", "config", "show", *words])
        told = capsys.readouterr()
        assert TOKEN not in told.out + told.err
        assert "(hidden)" in told.out


def test_show_without_a_command_shows_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text("[file]\noverwrite = true\n[engines.list]\nstore = 'x'\n", encoding="utf-8")
    changed = shown(capsys, "--config", "c.toml", "config", "show")["commands"]
    assert {path: [*held] for path, held in changed.items() if held} == {
        "file": ["overwrite"], "engines list": ["store"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["srve"], 'no command "srve"; did you mean "serve"?'),
        (["engines", "lst"], 'no command "engines lst"; did you mean "list"?'),
        (["serve", "--", "--prt", "1"], "'--prt'"),
        (["serve", "--", "--port", "x"], "--port must be a whole number (0 to 65535)"),
        (["--port", "1"], "is no option of `config show`"),
    ],
)
def test_a_wrong_question_is_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["config", "show", *words])
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert sentence in err[0]


def test_init_writes_what_check_accepts_for_its_owner_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli.main(["config", "init"])
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "config" / "vividstream.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cli.main(["config", "check"])
    assert "no mistake; 0 settings differ" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["config", "init"])
    assert "--overwrite" in capsys.readouterr().err
    path.write_text("[serve]\nport = 1\n", encoding="utf-8")
    cli.main(["config", "init", "--overwrite", "serve"])
    text = path.read_text(encoding="utf-8")
    assert "[serve]" in text
    assert "[file]" not in text


def test_the_example_has_every_setting_and_its_defaults_are_accepted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every comment `# key = value` made true is a file that changes nothing."""
    lines = []
    for line in example(cli.vividstream).splitlines():
        key, equals, value = line.removeprefix("# ").partition(" =")
        lines.append(f"{key} ={value}" if equals and key.isidentifier() and value.strip() else line)
    text = "\n".join(lines)
    values = tomllib.loads(text)
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    cli.main(["--config", "c.toml", "config", "check"])
    for words, command in walk(cli.vividstream):
        section: Any = values
        for word in words:
            section = section.get(word, {})
        for setting in settings_of(command, words).values():
            if not setting.may_be_in_a_file:
                assert setting.name not in section
            elif setting.default not in (None, ()):
                stands = values.get(setting.shared, {}) if setting.shared else section
                assert stands[setting.name] == json.loads(written(setting.default)), setting.name


def test_no_preset_is_an_empty_name() -> None:
    known = {
        (section, setting.name): setting
        for words, command in walk(cli.vividstream)
        for setting in settings_of(command, words).values()
        for section in (setting.shared or "", ".".join(words))
    }
    for name, preset in PRESETS.items():
        changed = {(section, key): value for section, values in preset.values.items() for key, value in values.items()}
        assert changed, name
        for where, value in changed.items():
            assert known[where].default != value, (name, where)
    assert len({repr(preset.values) for preset in PRESETS.values()}) == len(PRESETS)
