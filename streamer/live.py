"""A live picture without a call: source -> worker's seat with a session -> sinks. Fails closed at the sinks.

Threads: the source's (reads, decodes), the worker's (fits, draws), the output's (sinks, standby card). Between them
mailboxes of one slot. What reaches a sink is what a session made, while it is young, or the standby card.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engines import Identity, Session, Status, SwapSettings, load
from streamer.camera.sink import PixelFormat, Sink
from streamer.capture.picture import CapturedSound
from streamer.capture.source import Source, SourceStatus
from streamer.pacing import HOLD_S
from streamer.stats import Quantiles


class Loader(Protocol):
    """What builds a session: `engines.load`."""

    def __call__(self, settings: SwapSettings, identity: Identity | None = None) -> Session: ...


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What is to be drawn, and how large.

    identity    name in the store; None draws nobody: only `passthrough` takes that
    size_px     width and height of what sinks get; None: as the source comes, with even sides
    command     for the audit log
    """

    swap: SwapSettings
    identity: str | None = None
    identities_dir: Path | None = None
    size_px: tuple[int, int] | None = (1280, 720)
    fps: float = 30.0
    pixel_format: PixelFormat | None = None
    command: str = "camera"
    hold_s: float = HOLD_S


@dataclass(frozen=True, slots=True)
class Showing:
    """What the sinks show now."""

    status: Status | None  # of the last picture; None: the standby card
    why: str  # one sentence where it is the card
    source: SourceStatus
    engine: str
    identity: str | None
    readers: int | None  # of all sinks together; None where one cannot say
    age: Quantiles  # capture to written, ms


class Live:
    """One live picture. Made, started and closed by one thread; everything else from any thread.

        live = Live(open_source("0"), [sink], LivePlan(settings, "ada"))
        live.start()                # raises UnknownEngine, EngineUnavailable, IdentityError, SinkError: one sentence
        live.swap_identity("bo")    # from the next picture on; raises IdentityError, and the one before stays
        live.wait(1.0)              # True once it is over: the source ended, or `close`
        live.close()

    From `start` on sinks show the standby card; the engine is loaded meanwhile in the worker's thread.
    """

    def __init__(
        self,
        source: Source,
        sinks: Sequence[Sink],
        plan: LivePlan,
        loader: Loader = load,
        sounds: Callable[[CapturedSound], None] | None = None,
    ) -> None:
        """`sounds` gets the source's sound in the source's thread; delay it by `sound_delay_s`."""
        raise NotImplementedError

    def start(self) -> None:
        """Checks identity and engine, opens the sinks, shows the card, then begins. Raises VividError."""
        raise NotImplementedError

    def swap_identity(self, name: str) -> None:
        """Another identity from the next picture on, whole. Raises IdentityError; then the one before stays."""
        raise NotImplementedError

    def swap_engine(self, name: str) -> None:
        """Another engine: loaded and warmed beside the one that draws, then exchanged between two pictures.

        `passthrough` shows the real face and is refused unless the plan began with it. Raises SettingError,
        EngineUnavailable; then the one before stays.
        """
        raise NotImplementedError

    def pause(self, paused: bool) -> None:
        """The panic key: from now on the standby card, whatever is drawn; the source is closed."""
        raise NotImplementedError

    @property
    def showing(self) -> Showing:
        raise NotImplementedError

    def sound_delay_s(self) -> float:
        """For how long sound has to wait now to be in step with the picture (capture to sink, p50)."""
        raise NotImplementedError

    def numbers(self) -> dict[str, object]:
        """Everything that is counted, as JSON: source, drawn, card, dropped, ages, sinks, readers."""
        raise NotImplementedError

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is over. Returns whether it is."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends all threads, closes source, session and sinks. Safe to call twice."""
        raise NotImplementedError
