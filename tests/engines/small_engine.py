"""A swapper small enough to be built in seconds: everything that the presets have, and a few thousand weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from engines.build.settings import BuildSettings
from engines.models import presets
from engines.models.config import AutoencoderConfig, DenoiserConfig, FaceEncoderConfig, SwapperConfig, WindowConfig
from engines.models.swapper import Swapper
from engines.weights import ModelCard, write

ROOT = Path(__file__).parent.parent.parent
ROLLOUT = 12

SMALL = SwapperConfig(
    name="small",
    size_px=64,
    window=WindowConfig(frames=4, sinks=1),
    schedule=presets.tiny().schedule,
    autoencoder=AutoencoderConfig(
        kind="tiny", latent_channels=4, widths=(8, 8, 8), blocks=1, temporal_encoder=False, temporal_decoder=True
    ),
    denoiser=DenoiserConfig(
        latent_channels=4,
        widths=(8, 16),
        blocks=1,
        attention=(False, True),
        temporal=(False, True),
        heads=2,
        token_width=16,
        norm="rms",
        positions=8,
    ),
    face_encoder=FaceEncoderConfig(
        identity_width=16,
        backbone="conv",
        picture_px=32,
        feature_width=16,
        tokens=2,
        token_width=16,
        depth=1,
        heads=2,
    ),
)


def write_weights(path: Path, seed: int = 3, config: SwapperConfig = SMALL) -> Path:
    """A file of weights as training would leave it."""
    card = ModelCard(config=config, licence="CC0-1.0", data="none", recipe="test", revision="unknown")
    write(path, Swapper(config).initialise(seed).state_dict(), card)
    return path


def settings(store: Path, weights: Path | None, **changes: object) -> BuildSettings:
    """A short build in float32 for torch."""
    values = {
        "name": "small",
        "runtime": "torch",
        "precision": "float32",
        "weights": weights,
        "store": store,
        "threads": 1,
        "rollout": ROLLOUT,
    }
    return BuildSettings.read({name: value for name, value in (values | changes).items() if value is not None})


@contextmanager
def started_build(store: Path, weights: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The same build, by the command line and in a process of its own; stdout and stderr in one."""
    command = [sys.executable, "-m", "streamer", "engines", "build", "small", "--runtime", "torch"]
    command += ["--precision", "float32", "--weights", str(weights), "--store", str(store), "--threads", "1"]
    command += ["--rollout", str(ROLLOUT), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Lines that the process says, up to the first that has these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if words in line:
            return lines
    raise AssertionError(f'the build ended without "{words}":\n' + "\n".join(lines))


def one_thread() -> None:
    torch.set_num_threads(1)
