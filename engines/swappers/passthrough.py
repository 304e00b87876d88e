"""The input as the output: for tests of transport and timing. Runs only when asked for by name."""

from __future__ import annotations

from dataclasses import dataclass

from engines.identity import Identity
from engines.settings import SwapSettings
from engines.swappers.base import EngineState, Inputs
from engines.types import Rgb


@dataclass(slots=True)
class NothingToRemember:
    """The state of an engine without memory."""


class Passthrough:
    """Shows the real face: never chosen by `auto`."""

    name = "passthrough"
    why = ""
    needs_face = False

    def init(self) -> EngineState:
        return NothingToRemember()

    def warm_up(self) -> None:
        """Nothing to compile."""

    def prepare(self, identity: Identity, settings: SwapSettings) -> object:
        """Draws no identity."""
        return None

    def close(self) -> None:
        """Nothing to free."""

    def draw(
        self, state: EngineState, identity: Identity | None, inputs: Inputs, settings: SwapSettings, onto_HW3: Rgb
    ) -> None:
        """Leaves the camera picture as it is."""
