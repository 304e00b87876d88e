"""`vividstream extension`: writes the browser extension out."""

from __future__ import annotations

from typing import Any

import click

from streamer.extension.settings import ExtensionSettings
from streamer.options import given, options_of


@click.command(name="extension", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(file_okay=False))
@options_of(ExtensionSettings, skip=("folder",))
def extension_command(folder: str, **values: Any) -> None:
    """Write the browser extension to FOLDER, which adds the camera "vividstream" to web calls.

    For each browser a folder and the same packed. What --server and --token say is set in it already.
    """
    from pathlib import Path

    from streamer.extension.writer import write_extension

    settings = ExtensionSettings.read({**given(values, ExtensionSettings), "folder": Path(folder)})
    written = write_extension(settings)
    chromium, firefox = written["chromium"][0].resolve(), written["firefox"][0].resolve()
    click.echo(f"Chromium: chrome://extensions, Developer mode, Load unpacked: {chromium}")
    click.echo(f"Firefox: about:debugging#/runtime/this-firefox, Load Temporary Add-on: {firefox / 'manifest.json'}")
    if settings.token is None:
        click.echo("Then enter the server's token in the extension's options (vividstream serve --token ...).")
    else:
        click.echo("The files carry the token: give them to nobody who may not use the server.")
