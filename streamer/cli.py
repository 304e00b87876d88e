"""The command line: `vividstream serve | file | enroll | identities`, and further commands from elsewhere.

An error that has a name is printed as one line, and the exit status is 1; a wrong call is 2; Ctrl-C is 130; `file` has
more (docs/settings.md). Further commands come from installed packages that declare them in the entry-point group
`vividstream.commands`.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

import click

from engines import (
    ConsentEnded,
    EngineUnavailable,
    NotGenuine,
    SettingError,
    StrictModel,
    SwapSettings,
    UnknownEngine,
    VividError,
    engine_names,
    nearest,
)
from streamer.broken import broken
from streamer.config import (
    AgreementSettings,
    EnrollConfig,
    FileConfig,
    GuardSettings,
    IdentitiesConfig,
    ReachSettings,
    ServerConfig,
    SigningSettings,
    TelemetrySettings,
)
from streamer.encoding.settings import EncodingSettings
from streamer.logs import LogFormat, configure
from streamer.options import ask_for_consent, given, options_of
from streamer.settings_file import state

COMMANDS_GROUP = "vividstream.commands"
INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)  # of whoever called
SPINS = "3000"  # some microseconds: longer than the gap between two operations of a network

Config = TypeVar("Config", bound=StrictModel)


class Commands(click.Group):
    """The built-in commands and those of installed packages, which are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_plugged_in()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        built_in = super().get_command(ctx, cmd_name)
        plugged_in = _plugged_in().get(cmd_name)
        if built_in is not None or plugged_in is None:
            return built_in
        try:
            command = plugged_in.load()
        except ImportError as error:
            return _broken(cmd_name, f"cannot start: {error}")
        if not isinstance(command, click.Command):
            return _broken(cmd_name, f"cannot start: {plugged_in.value} is not a click command")
        return command


def _broken(name: str, why: str) -> click.Command:
    """Stands where a command should: listed with what is wrong with it, which it says when it is called."""

    def refuse() -> None:
        raise EngineUnavailable(f'command "{name}" {why}')

    takes_all = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, takes_all, refuse, short_help=why, add_help_option=False)


def _plugged_in() -> Mapping[str, EntryPoint]:
    return _found_by(entry_points)


@cache
def _found_by(find: Callable[..., Iterable[EntryPoint]]) -> Mapping[str, EntryPoint]:
    """Looked for once: 50 ms of a busy disk, and asked for at every command's name."""
    return {point.name: point for point in find(group=COMMANDS_GROUP)}


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="First: `vividstream serve`, and open the address that it prints. Where something is in the way: "
    "`vividstream doctor`.",
)
@click.version_option(package_name="vividstream", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="log more")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="how the log is written")
@state.options
@click.pass_context
def vividstream(context: click.Context, verbose: bool, log_format: LogFormat, preset: str | None) -> None:
    """Live video face swapping: wear a face that is yours to use."""
    configure(verbose, log_format)
    state.apply(context, preset)
    keep_products_on_one_core()


@vividstream.command(epilog="For example: vividstream serve --identity amara --port 8081")
@options_of(ServerConfig)
@options_of(ReachSettings)
@options_of(GuardSettings)
@options_of(EncodingSettings)
@options_of(TelemetrySettings)
@options_of(SwapSettings)
def serve(**values: Any) -> None:
    """Offer the page on which you see yourself with another face.

    Listens on this machine only, unless --host says otherwise; then the page's address carries a token.
    """
    config = _config(ServerConfig, values).resolve()
    from streamer.app import run_server

    run_server(config)


@vividstream.command(epilog="For example: vividstream file in.mp4 -o out.mp4 --identity amara")
@click.argument("input", metavar="IN", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="video file to write")
@options_of(FileConfig, skip=("input", "output"))
@options_of(SigningSettings)
@options_of(SwapSettings)
def file(**values: Any) -> None:
    """Swap the face in the video file IN. Timing and sound are kept."""
    config = _config(FileConfig, values)
    from streamer.file import run_file

    sys.exit(run_file(config).exit_code)


@vividstream.command(
    short_help="Make an identity from photos of a person who agreed.",
    epilog='For example: vividstream enroll ada --image ada.jpg --who "Ada Jones" --purpose "my own calls" --age adult',
)
@click.argument("name")
@click.option(
    "--image", "images", multiple=True, required=True, type=click.Path(path_type=Path),
    help="photo of this one person; repeat it for more photos, which fill each other's gaps",
)  # fmt: skip
@options_of(EnrollConfig, skip=("name", "images"))
@options_of(AgreementSettings)
def enroll(**values: Any) -> None:
    """Make the identity NAME from photos of one person who agreed to it.

    Who agreed, to what, and their statement of age are needed: asked for, where somebody sits before a terminal.
    """
    config = _config(EnrollConfig, values)
    from streamer.enroll import run_enroll

    run_enroll(config)


