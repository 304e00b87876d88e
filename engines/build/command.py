"""`vividstream engines`: what can draw here, and engines built, listed, checked, described and removed.

Importing this file is light, so that `engines list` works where torch is not installed; what needs torch says so.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import click

from engines import store
from engines.build.settings import BuildSettings
from engines.build.tables import built_facts, built_rows, drawing_facts, manifest_text, print_table, verdict_facts
from engines.engine_manifest import EngineManifest
from engines.errors import EngineUnavailable, SettingError, UnknownEngine, nearest
from engines.models import presets
from engines.store import Entry

INSTALL = 'pip install "vividstream[train]"'
IMPORTER = "engines.build.import_command"
LEAST_KEY_DIGITS = 4
LINE_EVERY_S = 10.0
CHATTY = ("onnx_ir", "onnxscript", "torch")

Command = TypeVar("Command", bound=Callable[..., Any])


class EnginesGroup(click.Group):
    """The commands here, and `import`, which is in a module of its own and imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(["import"] if find_spec(IMPORTER) else [])})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "import" and find_spec(IMPORTER):
            from importlib import import_module

            command: click.Command = import_module(IMPORTER).import_command
            return command
        return super().get_command(ctx, cmd_name)


def need_torch(command: str) -> None:
    """Raises EngineUnavailable with the command that mends it where torch is not installed."""
    if find_spec("torch") is None:
        needs = f"`vividstream engines {command}` needs torch"
        raise EngineUnavailable(f"{needs}, which the extra `train` brings: {INSTALL}")


def _store_option(command: Command) -> Command:
    text = "folder of the built engines [default: $VIVIDSTREAM_ENGINES_STORE, or this person's data folder]"
    return click.option("--store", "folder", type=click.Path(path_type=Path, file_okay=False), help=text)(command)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="print JSON")(command)


@click.group("engines", cls=EnginesGroup, short_help="What can draw a face here; build, check, remove engines.")
def engines_group() -> None:
    """What can draw a face here, and the engines that were built for this machine."""


@engines_group.command("list", short_help="List what can draw here, and the engines that are built.")
@_store_option
@_json_option
def list_command(folder: Path | None, as_json: bool) -> None:
    """List what can draw here, which one `auto` takes, and the engines that are built."""
    where = folder or store.default_store()
    whole, broken = store.entries(folder)
    facts = {
        **drawing_facts(whole),
        "store": str(where),
        "built": [built_facts(entry) for entry in whole],
        "broken": [str(error) for error in broken],
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    print_table([(one["name"], one["state"]) for one in facts["engines"]])
    click.echo(f"auto takes {facts['auto']} ({facts['why']})")
    click.echo("")
    if not whole and not broken:
        click.echo(f"no engine is built in {where}; `vividstream engines build --help` says how")
    print_table(built_rows(facts["built"]))
    for line in facts["broken"]:
        click.echo(f"broken: {line}")


def _build_options(command: Command) -> Command:
    """One option for each setting of a build, with its own words and default."""
    for name, field in reversed(BuildSettings.model_fields.items()):
        if name == "name":
            continue
        flag, default, text = "--" + name.replace("_", "-"), field.get_default(), field.description or ""
        if isinstance(default, bool):
            shown = f"{text} [default: {'yes' if default else 'no'}]"
            command = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=shown)(command)
            continue
        shown = text if default is None else f"{text} [default: {default}]"
        command = click.option(flag, name, type=_kind(field.annotation), help=shown)(command)
    return command


def _kind(annotation: Any) -> click.ParamType[Any]:
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is not None and all(isinstance(one, str) for one in kinds):
        return click.Choice(kinds)
    kind = kinds[0] if kinds else annotation
    if kind is Path:
        return click.Path(path_type=Path)
    return click.INT if kind is int else click.STRING


@engines_group.command("build", short_help="Build an engine for this machine, and prove it.")
@click.argument("name")
@_build_options
@_json_option
def build_command(as_json: bool, **values: Any) -> None:
    """Build the engine NAME (tiny, base, full, or what the weights' card says) for this machine, and prove it.

    An engine that fails its golden check is not kept. Weights are those that came with vividstream, a file's, or random
    ones for measuring.
    """
    settings = BuildSettings.read({name: value for name, value in values.items() if value is not None})
    need_torch("build")
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from engines.build.builder import build

    teller = Teller()
    try:
        entry = build(settings, teller)
    finally:
        teller.end()
    if as_json:
        click.echo(json.dumps(built_facts(entry), indent=1))
        return
    proof = entry.manifest.golden
    worst = max(result.rms for result in proof.results)
    click.echo(
        f"{entry.key[:12]}  {entry.manifest.key.name} for {entry.manifest.key.runtime} in {entry.folder}; at most "
        f"{worst:.2g} off eager fp32 torch over {proof.frames} frames ({proof.tolerance.rollout_rms:.2g} is allowed)"
    )
    if entry.manifest.random:
        click.echo("its weights are random: sessions draw with it only where random weights are asked for")


def _say(line: str) -> None:
    click.echo(line, err=True)


