"""`vividstream audit`: is the log as it was written, and what does it say."""

from __future__ import annotations

import click

from engines import IdentityStore, canonical
from streamer.audit.log import audit_log
from streamer.errors import AuditFault


@click.group(name="audit", context_settings={"help_option_names": ["-h", "--help"]})
def audit_group() -> None:
    """What was done with whose face on this machine: a log that cannot be changed unnoticed."""


@audit_group.command("verify")
def verify_command() -> None:
    """Check every line of the audit log. Exit status 1, and which line, where one is not as it was written."""
    audit = audit_log()
    said = audit.read()
    listed = IdentityStore(None).withdrawn()
    for line in said:
        facts = line["facts"]
        if line["event"] == "identity withdrawn" and isinstance(facts, dict) and facts.get("origin") not in listed:
            raise AuditFault(f"{audit.path}: line {line['number']} withdraws a consent that is not listed as withdrawn")
    ends = f", {said[0]['at']} to {said[-1]['at']}" if said else ""
    click.echo(f"{audit.path}: {len(said)} lines, each as it was written{ends}")


@audit_group.command("show")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1), help="how many lines")
def show_command(last: int) -> None:
    """Show the last lines of the audit log, after checking all of them."""
    for line in audit_log().read()[-last:]:
        facts = line["facts"]
        assert isinstance(facts, dict)
        words = " ".join(f"{name}={canonical(fact).decode('ascii')}" for name, fact in facts.items())
        click.echo(f"{line['number']:>5}  {line['at']}  {line['event']}  {words}".rstrip())
