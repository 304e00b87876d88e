"""`vividstream audit`: is the log as it was written, and what does it say."""

from __future__ import annotations

from pathlib import Path

import click

from streamer.errors import AuditFault, no_file


@click.group(
    name="audit",
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="Show and check the log of what was done with whose face.",
)
def audit_group() -> None:
    """What was done with whose face on this machine: a log that cannot be changed unnoticed."""


@audit_group.command("verify")
@click.argument("exports", nargs=-1, type=click.Path(path_type=Path))
def verify_command(exports: tuple[Path, ...]) -> None:
    """Check every line of the audit log. Exit status 1, and which line, where one is not as it was written.

    EXPORTS: files that were written here. Each one's credentials name the line that was added for it, which has to be
    there: so it is found, too, where log and head were both put back to what they were at an earlier time.
    """
    from engines import IdentityStore
    from streamer.audit.log import audit_log

    audit = audit_log()
    said = audit.read()
    listed = IdentityStore(None).withdrawn()
    for line in said:
        facts = line["facts"]
        if line["event"] == "identity withdrawn" and isinstance(facts, dict) and facts.get("origin") not in listed:
            raise AuditFault(f"{audit.path}: line {line['number']} withdraws a consent that is not listed as withdrawn")
    for path in exports:
        _check_named(path, said, audit.path)
    ends = f", {said[0]['at']} to {said[-1]['at']}" if said else ""
    click.echo(f"{audit.path}: {len(said)} lines, each as it was written{ends}")


def _check_named(path: Path, said: list[dict[str, object]], log_path: Path) -> None:
    """Raises AuditFault where the line that a file's credentials name is not in the log."""
    from streamer.credentials import read_credentials

    if why := no_file(path, "a video file"):
        raise AuditFault(f"{path}: {why}")
    credentials = read_credentials(path)
    named = credentials.swap.get("audit_sha256")
    if credentials.state in ("none", "broken") or not isinstance(named, str):
        raise AuditFault(f"{path}: has no whole credentials that name a line of the log")
    if named not in [str(line["sha256"]) for line in said]:
        raise AuditFault(f"{log_path}: the line of {path.name} is not in it: lines were cut off, or it was begun anew")


@audit_group.command("show")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1), help="how many lines")
def show_command(last: int) -> None:
    """Show the last lines of the audit log, after checking all of them."""
    from engines import canonical
    from streamer.audit.log import audit_log

    for line in audit_log().read()[-last:]:
        facts = line["facts"]
        assert isinstance(facts, dict)
        words = " ".join(f"{name}={canonical(fact).decode('ascii')}" for name, fact in facts.items())
        click.echo(f"{line['number']:>5}  {line['at']}  {line['event']}  {words}".rstrip())
