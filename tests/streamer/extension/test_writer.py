"""What `vividstream extension` writes: whole scripts, manifests that ask for little, no token astray."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engines import SettingError
from streamer.cli import vividstream
from streamer.config import ServerConfig
from streamer.extension.bundle import bundle
from streamer.extension.pairing import HEAD, NAME
from streamer.extension.settings import ExtensionSettings
from streamer.extension.writer import SOURCE, STATIC, Browser, extension_files, write_extension

TOKEN = "a-token-of-some-length"


def of(browser: Browser, tmp_path: Path, **more: Any) -> dict[str, bytes]:
    return extension_files(browser, ExtensionSettings.read({"folder": tmp_path, **more}))


def manifest_of(browser: Browser, tmp_path: Path, **more: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(of(browser, tmp_path, **more)["manifest.json"])
    return loaded


def test_both_browsers_get_a_folder_and_an_archive_with_the_same_in_it(tmp_path: Path) -> None:
    written = write_extension(ExtensionSettings(folder=tmp_path))
    for folder, archive in written.values():
        with zipfile.ZipFile(archive) as packed:
            assert packed.testzip() is None
            assert {name: packed.read(name) for name in packed.namelist()} == {
                path.name: path.read_bytes() for path in folder.iterdir()
            }
    before = {archive: archive.read_bytes() for _, archive in written.values()}
    write_extension(ExtensionSettings(folder=tmp_path))
    assert {archive: archive.read_bytes() for archive in before} == before


def test_the_token_is_in_one_file_which_no_page_can_load_and_no_other_user_can_read(tmp_path: Path) -> None:
    for folder, archive in write_extension(ExtensionSettings(folder=tmp_path, token=TOKEN)).values():
        holding = [path for path in folder.iterdir() if TOKEN.encode() in path.read_bytes()]
        assert [path.name for path in holding] == ["preset.json"]
        assert [stat.S_IMODE(path.stat().st_mode) for path in (*holding, archive)] == [0o600, 0o600]
        assert "web_accessible_resources" not in json.loads((folder / "manifest.json").read_bytes())


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_the_manifest_asks_for_the_servers_address_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    manifest = manifest_of(browser, tmp_path, server="https://me.example:8443/?x", site=("https://meet.example.org",))
    assert manifest["host_permissions"] == ["https://me.example/*"]
    assert manifest["permissions"] == ["storage"]
    assert [(one["matches"], one.get("world")) for one in manifest["content_scripts"]] == [
        (["https://meet.example.org/*"], "MAIN"),
        (["https://meet.example.org/*"], None),
    ]
    named = re.findall(r'"([\w]+\.(?:js|html|png|css))"', json.dumps(manifest))
    files = of(browser, tmp_path)
    assert set(named) <= set(files)
    for name in [name for name in files if name.endswith((".html", ".js"))]:
        for other in re.findall(rb'(?:src|href|from|fetch\()[= ]?"(?:\./)?([\w.]+)"', files[name]):
            assert other.decode() in files, f"{name} needs {other.decode()}"


def test_the_scripts_of_pages_are_whole_and_the_pages_own_one_knows_no_server(tmp_path: Path) -> None:
    files = of("chromium", tmp_path)
    for name in ("page.js", "inside.js"):
        text = files[name].decode()
        assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
        assert "storage" not in text
        assert "Bearer" not in text
        if node := shutil.which("node"):
            (tmp_path / name).write_text(text, encoding="utf-8")
            subprocess.run([node, "--check", tmp_path / name], check=True)
    page = files["page.js"].decode()
    assert "RTCPeerConnection" not in page
    assert "sendMessage" not in page
    assert "class Call" in files["inside.js"].decode()


def test_a_module_is_bundled_once_and_an_unknown_form_is_refused(tmp_path: Path) -> None:
    assert bundle(SOURCE / "inside.js", STATIC).count("class AgeMeter") == 1
    (tmp_path / "a.js").write_text('import all from "./b.js";\n', encoding="utf-8")
    with pytest.raises(ValueError, match="import all"):
        bundle(tmp_path / "a.js", STATIC)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"server": "me.example"}, "must begin with"),
        ({"server": "http://me.example"}, "needs https://"),
        ({"token": "short"}, "at least 16"),
        ({"site": ("meet.example.org",)}, "must be like"),
    ],
)
def test_a_wrong_setting_is_told(wrong: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=sentence):
        ExtensionSettings.read({"folder": tmp_path, **wrong})


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    said = CliRunner().invoke(vividstream, ["extension", str(tmp_path / "out")], catch_exceptions=False)
    assert said.exit_code == 0
    assert str(tmp_path / "out" / "chromium") in said.output
    assert "token" in said.output
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="Not a directory"):
        write_extension(ExtensionSettings(folder=tmp_path / "file"))


def test_the_server_of_this_machine_gets_the_other_half_of_a_fresh_token(tmp_path: Path) -> None:
    command = ["extension", str(tmp_path), "--server", "http://127.0.0.1:8123"]
    said = CliRunner().invoke(vividstream, command, catch_exceptions=False).output
    half = tmp_path / NAME
    config = tomllib.loads(half.read_text())["serve"]
    assert stat.S_IMODE(half.stat().st_mode) == 0o600
    assert len(config["token"]) >= 32
    assert config["token"] not in said, "terminals are shown to others"
    assert f"vividstream --config {half} serve" in said
    assert ServerConfig.read(config).is_loopback
    assert json.loads((tmp_path / "firefox" / "preset.json").read_text())["token"] == config["token"]
    CliRunner().invoke(vividstream, command, catch_exceptions=False)
    assert tomllib.loads(half.read_text())["serve"] == config, "what is installed already still fits"
    CliRunner().invoke(vividstream, [*command, "--token", TOKEN], catch_exceptions=False)
    assert tomllib.loads(half.read_text())["serve"] == {**config, "token": TOKEN}


def test_another_machines_server_gets_no_token_from_here(tmp_path: Path) -> None:
    command = ["extension", str(tmp_path), "--server", "https://me.example.org"]
    said = CliRunner().invoke(vividstream, command, catch_exceptions=False).output
    assert "enter the server's token" in said
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    "text", ["[serve]\nport = 8080\n", "\xff", f"{HEAD}\n[serve]\n", f"{HEAD}\n[serve]\ntoken = 1\n"]
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_bytes(text.encode("latin-1"))
    done = CliRunner().invoke(vividstream, ["extension", str(tmp_path)])
    assert isinstance(done.exception, SettingError)  # which the command says in one line
    assert (tmp_path / NAME).read_bytes() == text.encode("latin-1")
