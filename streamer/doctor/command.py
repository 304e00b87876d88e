"""`vividstream doctor`, the command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engines import SettingError, nearest
from streamer.doctor.finding import Verdict
from streamer.doctor.settings import DoctorSettings
from streamer.options import given, options_of
from streamer.settings_file.layers import of_command
from streamer.settings_file.state import state_of

if TYPE_CHECKING:
    from streamer.doctor.checks import Check
    from streamer.doctor.fence import Answer

SERVER = "VIVIDSTREAM_SERVE_"  # what the server is set to, doctor looks at
MARKS = {Verdict.OK: ("ok  ", "green"), Verdict.WARN: ("warn", "yellow"), Verdict.FAIL: ("FAIL", "red")}


@click.command("doctor", short_help="Say what is in the way on this machine, and how to mend it.")
@options_of(DoctorSettings)
@click.option("--only", multiple=True, metavar="CHECK", help="look at this alone; several times for more")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def doctor_command(only: Sequence[str], as_json: bool, **values: Any) -> None:
    """Look at cameras, virtual cameras, browsers, GPU, engines, identities, ports, relays and disk.

    Every line that is not ok carries the command that mends it. What `vividstream serve` is told by environment
    variables is looked at too. The exit status is 1 where anything failed, 0 where there are only warnings.
    """
    from streamer.doctor.fence import run_fenced

    of_server = {**from_file(click.get_current_context()), **from_server(os.environ)}
    config = DoctorSettings.read({**of_server, **given(values, DoctorSettings)})
    answers = []
    if not as_json:
        click.echo(f"looking at what `{config.use}` needs ...", err=True)
    for answer in run_fenced(_chosen(only, config.use), config):
        answers.append(answer)
        if not as_json:
            _print(answer)
    verdicts = [found.verdict for answer in answers for found in answer.found]
    if as_json:
        click.echo(json.dumps(report(answers), indent=1))
    else:
        click.echo(_sum(verdicts))
    sys.exit(int(Verdict.FAIL in verdicts))


def from_server(environment: Any) -> dict[str, object]:
    """What the server's variables say of the settings that doctor has too, as text is read by the command line."""
    found: dict[str, object] = {}
    for name, field in DoctorSettings.model_fields.items():
        text = environment.get(SERVER + name.upper())
        if not text:
            continue
        if name == "port":
            if not text.isdigit():
                raise SettingError(f"{SERVER}PORT={text}: must be a number")
            found[name] = int(text)
        else:
            found[name] = _path_or_text(field.annotation, text)
    return found


def from_file(context: click.Context) -> dict[str, object]:
    """What the settings file's section [serve] says of the settings that doctor has too. Raises SettingError."""
    root, state = context.find_root(), state_of(context)
    serve = root.command.get_command(root, "serve") if isinstance(root.command, click.Group) else None
    if serve is None:
        return {}
    said = of_command(("serve",), serve, state.file, state.preset).checked().values
    return {
        name: _path_or_text(field.annotation, said[name]) if isinstance(said[name], str) else said[name]
        for name, field in DoctorSettings.model_fields.items()
        if said.get(name) is not None
    }


def _path_or_text(annotation: Any, text: str) -> object:
    return Path(text) if "Path" in str(annotation) else text


def report(answers: Iterable[Answer]) -> dict[str, Any]:
    """The whole report as values that JSON has."""
    lines = [
        {"check": answer.name, "took_s": round(answer.took_s, 3), **found.as_json()}
        for answer in answers
        for found in answer.found
    ]
    return {"ok": all(line["verdict"] != Verdict.FAIL for line in lines), "findings": lines}


def _chosen(only: Sequence[str], use: str) -> Sequence[Check]:
    from streamer.doctor.checks import CHECKS, checks_for

    if not only:
        return checks_for(use)
    known = {check.name: check for check in CHECKS}
    for name in only:
        if name not in known:
            raise SettingError(f'unknown check "{name}"; {nearest(name, known)}')
    return [check for check in CHECKS if check.name in only]


def _print(answer: Answer) -> None:
    for index, found in enumerate(answer.found):
        mark, colour = MARKS[found.verdict]
        name = answer.name if index == 0 else ""
        click.echo(f"{click.style(mark, fg=colour, bold=True)}  {name:<11} {found.says}")
        if found.mend:
            click.echo(f"{'':<17} {click.style('$ ' + found.mend, bold=True)}")


def _sum(verdicts: Sequence[Verdict]) -> str:
    failed, warned = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.WARN)
    if not failed and not warned:
        return "all is well"
    return f"{failed} failed, {warned} to know of, {len(verdicts) - failed - warned} ok"
