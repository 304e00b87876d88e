"""Completion in bash, zsh and fish: click's own, and the names of identities and engines.

What completes a name is asked at every press of the Tab key, so it never raises and never writes: with a broken store
there is nothing to offer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class
from platformdirs import user_config_path, user_data_path

import engines
from engines import SettingError, VividError, engine_names

PROGRAM = "vividstream"
VARIABLE = "_VIVIDSTREAM_COMPLETE"  # how click is told to complete instead of running
SHELLS = ("bash", "zsh", "fish")
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def identity_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of identities that begin so: those of --identities-dir where it was given before."""
    folder = context.params.get("identities_dir")
    try:
        names = engines.identity_names(Path(folder) if folder else None)
    except (VividError, OSError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def engine_choices(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of engines that begin so, and `auto`."""
    return [CompletionItem(name) for name in (*engine_names(), "auto") if name.startswith(incomplete)]


COMPLETIONS: Mapping[str, Completer] = {"identity": identity_names, "engine": engine_choices}  # by a setting's name


def script_for(shell: str, root: click.Command) -> str:
    """What the shell has to read: click's own script, with this program's name in it."""
    kind = get_completion_class(shell)
    if kind is None:
        raise SettingError(f"no completion for {shell}; there is one for {', '.join(SHELLS)}")
    return kind(root, {}, PROGRAM, VARIABLE).source()


def place_of(shell: str) -> Path:
    """Where the shell looks for completions of this user without being told to; zsh has no such place."""
    if shell == "bash":  # bash-completion's own
        named = os.environ.get("BASH_COMPLETION_USER_DIR")
        return (Path(named) if named else user_data_path("bash-completion")) / "completions" / PROGRAM
    if shell == "fish":
        return user_config_path("fish") / "completions" / f"{PROGRAM}.fish"
    return user_data_path("zsh") / "site-functions" / f"_{PROGRAM}"


def login_shell() -> str:
    """The shell of whoever calls. Raises SettingError where that is none of ours."""
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise SettingError(f"which shell? `vividstream completion {'|'.join(SHELLS)}`")
    return name


def _advice(shell: str, place: Path) -> str:
    if shell == "zsh":
        return f"add to ~/.zshrc, before compinit: fpath=({place.parent} $fpath)"
    if shell == "bash":
        return "read by new shells where the package bash-completion is set up"
    return "read by new shells"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="write it to where the shell looks for it, instead of printing it")
@click.pass_context
def completion_command(context: click.Context, shell: str | None, install: bool) -> None:
    """Complete commands, options and names in bash, zsh or fish.

    Prints what the shell has to read, for example by `eval "$(vividstream completion bash)"` in ~/.bashrc; or installs
    it. SHELL is the login shell if it is not said.
    """
    shell = shell or login_shell()
    text = script_for(shell, context.find_root().command)
    if not install:
        click.echo(text)
        return
    place = place_of(shell)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingError(
            f"{place} cannot be written: {error.strerror}; print it instead, without --install"
        ) from error
    if shutil.which(PROGRAM) is None:
        click.echo(f"note: {PROGRAM} is not in PATH; what completes is the program that is", err=True)
    click.echo(f"{place}\n{_advice(shell, place)}")
