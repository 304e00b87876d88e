"""`vividstream file` with a learned engine: where it fails, standby pictures, counted; never the raw face."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engines import EngineFault, EnginePool, SwapSettings, load
from engines.models.step import IdentityGraph, SwapStep
from engines.runtimes.torch_eager import TorchRuntime
from engines.swappers.latent_graphs import LatentGraphs, loaded_key
from streamer import file
from streamer.config import FileConfig
from streamer.file_report import FileReport
from tests.engines.swappers.graphs import Faulty, small_config, swapper
from tests.streamer.clips import play
from tests.streamer.faces import RAW, RawFace, clip_pictures, face_box

SETTINGS = SwapSettings(engine="tiny")
CONFIG = small_config()
FRAMES = 72


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[EnginePool]:
    """Every session of the command finds its engine here."""
    made = EnginePool()
    monkeypatch.setattr(file, "load", partial(load, pool=made))
    yield made
    made.close()


def use(pool: EnginePool, runtime: type[TorchRuntime], broken: bool) -> None:
    """The engine `tiny` of this pool: small, with random weights, of which one may be no number."""
    torch.set_num_threads(1)
    weights = swapper(CONFIG)
    if broken:
        next(value for value in weights.denoiser.parameters() if value.dim() == 4).data.view(-1)[5] = float("nan")

    def opened() -> LatentGraphs:
        step = runtime(SwapStep(weights, 1), "cpu", "float32", threads=1)
        identity = TorchRuntime(IdentityGraph(swapper(CONFIG), 1), "cpu", "float32", threads=1)
        return LatentGraphs(CONFIG, step, identity, "made in a test")

    pool.enter(loaded_key("tiny", SETTINGS), opened, owner=False).leave()


def swapped(source: Path, target: Path) -> FileReport:
    config = FileConfig(input=source, output=target, identity="lucia", swap=SETTINGS)
    return file.run_file(config, io.StringIO())


def test_weights_that_are_no_numbers_are_found_before_anything_is_written(
    tmp_path: Path, shared_data: Path, pool: EnginePool
) -> None:
    """While warming up, when nobody sees it."""
    use(pool, TorchRuntime, broken=True)
    source = shared_data / "clips" / "single_face.mp4"
    with pytest.raises(EngineFault, match="no numbers"):
        swapped(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_faults_in_the_middle_are_standby_pictures_and_are_counted(
    tmp_path: Path, shared_data: Path, pool: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = dict(enumerate(("nan", "raises", "inf", "faults") * 5, 20))
    monkeypatch.setattr(Faulty, "wrong", faults)
    use(pool, Faulty, broken=False)
    source = shared_data / "clips" / "single_face.mp4"
    report = swapped(source, tmp_path / "out.mp4")
    assert report.outcome == "complete"
    assert report.why == "asked for by name; made in a test"
    assert report.frames.engine_faults == len(faults)
    assert report.frames.drawn == FRAMES - len(faults)
    assert any("failed on 20 frames" in warning for warning in report.warnings)
    pictures = clip_pictures(source)
    raw = RawFace.of(pictures, face_box(pictures))
    shown = play(tmp_path / "out.mp4").pictures
    assert len(shown) == FRAMES
    assert max(raw.likeness(picture) for picture in shown) < RAW
    corner = np.s_[-60:, :60]
    same = [np.abs(one[corner].astype(int) - two[corner]).mean() < 6 for one, two in zip(shown, pictures)]
    assert sum(same) == FRAMES - len(faults), "where it is drawn, the scene is as it was"