@vividstream.command()
@options_of(IdentitiesConfig)
def identities(**values: Any) -> None:
    """List whose faces there are."""
    from engines import IdentityStore

    config = _config(IdentitiesConfig, values)
    store = IdentityStore(config.identities_dir)
    if not store.directory.is_dir() and config.identities_dir is not None:
        click.echo(f"note: {store.directory} is no folder, so only those that come with vividstream", err=True)
    rows = []
    for name in store.names():
        manifest = store.look(name)
        try:
            store.load(name)
            worn = "does not exist" if manifest.synthetic else "real"
        except (ConsentEnded, NotGenuine):
            worn = "not worn"  # `vividstream consent show` says why
        rows.append((name, worn, manifest.created[:10], manifest.consent))
    _print_table(rows or [("nobody is enrolled; `vividstream enroll --help` says how",)])


def _config(model: type[Config], values: Mapping[str, object]) -> Config:
    """The command's settings, complete and checked. Raises SettingError."""
    chosen = given(values, model)
    if "swap" in model.model_fields:
        swap = SwapSettings.read(given(values, SwapSettings))
        if swap.engine not in (*engine_names(), "auto"):
            raise UnknownEngine(f'unknown engine "{swap.engine}"; {nearest(swap.engine, (*engine_names(), "auto"))}')
        if not swap.label and not swap.label_off_reason.strip():
            raise SettingError("the label can only be switched off with a reason: --label-off-reason")
        chosen["swap"] = swap
    if "guard" in model.model_fields:
        chosen["guard"] = GuardSettings.read(given(values, GuardSettings))
        chosen["reach"] = ReachSettings.read(given(values, ReachSettings))
        chosen["encoding"] = EncodingSettings.read(given(values, EncodingSettings))
        chosen["telemetry"] = TelemetrySettings.read(given(values, TelemetrySettings))
    if "agreement" in model.model_fields:
        chosen["agreement"] = AgreementSettings.read(ask_for_consent(given(values, AgreementSettings)))
    if "signing" in model.model_fields:
        chosen["signing"] = SigningSettings.read(given(values, SigningSettings))
    return model.read(chosen)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Ends the process with 0, 1 (an error, said in one line), 2 (a wrong call) or 130 (Ctrl-C)."""
    let_idle_threads_sleep()
    try:
        vividstream.main(arguments, prog_name="vividstream", standalone_mode=False, auto_envvar_prefix="VIVIDSTREAM")
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "vividstream"
        click.echo(f"error: {_one_line(error.format_message())} (see `{path} --help`)", err=True)
        sys.exit(error.exit_code)
    except VividError as error:
        click.echo(f"error: {_one_line(str(error))}", err=True)
        sys.exit(1)
    except ImportError as error:
        logging.getLogger(__name__).debug("where it was missing:", exc_info=True)
        click.echo(broken(error), err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno in NOT_ALLOWED and error.filename:
            logging.getLogger(__name__).debug("where it was:", exc_info=True)
            click.echo(f"error: {_one_line(str(error.filename))}: {error.strerror}", err=True)
            sys.exit(1)
        if error.errno not in FULL:
            raise
        click.echo(f"error: {error.filename or 'what is printed'} cannot be written: {error.strerror}", err=True)
        os._exit(1)  # an orderly end would write again what could not be written
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


def let_idle_threads_sleep() -> None:
    """Keeps threads that wait for work from holding a core that others need (figures in docs/log.md).

    OpenMP's (GNU's, torch's on Linux) spin for milliseconds by default: on a machine with other work, a browser in a
    call say, one that spins is put aside in the middle of it and all wait. Not to spin at all doubles a frame on a free
    machine. Read when torch is loaded, so it must be set before; what the environment says stands.

    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def keep_products_on_one_core() -> None:
    """The same for OpenBLAS's threads, which NumPy and SciPy use for a few small products a frame: they spin for some
    25 ms after each. Both are loaded here, since a limit holds for what is loaded; torch has a library of its own.
    """
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1, user_api="blas")


def _one_line(text: str) -> str:
    return " ".join(text.split())
