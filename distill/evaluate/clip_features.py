"""Features of clips for the Frechet video distance, by a network that a person brings as a file.

    i3d       Kinetics-400's I3D, as FVD is defined (arXiv 1812.01717): [1, 3, T, 224, 224], -1..1, to 400 numbers.
              The TorchScript file of StyleGAN-V, or an ONNX file with that input
    videomae  VideoMAE-v2 (content-debiased FVD, arXiv 2404.12391): 16 frames spread evenly over the clip,
              [1, 3, 16, 224, 224], 0..1. TorchScript or ONNX, since what is published is a pickle

Tables of FVD can only be compared if network, clip length, picture and number of clips are the same; all are printed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from distill.evaluate.by_file import Net, sha256_of
from engines import EngineUnavailable, Rgb, SettingError
from engines.errors import EngineRefused
from engines.pixels import warp_area
from engines.types import Floats

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["i3d", "videomae"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIDE_PX = 224
VIDEOMAE_FRAMES = 16
TORCHSCRIPT = (".pt", ".jit", ".torchscript")


class ClipNet:
    """A network that makes one row of numbers of a clip."""

    def __init__(self, kind: Kind, path: Path, lengths: Sequence[int]) -> None:
        """lengths: of the clips that will come. Raises EngineUnavailable or EngineRefused, in words."""
        self.kind, self.path, self.sha256 = kind, path, sha256_of(path)
        self._script: Any = None
        self._nets: dict[int, Net] = {}
        if path.suffix in TORCHSCRIPT:
            self._script = _script(path)
        else:
            for frames in {shown_frames(kind, length) for length in lengths}:
                self._nets[frames] = Net(path, (1, 3, frames, SIDE_PX, SIDE_PX))

    def features(self, clip: Sequence[Rgb]) -> Floats:
        """Pictures [T] of uint8 [224, 224, 3] -> float32 [D]."""
        chosen = chosen_frames(self.kind, clip)
        given = prepared(self.kind, chosen)
        if self._script is None:
            return self._nets[len(chosen)].run(given)[0].reshape(-1)
        return self._by_script(given)

    def _by_script(self, given: Floats) -> Floats:
        import torch

        clip: Tensor = torch.from_numpy(given)
        extra = {"rescale": False, "resize": False, "return_features": True} if self.kind == "i3d" else {}
        with torch.inference_mode():
            try:
                found = self._script(clip, **extra)
            except RuntimeError as error:
                raise EngineRefused(f"{self.path}: is not {self.kind} as this project takes it: {error}") from error
        features: Floats = found.float().reshape(-1).numpy()
        return features

    def close(self) -> None:
        for net in self._nets.values():
            net.close()


def _script(path: Path) -> Any:
    import torch

    load: Any = torch.jit.load  # untyped
    try:
        with warnings.catch_warnings():  # deprecated, but it is what the published file wants
            warnings.simplefilter("ignore", DeprecationWarning)
            return load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        raise EngineUnavailable(f"{path}: is no TorchScript file (a pickle is not taken): {words}") from error


def open_clip_net(text: str, lengths: Sequence[int]) -> ClipNet:
    """KIND=FILE."""
    kind, equals, path = text.partition("=")
    for known in KINDS:
        if kind == known and equals:
            return ClipNet(known, Path(path), lengths)
    raise SettingError(f'"{text}" names no network for FVD: {" or ".join(f"{one}=FILE" for one in KINDS)}')


def shown_frames(kind: Kind, length: int) -> int:
    """How many of a clip's frames the network sees."""
    return length if kind == "i3d" else VIDEOMAE_FRAMES


def chosen_frames(kind: Kind, clip: Sequence[Rgb]) -> list[Rgb]:
    """All of them, or 16 spread evenly. Raises ValueError for a clip that is too short for that."""
    frames = shown_frames(kind, len(clip))
    if len(clip) < frames:
        raise ValueError(f"{kind} wants {frames} frames, not {len(clip)}")
    return [clip[(2 * i + 1) * len(clip) // (2 * frames)] for i in range(frames)]


def prepared(kind: Kind, clip: Sequence[Rgb]) -> Floats:
    """float32 [1, 3, T, 224, 224], scaled as the network was trained."""
    levels = np.stack(clip).transpose(3, 0, 1, 2)[None].astype(np.float32)
    return np.ascontiguousarray(levels / 127.5 - 1 if kind == "i3d" else levels / 255)


def square_picture(rgb_HW3: Rgb, centre_px: Floats, side_px: float) -> Rgb:
    """A square of the frame at 224 px: averaged where it is larger, its edge repeated outside of the frame."""
    scale = side_px / SIDE_PX
    samples = max(1, int(np.ceil(scale - 0.05)))
    start = centre_px - side_px / 2 + scale / (2 * samples) - 0.5
    there = np.array([[scale / samples, 0, start[0]], [0, scale / samples, start[1]]], np.float32)
    cut: Rgb = warp_area(np.ascontiguousarray(rgb_HW3), there, SIDE_PX, samples)
    return cut