class Teller:
    """Says a build's progress: on a terminal in one line that changes, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._said_s, self._open = 0.0, False

    def __call__(self, line: str) -> None:
        moving = line.startswith("[")
        if self._terminal and moving:
            click.echo(f"\r{line:78}", err=True, nl=False)
            self._open = True
            return
        now_s = time.monotonic()
        counting = re.match(r"\[\d+/\d+\] \w+ \d+/", line)  # steps of a stage, not its beginning
        if counting and now_s - self._said_s < LINE_EVERY_S:
            return
        self.end()
        self._said_s = now_s
        click.echo(line, err=True)

    def end(self) -> None:
        """Leaves the line that changes."""
        if self._open:
            click.echo("", err=True)
        self._open = False


@engines_group.command("verify", short_help="Check built engines: machine, files, numbers.")
@click.argument("which", nargs=-1)
@click.option("--quick", is_flag=True, help="machine, versions and files only; nothing is drawn")
@click.option("--device", help="where to draw [default: cpu or cuda, as the engine was built for]")
@click.option("--threads", type=click.IntRange(min=1), help="processor threads of one operation")
@_store_option
@_json_option
def verify_command(
    which: tuple[str, ...], quick: bool, device: str | None, threads: int | None, folder: Path | None, as_json: bool
) -> None:
    """Check engines, all or WHICH (names or keys): machine, files, and the whole stored rollout.

    Exit status 1 if one of them may not draw.
    """
    where = folder or store.default_store()
    whole, broken = store.entries(folder)
    chosen = select(which, whole, where)
    from engines.build.verify import verify

    verdicts = [verify(entry, device, threads, quick) for entry in chosen]
    faults = [] if which else [str(error) for error in broken]
    if as_json:
        click.echo(json.dumps({"engines": [verdict_facts(one) for one in verdicts], "broken": faults}, indent=1))
    else:
        print_table([(one.entry.key[:12], one.entry.manifest.key.name, _said(one, quick)) for one in verdicts])
        for line in faults:
            click.echo(f"broken: {line}")
        if not verdicts and not faults:
            click.echo(f"no engine is built in {where}")
    if faults or any(one.fault for one in verdicts):
        sys.exit(1)


def _said(verdict: Any, quick: bool) -> str:
    if verdict.fault:
        again = store.rebuild_command(verdict.entry.manifest)
        return verdict.fault if again in verdict.fault else f"{verdict.fault}; build it again: `{again}`"
    if quick:
        return "whole, and fits this machine"
    allowed = verdict.entry.manifest.golden.tolerance.rollout_rms
    return f"good: at most {verdict.worst:.2g} off ({allowed:.2g} is allowed), {verdict.ms_per_frame:.1f} ms a frame"


@engines_group.command("describe", short_help="Describe a preset or a built engine.")
@click.argument("which")
@click.option("--steps", type=click.IntRange(1, 8), help="denoising steps of a frame, of a preset [default: 1]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="of weights and memories, of a preset [default: float32]",
)
@_store_option
@_json_option
def describe_command(which: str, steps: int | None, precision: str | None, folder: Path | None, as_json: bool) -> None:
    """Describe WHICH: a preset by name (parts, parameters, FLOPs, memory), or a built engine by name or key."""
    if which in presets.preset_names():
        need_torch("describe")
        from engines.models.describe import describe

        cost = describe(presets.of(which, steps or 1), precision or "float32")
        click.echo(json.dumps(cost.as_json(), indent=1) if as_json else cost.as_table())
        return
    where = folder or store.default_store()
    whole, _ = store.entries(folder)
    for entry in select((which,), whole, where, presets.preset_names()):
        manifest: EngineManifest = entry.manifest
        click.echo(manifest.model_dump_json(indent=1) if as_json else manifest_text(entry))


@engines_group.command("prune", short_help="Remove engines that nobody can use.")
@click.argument("which", nargs=-1)
@click.option("--unfit", is_flag=True, help="also those that cannot run on this machine, with these versions")
@click.option("--superseded", is_flag=True, help="also those of which a newer one of the same kind is there")
@click.option("--dry-run", is_flag=True, help="only say what would be removed")
@click.option("--wait/--no-wait", default=True, help="wait for a build in the same store [default: yes]")
@_store_option
@_json_option
def prune_command(
    which: tuple[str, ...],
    unfit: bool,
    superseded: bool,
    dry_run: bool,
    wait: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Remove what dead builds left and engines that are damaged; with options more; with WHICH exactly those."""
    from engines.build.prune import prune

    where = folder or store.default_store()
    chosen = [entry.key for entry in select(which, store.entries(where)[0], where)] if which else None
    removed = prune(where, chosen, unfit, superseded, dry_run, wait, _say)
    if as_json:
        facts = [{"folder": str(one.folder), "why": one.why, "size_bytes": one.size_bytes} for one in removed]
        click.echo(json.dumps({"removed": facts, "dry_run": dry_run}, indent=1))
        return
    print_table([(one.folder.name[:12], one.why) for one in removed])
    total = sum(one.size_bytes for one in removed)
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(removed)} {verb}, {total / 1e6:.0f} MB" if removed else "nothing to remove")


def select(words: Sequence[str], there: Sequence[Entry], where: Path, also: Sequence[str] = ()) -> list[Entry]:
    """Engines by name, or by the first digits of their key; all of them if nothing is said.

    Raises UnknownEngine, SettingError for digits that fit several.
    """
    if not words:
        return list(there)
    chosen: dict[str, Entry] = {}
    for word in words:
        named = [entry for entry in there if entry.manifest.key.name == word]
        keyed = [entry for entry in there if len(word) >= LEAST_KEY_DIGITS and entry.key.startswith(word)]
        if not named and len(keyed) > 1:
            raise SettingError(f'"{word}" begins {len(keyed)} keys: {", ".join(one.key[:12] for one in keyed)}')
        if not named and not keyed:
            valid = {*also, *(entry.manifest.key.name for entry in there), *(entry.key[:12] for entry in there)}
            hint = nearest(word, valid) if valid else "none is built"
            raise UnknownEngine(f'no engine "{word}" in {where}; {hint}')
        chosen |= {entry.key: entry for entry in named or keyed}
    return list(chosen.values())
