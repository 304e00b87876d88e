"""The guards' settings on the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from streamer.cli import _config, serve
from streamer.config import ServerConfig


def config(*arguments: str) -> ServerConfig:
    context = serve.make_context("serve", list(arguments), auto_envvar_prefix="VIVIDSTREAM_SERVE")
    return _config(ServerConfig, context.params)


def test_lists_are_given_by_repeating_the_option() -> None:
    made = config(
        "--origin", "https://a.example", "--origin", "https://b.example", "--proxies", "10.0.0.0/8", "--lan", "no"
    )
    assert made.origin == ("https://a.example", "https://b.example")
    assert made.guard.proxies == ("10.0.0.0/8",)
    assert made.guard.lan == "no"
    assert config().origin == () == config().guard.proxies


def test_lists_are_given_between_blanks_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIVIDSTREAM_SERVE_ORIGIN", "https://a.example https://b.example")
    monkeypatch.setenv("VIVIDSTREAM_SERVE_TOKEN_FILE", str(tmp_path / "tokens"))
    made = config()
    assert made.origin == ("https://a.example", "https://b.example")
    assert made.guard.token_file == tmp_path / "tokens"


def test_a_wrong_word_is_a_wrong_call() -> None:
    with pytest.raises(click.BadParameter):
        config("--lan", "perhaps")
