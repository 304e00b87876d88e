"""`vividstream join janus | livekit | whip`: be in somebody else's room with a swapped face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from engines import MediaError, SettingError, SwapSettings, UnknownEngine, engine_names, nearest
from streamer.encoding.settings import EncodingSettings
from streamer.joining.settings import JanusSettings, JoinConfig, JoinSettings, LivekitSettings, WhipSettings
from streamer.options import given, options_of

MOST_TOKEN_BYTES = 16_384


@click.group("join", short_help="Be a swapped participant in somebody else's room.")
def join_group() -> None:
    """Be in somebody else's room: a participant with a swapped face, and sound in step."""


@join_group.command()
@click.argument("url")
@click.argument("room")
@options_of(JanusSettings)
@options_of(JoinSettings)
@options_of(EncodingSettings)
@options_of(SwapSettings)
def janus(url: str, room: str, **values: Any) -> None:
    """Join the room ROOM of the Janus at URL (ws://host:8188, wss://..., or http://host:8088/janus).

    The room is one of Janus' plug-in VideoRoom. Ctrl-C leaves.
    """
    config, own = _config(values), JanusSettings.read(given(values, JanusSettings))
    from streamer.joining.janus import JanusRoom
    from streamer.joining.run import run_join

    number = int(room) if room.isdecimal() else room
    run_join(config, url, lambda http: JanusRoom(url, number, config.join.name, own, http))


@join_group.command()
@click.argument("url")
@options_of(WhipSettings)
@options_of(JoinSettings)
@options_of(EncodingSettings)
@options_of(SwapSettings)
def whip(url: str, **values: Any) -> None:
    """Publish to the address URL by WHIP (RFC 9725), as encoders do. Ctrl-C ends it."""
    config, own = _config(values), WhipSettings.read(given(values, WhipSettings))
    token = own.token if own.token_file is None else read_secret(own.token_file)
    from streamer.joining.run import run_join
    from streamer.joining.whip import WhipPlace

    run_join(config, url, lambda http: WhipPlace(url, token, http))


@join_group.command()
@click.argument("url")
@click.argument("token")
@options_of(LivekitSettings)
@options_of(JoinSettings)
@options_of(SwapSettings)
def livekit(url: str, token: str, **values: Any) -> None:
    """Join the room that TOKEN is for, at the LiveKit server URL (wss://...). Ctrl-C leaves.

    TOKEN is the token itself, or @FILE with it in, so that nobody sees it among the processes. Needs LiveKit's own
    library in an environment of its own; without it the command says how to make one.
    """
    config, own = _config(values), LivekitSettings.read(given(values, LivekitSettings))
    secret = read_secret(Path(token[1:])) if token.startswith("@") else token
    from streamer.joining.livekit_room import run_livekit

    run_livekit(config, own, url, secret)


def read_secret(path: Path) -> str:
    """The first line of a file. Raises MediaError."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_TOKEN_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise MediaError(f"{path}: the secret cannot be read ({error.strerror})") from error
    lines = text.split("\n")
    if not lines[0].strip():
        raise MediaError(f"{path}: there is no secret in its first line")
    return lines[0].strip()


def _config(values: Mapping[str, object]) -> JoinConfig:
    """The command's settings, complete and checked. Raises SettingError."""
    swap = SwapSettings.read(given(values, SwapSettings))
    known = (*engine_names(), "auto")
    if swap.engine not in known:
        raise UnknownEngine(f'unknown engine "{swap.engine}"; {nearest(swap.engine, known)}')
    if not swap.label and not swap.label_off_reason.strip():
        raise SettingError("the label can only be switched off with a reason: --label-off-reason")
    return JoinConfig(
        join=JoinSettings.read(given(values, JoinSettings)),
        swap=swap,
        encoding=EncodingSettings.read(given(values, EncodingSettings)),
    )
