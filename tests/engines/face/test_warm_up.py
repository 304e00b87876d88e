"""After the warm-up no frame waits for a compiler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core.registry import CPUDispatcher

from engines.face import appearance, cut, grid, hand_mask, mesh, own_look, rasterise, regions_on_grid
from engines.face.occlusion import Occluder
from engines.face.track import FaceTracker
from engines.swappers.warm_up import made_up_face
from tests.engines.face import things
from tests.engines.face.scenes import clip

MODULES = (appearance, cut, grid, hand_mask, mesh, own_look, rasterise, regions_on_grid)


def kernels() -> Iterator[tuple[str, Any]]:
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, CPUDispatcher):
                yield f"{module.__name__}.{name}", value


def test_everything_is_compiled_before_the_first_frame(shared_data: Path) -> None:
    tracker, occluder = FaceTracker(max_faces=1, follow="one"), Occluder()
    try:
        tracker.warm_up(made_up_face(256), 256)
        occluder.warm_up(made_up_face(256), 256)
        before = {name: len(kernel.signatures) for name, kernel in kernels()}
        assert before["engines.face.regions_on_grid.grow_alike"] == 1
        track, state = tracker.init(), occluder.init()
        scene = clip(shared_data / "clips/single_face.mp4")
        for index, (rgb, _) in enumerate(things.passing(scene, things.cup(), 15, 25)):
            face = tracker.step(track, rgb, index / 30).faces[0]
            occluder.step(state, rgb, face, index / 30)
        assert {name: len(kernel.signatures) for name, kernel in kernels()} == before
    finally:
        tracker.close()
        occluder.close()
