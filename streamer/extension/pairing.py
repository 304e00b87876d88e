"""The extension and the server of this machine know each other from the start: one token, written for both.

The server's half is a settings file beside the extension, that its owner alone can read: so the token stands in no
command line, which other people of the machine see, and the server needs no way by which a stranger could ask for it.
"""

from __future__ import annotations

import json
import secrets
import shlex
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from engines import SettingError
from streamer.extension.settings import LOOPBACK, ExtensionSettings

NAME = "serve.toml"
HEAD = "# Written by `vividstream extension`, for the server that its extension talks to."
CALLS = 2  # a call, and one that has not ended yet
TOKEN_BYTES = 24
PORTS = {"http": 80, "https": 443}


def paired(settings: ExtensionSettings) -> ExtensionSettings:
    """With a token where the server is this machine's: the one given, the one of before, or a fresh one.

    Raises SettingError for a file in the way that is not ours.
    """
    before = _token_of(settings.folder / NAME) if _is_here(settings) else None
    if settings.token is not None or not _is_here(settings):
        return settings
    return settings.model_copy(update={"token": before or secrets.token_urlsafe(TOKEN_BYTES)})


def server_file(settings: ExtensionSettings) -> bytes | None:
    """The server's half; None where the server is another machine's."""
    if not _is_here(settings) or settings.token is None:
        return None
    parts = urlsplit(settings.server)
    lines = [
        HEAD,
        "[serve]",
        f"host = {json.dumps(parts.hostname if parts.hostname != 'localhost' else '127.0.0.1')}",
        f"port = {parts.port or PORTS[parts.scheme]}",
        f"max_sessions = {CALLS}",
        f"token = {json.dumps(settings.token)}",
        "",
    ]
    return "\n".join(lines).encode()


def serve_command(settings: ExtensionSettings) -> str:
    """What starts the server that this extension talks to, for a shell."""
    return f"vividstream --config {shlex.quote(str((settings.folder / NAME).resolve()))} serve"


def _is_here(settings: ExtensionSettings) -> bool:
    parts = urlsplit(settings.server)
    return parts.scheme == "http" and parts.hostname in LOOPBACK


def _token_of(path: Path) -> str | None:
    """The token of an earlier time, so that an extension that is installed already still fits."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error
    if not text.startswith(HEAD):
        raise SettingError(f"{path} is there already and not of this command; choose another folder")
    try:
        token = tomllib.loads(text)["serve"]["token"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SettingError(f"{path} has no token any more; delete it, and the extension gets a new one") from error
    if not isinstance(token, str) or len(token) < 16:
        raise SettingError(f"{path} has no token any more; delete it, and the extension gets a new one")
    return token
