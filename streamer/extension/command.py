"""`vividstream extension`: writes the browser extension out."""

from __future__ import annotations

from typing import Any

import click

from streamer.extension.settings import ExtensionSettings
from streamer.options import given, options_of


@click.command(
    name="extension",
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="Write the browser extension that adds the camera.",
)
@click.argument("folder", type=click.Path(file_okay=False))
@options_of(ExtensionSettings, skip=("folder",))
def extension_command(folder: str, **values: Any) -> None:
    """Write the browser extension to FOLDER, which adds the camera "vividstream" to web calls.

    For each browser a folder and the same packed. Extension and server of this machine get a token of their own,
    and the command that starts the server with it is printed; another machine's token is said by --token.
    """
    from pathlib import Path

    from streamer.extension.pairing import paired, serve_command, server_file
    from streamer.extension.writer import write_extension

    settings = paired(ExtensionSettings.read({**given(values, ExtensionSettings), "folder": Path(folder)}))
    written = write_extension(settings)
    chromium, firefox = written["chromium"][0].resolve(), written["firefox"][0].resolve()
    if server_file(settings) is not None:
        click.echo(f"Server: {serve_command(settings)}")
    click.echo(f"Chromium: chrome://extensions, Developer mode, Load unpacked: {chromium}")
    click.echo(f"Firefox: about:debugging#/runtime/this-firefox, Load Temporary Add-on: {firefox / 'manifest.json'}")
    if settings.token is None:
        click.echo("Then enter the server's token in the extension's options (vividstream serve --token ...).")
    else:
        click.echo("Then click the extension's icon and choose a face.")
        click.echo("The files carry the server's token: give them to nobody who may not use it.")
