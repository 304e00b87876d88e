"""Twins of prepared clips: somebody else who does the same, drawn by a person's own swapper.

A twin gives a training sample its attributes (pose, expression, light) without its identity, so that a network cannot
copy the face that it is to draw: VividFace's attribute-identity disentanglement triplets (arXiv 2412.11279).
"""

from __future__ import annotations

import hashlib
import re

from distill.prepare.clips import Clip
from distill.prepare.settings import PrepareSettings
from engines import (
    EnginePool,
    EngineUnavailable,
    Identity,
    IdentityError,
    IdentityStore,
    Rgb,
    SwapSettings,
    TrackedFace,
)
from engines.swappers.base import Inputs
from engines.swappers.onnx.engine import open_engine


class Decoupler:
    """Draws twins. Close it after use. Raises EngineUnavailable, IdentityError, SettingError."""

    def __init__(self, settings: PrepareSettings) -> None:
        self._identities = identities_of(settings)
        self._swap = SwapSettings(
            engine="onnx",
            model=settings.decoupler,
            model_type=settings.decoupler_type,
            embedder=settings.decoupler_embedder,
            converter=settings.decoupler_converter,
        )
        self._pool = EnginePool()
        try:
            self._engine = open_engine(self._swap, self._pool)
        except EngineUnavailable as error:
            self._pool.close()
            words = re.sub(r"--(?:model-)?(?=type|embedder|converter)", "--decoupler-", str(error))
            raise type(error)(words) from error

    def worn_by(self, person: str) -> Identity:
        """Whose face the twins of a person have: the same in all of their clips, in any run."""
        number = int(hashlib.sha256(person.encode()).hexdigest()[:12], 16)
        return self._identities[number % len(self._identities)]

    def twin(self, clip: Clip, worn: Identity) -> list[Rgb]:
        """The clip's crops with the face exchanged. Raises EngineFault where the swapper fails in one of them."""
        state, drawn = self._engine.init(), []
        for frame in clip.frames:
            onto = frame.rgb_HW3.copy()
            face = TrackedFace(clip.person, frame.points_px, frame.points_px, 1.0)
            self._engine.draw(state, worn, Inputs(frame.rgb_HW3, face, None, frame.at_s), self._swap, onto)
            drawn.append(onto)
        return drawn

    def close(self) -> None:
        self._engine.close()
        self._pool.close()


def identities_of(settings: PrepareSettings) -> list[Identity]:
    """Those of the folder, by name; without a folder the built-in ones. Raises IdentityError where there is none."""
    store = IdentityStore(settings.decoupler_identities)
    built_in = store.built_in()
    names = [name for name in store.names() if (name in built_in) == (settings.decoupler_identities is None)]
    if not names:
        raise IdentityError(f"{settings.decoupler_identities}: no identity in it for the twins to wear")
    return [store.load(name) for name in names]
