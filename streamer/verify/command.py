"""`vividstream verify`: marked or not, how surely, by which installation, and what the credentials say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from engines import SettingError


@click.command(
    name="verify",
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="Say whether a file, address or camera shows a marked picture.",
)
@click.argument("what", metavar="FILE|URL", required=False)
@click.option(
    "--camera", is_flag=False, flag_value="", default=None, metavar="[DEVICE]",
    help="look at what a camera shows for some seconds, instead of a file",
)  # fmt: skip
@click.option(
    "--trust", type=click.Path(path_type=Path), multiple=True,
    help="certificates (PEM) of roots whose credentials are trusted, besides this installation's own",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print what was found as JSON")
def verify_command(what: str | None, camera: str | None, trust: tuple[Path, ...], as_json: bool) -> None:
    """Say whether FILE, what lies at URL, or what a camera shows was made by this program.

    Exit status: 0 marked; 3 nothing found, which does not say that a picture is genuine; 4 its credentials do not fit;
    1 it could not be looked at.
    """
    from streamer.verify.look import verify_address, verify_camera, verify_file

    if (what is None) == (camera is None):
        raise click.UsageError("either a file or address, or --camera")
    trusted_pem = "\n".join(_read(path) for path in trust)
    if what is None:
        verdict = verify_camera(camera or "")
    elif what.lower().startswith(("http://", "https://")):
        verdict = verify_address(what, trusted_pem)
    else:
        verdict = verify_file(Path(what), trusted_pem)
    click.echo(json.dumps(verdict.as_json(), indent=2) if as_json else "\n".join(verdict.lines()))
    sys.exit(verdict.exit_code)


def _read(path: Path) -> str:
    """Certificates in PEM. Raises SettingError for a file without."""
    from cryptography import x509

    try:
        data = path.read_bytes()
        x509.load_pem_x509_certificates(data)
        return data.decode("ascii")
    except OSError as error:
        raise SettingError(f'setting "trust": {path}: {error.strerror or error}') from error
    except ValueError as error:
        raise SettingError(f'setting "trust": {path}: no certificates in PEM') from error
