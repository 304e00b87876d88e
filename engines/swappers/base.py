"""What every engine is to a session: something that draws one face of one frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engines.identity import Identity
from engines.settings import SwapSettings
from engines.types import Occlusion, Rgb, TrackedFace


class EngineState(Protocol):
    """What an engine remembers of one person between frames. Made by `init`; never shared by two sessions."""


def unmeasured(stage: str) -> None:
    """Nobody wants to know how long a stage took."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One face to draw. `rgb_HW3` is the untouched camera picture; an engine never writes into it.

    lap: an engine with stages of its own calls it at the end of each, by name
    """

    rgb_HW3: Rgb
    face: TrackedFace
    occlusion: Occlusion | None
    captured_s: float
    lap: Callable[[str], None] = unmeasured


class Engine(Protocol):
    """Draws faces. Stateless: what must be remembered is in the state that the caller passes in."""

    name: str
    why: str  # what there is to say of how it runs; empty where there is nothing
    needs_face: bool  # False: the engine draws without tracking (passthrough)

    def init(self) -> EngineState:
        """A fresh state for one person."""

    def warm_up(self) -> None:
        """Compiles kernels and loads models, so that the first frame is not late. Takes seconds."""

    def prepare(self, identity: Identity, settings: SwapSettings) -> object:
        """Makes an identity ready, so that the first frame with it is not late. From any thread."""

    def close(self) -> None:
        """Frees threads and devices. The engine must not draw again."""

    def draw(
        self, state: EngineState, identity: Identity | None, inputs: Inputs, settings: SwapSettings, onto_HW3: Rgb
    ) -> None:
        """Draws the face into `onto_HW3` (uint8 [H, W, 3], at first a copy of the camera picture).

        Raises EngineFault where it cannot; the session then shows a standby picture.
        """
