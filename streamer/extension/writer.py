"""The extension as each browser takes it: a folder, and the same packed."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from engines import SettingError
from streamer.extension.bundle import bundle
from streamer.extension.pairing import NAME, server_file
from streamer.extension.settings import ExtensionSettings

Browser = Literal["chromium", "firefox"]

PRESET = "preset.json"
SOURCE = Path(__file__).parent / "source"
STATIC = Path(__file__).parent.parent / "static"
BUNDLED = ("page.js", "inside.js")  # run in web pages
COPIED = (
    "background.js", "server.js", "settings.js", "popup.html", "popup.js", "options.html", "options.js", "look.css",
)  # fmt: skip
ICONS = (16, 48, 128)
PACKED: Mapping[Browser, str] = {"chromium": "vividstream-chromium.zip", "firefox": "vividstream-firefox.xpi"}
SECURE = ["https://*/*", "http://localhost/*", "http://127.0.0.1/*"]  # where browsers give cameras
ID = "extension@vividstream.example"
SUMMARY = "Adds the camera “vividstream” to web calls: you with another face, from your own vividstream server."
STAMP = (2026, 1, 1, 0, 0, 0)  # the same files make the same archive


def write_extension(settings: ExtensionSettings) -> dict[Browser, tuple[Path, Path]]:
    """Writes FOLDER/chromium, FOLDER/firefox, both packed, and what this machine's server is to be started with.

    Returns folder and archive of each.

    Raises SettingError where the folder cannot be written to.
    """
    written: dict[Browser, tuple[Path, Path]] = {}
    secret = settings.token is not None
    try:
        for browser, archive in PACKED.items():
            folder = settings.folder / browser
            files = extension_files(browser, settings)
            for name, data in files.items():
                folder.mkdir(parents=True, exist_ok=True)
                _write(folder / name, data, secret and name == PRESET)
            _write(settings.folder / archive, _packed(files), secret)
            written[browser] = folder, settings.folder / archive
        if (half := server_file(settings)) is not None:
            _write(settings.folder / NAME, half, secret=True)
    except OSError as error:
        raise SettingError(f'setting "folder": {error.filename or settings.folder}: {error.strerror}') from error
    return written


def extension_files(browser: Browser, settings: ExtensionSettings) -> dict[str, bytes]:
    """All files of the extension for one browser, by name."""
    files = {"manifest.json": _json(manifest(browser, settings)), PRESET: _json(preset(settings))}
    files |= {name: bundle(SOURCE / name, STATIC).encode() for name in BUNDLED}
    files |= {name: (SOURCE / name).read_bytes() for name in COPIED}
    return files | {f"icon{size}.png": (SOURCE / f"icon{size}.png").read_bytes() for size in ICONS}


def preset(settings: ExtensionSettings) -> dict[str, object]:
    """What the extension knows at its first start."""
    given: dict[str, object] = {"server": settings.server, "hide": settings.hide}
    return given if settings.token is None else {**given, "token": settings.token}


def manifest(browser: Browser, settings: ExtensionSettings) -> dict[str, Any]:
    """Manifest V3."""
    matches = [f"{site.rstrip('/')}/*" for site in map(_without_port, settings.site)] or SECURE
    everywhere = {"matches": matches, "run_at": "document_start", "all_frames": True, "match_origin_as_fallback": True}
    icons = {str(size): f"icon{size}.png" for size in ICONS}
    common: dict[str, Any] = {
        "manifest_version": 3,
        "name": "vividstream",
        "version": version("vividstream").partition("+")[0],
        "description": SUMMARY,
        "icons": icons,
        "action": {"default_popup": "popup.html", "default_icon": icons, "default_title": "vividstream"},
        "options_ui": {"page": "options.html", "open_in_tab": True},
        "permissions": ["storage"],
        "host_permissions": [f"{_without_port(settings.server)}/*"],
        "optional_host_permissions": ["https://*/*", "http://localhost/*", "http://127.0.0.1/*"],
        "content_scripts": [
            {**everywhere, "js": ["page.js"], "world": "MAIN"},
            {**everywhere, "js": ["inside.js"]},
        ],
        "content_security_policy": {
            "extension_pages": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self' "
                "https: http://localhost:* http://127.0.0.1:*; base-uri 'none'; form-action 'none'"
            )
        },
    }
    if browser == "chromium":
        background = {"service_worker": "background.js", "type": "module"}
        return {**common, "minimum_chrome_version": "119", "background": background}
    gecko = {
        "id": ID,
        "strict_min_version": "142.0",
        "data_collection_permissions": {"required": ["none"]},
    }
    background = {"scripts": ["background.js"], "type": "module"}  # type: ignore[dict-item]
    return {**common, "background": background, "browser_specific_settings": {"gecko": gecko}}


def _without_port(address: str) -> str:
    parts = urlsplit(address)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}"


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _packed(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, STAMP), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _write(path: Path, data: bytes, secret: bool) -> None:
    """What holds the token is for its owner's eyes from the beginning."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644), "wb") as file:
        file.write(data)
