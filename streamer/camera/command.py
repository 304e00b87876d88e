"""`vividstream camera`: from a camera, file or address into virtual cameras, until it is ended."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from engines import SettingError, SwapSettings, engines_here
from streamer.camera.settings import CameraSettings
from streamer.errors import SinkError
from streamer.options import given, options_of

LOOK_S = 0.25

log = logging.getLogger(__name__)


@click.command(
    name="camera",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="For example: vividstream camera --source 0 --identity amara",
    short_help="Be a camera with the swapped picture, for every program.",
)
@options_of(CameraSettings)
@options_of(SwapSettings)
@click.option("--list", "as_list", is_flag=True, help="say which cameras and virtual cameras there are, and end")
@click.option(
    "--print-delay", is_flag=True, help="say how late the running camera's picture is, and how to delay the sound by it"
)
@click.option("--tell", metavar="JSON", help="send a command to the running camera, and print its answer")
def camera_command(as_list: bool, print_delay: bool, tell: str | None, **values: Any) -> None:
    """Be a camera: the swapped picture, for every program of this machine that takes one.

    While it runs, keys change who you are: 1 to 9 choose the identity, e the next engine, space shows the standby card.
    Other programs send the same over a socket (`--tell`, or docs/camera.md).
    """
    settings = CameraSettings.read(given(values, CameraSettings))
    if as_list:
        _list(settings)
    elif print_delay:
        _print_delay(_socket(settings))
    elif tell is not None:
        _tell(_socket(settings), tell)
    else:
        run_camera(settings, _swap(values))


def run_camera(settings: CameraSettings, swap: SwapSettings, stop: threading.Event | None = None) -> None:
    """Until a signal, `quit`, the key q, or the end of a file. Raises VividError where it cannot begin."""
    from streamer.camera.keys import Keys, listening, status_line
    from streamer.camera.preview import PreviewSink
    from streamer.camera.sink import Sink
    from streamer.camera.sinks import open_sink
    from streamer.capture.source import open_source
    from streamer.capture.wish import Wish
    from streamer.control import serve_control
    from streamer.live import Live, LivePlan

    stop = stop or threading.Event()
    preview = PreviewSink() if settings.preview else None
    sinks: list[Sink] = [open_sink(what) for what in settings.sink or _usual_sink(preview is not None)]
    _refuse_circle(settings.source, sinks)
    sinks += [preview] if preview else []
    source = open_source(settings.source, Wish(*settings.size_px, settings.fps), settings.loop)
    plan = LivePlan(
        swap, settings.identity, settings.identities_dir, settings.size_px, settings.fps,
        None if settings.pixel_format == "auto" else settings.pixel_format,
        draw_always=settings.unwatched == "draw", patient=settings.wait,
    )  # fmt: skip
    live = Live(source, sinks, plan)
    with ExitStack() as stack:
        path = stack.enter_context(serve_control(_socket(settings), live, stop.set))
        stack.enter_context(_signals(stop))
        _say(f"starting: {settings.source} -> {', '.join(sink.name for sink in sinks)}")
        stack.callback(live.close)
        live.start()
        for sink in sinks:
            _warn(getattr(sink, "warning", ""))
        numbers = live.numbers()
        _say(f"{source.name} -> {numbers['width_px']}x{numbers['height_px']}; {numbers['engine']}: {numbers['why']}")
        if not swap.label:
            log.warning("the label that says that the face is synthetic is switched off")
        if preview is not None:
            _say(f"what goes out: {preview.address}")
        _say(f"commands: {path}")
        if settings.keys and sys.stdin.isatty():
            engines = [name for name in engines_here(swap) if name != "passthrough" or swap.engine == name]
            keys = Keys(live, engines, stop.set, _say)
            stack.enter_context(listening(keys))
            _say(keys.help())
        while not stop.is_set() and not live.wait(LOOK_S):
            pass
        _say(status_line(live.numbers()))
        why = live.showing.source.why
    _say(f"ended: {why if not stop.is_set() else 'as asked'}")


def _swap(values: dict[str, Any]) -> SwapSettings:
    swap = SwapSettings.read(given(values, SwapSettings))
    if not swap.label and not swap.label_off_reason.strip():
        raise SettingError("the label can only be switched off with a reason: --label-off-reason")
    return swap


def _usual_sink(has_preview: bool) -> list[str]:
    """The first loopback device that nobody writes to. Raises SinkError where there is none."""
    from streamer.camera.loopback import NUMBER, how_to_load
    from streamer.v4l2 import devices

    free = [device.path for device in devices.devices() if device.is_loopback and device.can_output]
    if free or has_preview:
        return free[:1]
    raise SinkError(f"there is no virtual camera to write to: {how_to_load(f'/dev/video{NUMBER}')}")


def _refuse_circle(source: str, sinks: list[Any]) -> None:
    meant = {source, f"/dev/video{source}"}
    for sink in sinks:
        if sink.name in meant:
            raise SettingError(f"{sink.name} cannot be source and sink at once; `vividstream camera --list` shows both")


def _socket(settings: CameraSettings) -> Path:
    from streamer.control import default_path

    return settings.control or default_path()


def _list(settings: CameraSettings) -> None:
    if sys.platform != "linux":
        raise SettingError("cameras are listed on Linux only")
    from streamer.camera.listing import list_cameras

    for line in list_cameras(*settings.size_px, settings.fps):
        click.echo(line)


def _tell(path: Path, text: str) -> None:
    from streamer.control import tell

    try:
        said = json.loads(text)
    except ValueError as error:
        raise SettingError('--tell takes a JSON object like \'{"do": "status"}\'') from error
    if not isinstance(said, dict):
        raise SettingError('--tell takes a JSON object like \'{"do": "status"}\'')
    answer = tell(path, said)
    click.echo(json.dumps(answer, ensure_ascii=False))
    sys.exit(0 if answer.get("ok") else 1)


def _print_delay(path: Path) -> None:
    """The figure on standard output, so that scripts can take it; what to do with it on standard error."""
    from streamer.control import tell

    answer = tell(path, {"do": "status"})
    delay_ms = answer.get("delay_ms")
    age = answer.get("age_ms")
    if not isinstance(delay_ms, int) or not isinstance(age, dict) or not age.get("count"):
        raise SettingError(f"no picture has gone out lately: {answer.get('why_card') or 'nothing is drawn yet'}")
    click.echo(f"{delay_ms} ms")
    for line in delay_recipe(delay_ms):
        _say(line)


def delay_recipe(delay_ms: int) -> list[str]:
    """How sound is delayed to match, in the programs that people have."""
    name = "vividstream-microphone"
    properties = f"media.class=Audio/Source node.name={name} node.description={name}"
    command = ["pw-loopback", "--delay", f"{delay_ms / 1e3:.3f}", "--playback-props", properties]
    return [
        f"PipeWire: {shlex.join(command)}",
        f'          then choose "{name}" as the microphone in the call',
        f"OBS: the microphone's Advanced Audio Properties, Sync Offset {delay_ms} ms",
    ]


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end it in order; a second Ctrl-C at once. Only the main thread takes signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _warn(text: str) -> None:
    if text:
        log.warning("%s", text)
