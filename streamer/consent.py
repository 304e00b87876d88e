"""`vividstream consent`: see what was agreed, renew it, take it back, ask for a clip."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from engines import IdentityError
from streamer.completion import identity_names
from streamer.config import AgreementSettings
from streamer.options import ask_for_consent, given, options_of

FOLDER = click.option(
    "--identities-dir", type=click.Path(path_type=Path), default=None, help="folder of enrolled identities"
)


@click.group(name="consent", context_settings={"help_option_names": ["-h", "--help"]})
def consent_group() -> None:
    """Who agreed to be worn, for what and until when."""


@consent_group.command("show")
@click.argument("name", shell_complete=identity_names)
@FOLDER
def show_command(name: str, identities_dir: Path | None) -> None:
    """Show the consent in the identity NAME, and whether it may be worn."""
    from engines import IdentityStore

    store = IdentityStore(identities_dir)
    manifest = store.look(name)
    click.echo(f"{manifest.name}: {manifest.consent}")
    if manifest.agreement is not None:
        for part, said in manifest.agreement.model_dump().items():
            if said:
                click.echo(f"  {part:<12} {said}")
    click.echo(f"  consent      {manifest.consent_sha256}")
    try:
        store.load(name)
    except IdentityError as error:
        click.echo(f"  may not be worn: {error}")
    else:
        click.echo("  may be worn")


@consent_group.command("renew")
@click.argument("name", shell_complete=identity_names)
@FOLDER
@options_of(AgreementSettings)
def renew_command(name: str, identities_dir: Path | None, **values: Any) -> None:
    """Write a new agreement into the identity NAME and sign it: for one that ended, of an earlier version, or of
    another installation."""
    from engines import IdentityStore
    from streamer.audit.log import record
    from streamer.enroll import agreement_of, facts_of

    settings = AgreementSettings.read(ask_for_consent(given(values, AgreementSettings)))
    store = IdentityStore(identities_dir)
    store.renew(name, agreement_of(settings, datetime.now(UTC)))
    manifest = store.look(name)
    record("identity renewed", **facts_of(manifest))
    click.echo(f"{manifest.name}: {manifest.consent}")


@consent_group.command("revoke")
@click.argument("name", shell_complete=identity_names)
@click.option("--why", default="", help="in a few words, for the audit log")
@FOLDER
def revoke_command(name: str, why: str, identities_dir: Path | None) -> None:
    """Take the consent of the identity NAME back: its file is deleted, and no copy of it is worn here again."""
    from engines import IdentityStore
    from streamer.audit.log import record
    from streamer.enroll import facts_of

    store = IdentityStore(identities_dir)
    manifest = store.look(name)
    record("identity withdrawn", **facts_of(manifest), why=why[:200])
    store.withdraw(name, why)
    click.echo(f"{manifest.name}: withdrawn and deleted. Copies elsewhere, and videos made before, are not reached.")


@consent_group.command("phrase")
def phrase_command() -> None:
    """Ask for a live clip: by lot, what the person is to say and do before a camera in the next half hour."""
    from streamer.challenges import Challenges

    challenge = Challenges().make(datetime.now(UTC))
    click.echo(f"Record one clip with sound, 5 to 60 s, face in the middle, good light:\n  {challenge.sentence()}")
    click.echo(f"then: vividstream enroll NAME --image PHOTO --clip CLIP --challenge {challenge.code}")
