"""True swap on the crop: any predictor of a held-out example's face against its truth. Seconds at toy size.

B examples   T frames   S side of the crop

What is predicted is laid onto the truth as solid as live would lay it onto the frame (`alpha`), so that only what a
viewer would see of it counts, and is compared inside the region that was to be drawn (`mask`). The proxy's own picture
and a network's are measured alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.evaluate import metrics
from distill.examples.types import Shown
from engines.graph import Clock
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper
from engines.noise import noise
from engines.runtimes.base import Array
from engines.runtimes.torch_eager import TorchRuntime
from engines.types import Rgb
from engines.window import recent_order, recent_slot

Predictor = Callable[[Shown], Tensor]  # the face on the crop, [B, T, 3, S, S], -1..1
Row = NDArray[np.float64]
RECENT = 2  # frames that the autoencoder's temporal branch looks back
RESAMPLED = 2000  # draws of the bootstrap
LEAST_DRAWN = 0.5  # of the mask: from here on a pixel counts


@dataclass(frozen=True, slots=True)
class CropError:
    """One example, mean over its frames. NaN: could not be measured. See distill.evaluate.metrics.

    rms       root mean square error, levels of 0..255: the one number to compare by; lower is better
    temporal  rms of the error of frame differences, levels; NaN for a still
    """

    rms: float
    psnr: float
    ssim: float
    colour: float
    temporal: float


@dataclass(frozen=True, slots=True)
class CropErrors:
    """Every example's errors, in the order in which they were shown."""

    examples: tuple[CropError, ...]

    def mean(self, name: str = "rms") -> float:
        """Mean of one figure over examples in which it could be measured; NaN if it could in none."""
        known = [value for one in self.examples if not np.isnan(value := getattr(one, name))]
        return float(np.mean(known)) if known else float("nan")

    def summary(self) -> dict[str, float]:
        """All means, and the number of examples."""
        return {"examples": len(self.examples), **{field.name: self.mean(field.name) for field in fields(CropError)}}


def true_swap_error(predict: Predictor, shown: Iterable[Shown]) -> CropErrors:
    """Measures a predictor over held-out batches. They are taken one by one and forgotten."""
    rows: list[CropError] = []
    with torch.no_grad():
        for batch in shown:
            rows += crop_errors(predict(batch), batch.truth_BT3SS, batch).examples
    return CropErrors(tuple(rows))


def crop_errors(drawn_BT3SS: Tensor, wanted_BT3SS: Tensor, shown: Shown) -> CropErrors:
    """How far what is drawn is from what is wanted, where it is pasted. Pictures -1..1."""
    pasted = torch.lerp(wanted_BT3SS, drawn_BT3SS.float(), shown.alpha_BT1SS)
    return CropErrors(tuple(_error(*one) for one in zip(_rgb(pasted), _rgb(wanted_BT3SS), _inside(shown.mask_BT1SS))))


def _rgb(pictures_BT3SS: Tensor) -> list[list[Rgb]]:
    levels = ((pictures_BT3SS.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [list(clip) for clip in levels.movedim(2, -1).contiguous().cpu().numpy()]


def _inside(mask_BT1SS: Tensor) -> list[list[metrics.Mask]]:
    return [list(clip) for clip in (mask_BT1SS[:, :, 0] >= LEAST_DRAWN).cpu().numpy()]


def _error(result: Sequence[Rgb], truth: Sequence[Rgb], mask: Sequence[metrics.Mask]) -> CropError:
    frames = list(zip(result, truth, mask))
    steady = [
        metrics.temporal_error(result[i], result[i - 1], truth[i], truth[i - 1], mask[i] & mask[i - 1])
        for i in range(1, len(frames))
    ]
    return CropError(
        rms=_mean([metrics.rms(*frame) for frame in frames]),
        psnr=_mean([metrics.psnr(*frame) for frame in frames]),
        ssim=_mean([metrics.ssim(*frame) for frame in frames]),
        colour=_mean([metrics.colour_error(*frame) for frame in frames]),
        temporal=_mean(steady),
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


@dataclass(frozen=True, slots=True)
class Ratio:
    """How one predictor's mean error compares with another's on the same examples, and 95 % of its bootstrap."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(first: CropErrors, second: CropErrors, name: str = "rms", seed: int = 0) -> Ratio:
    """First over second, paired by example. Raises ValueError where they are not of the same examples."""
    if len(first.examples) != len(second.examples) or not first.examples:
        raise ValueError(f"{len(first.examples)} and {len(second.examples)} examples cannot be compared in pairs")
    over, under = (np.array([getattr(one, name) for one in errors.examples]) for errors in (first, second))
    known = ~(np.isnan(over) | np.isnan(under))
    over, under = over[known], under[known]
    chosen = np.random.default_rng(seed).integers(len(over), size=(RESAMPLED, len(over)))
    low, high = np.percentile(over[chosen].mean(1) / under[chosen].mean(1), (2.5, 97.5))
    return Ratio(float(over.mean() / under.mean()), float(low), float(high))


def proxy_picture(shown: Shown) -> Tensor:
    """What the engine `proxy` draws: where every learned one starts."""
    return shown.proxy_BT3SS


def streamed(swapper: Swapper, seed: int = 0) -> Predictor:
    """A student as it is served: frame by frame with its own past, by the very graph that is exported.

    Steps and times are those of `swapper.config`; the noise is the same in every frame, as live by default. The swapper
    is copied as it is when it first draws; stills are streams of one frame.
    """
    graphs: dict[int, tuple[TorchRuntime, TorchRuntime]] = {}
    weight = next(swapper.parameters())
    device, dtype = str(weight.device), weight.dtype

    def predict(shown: Shown) -> Tensor:
        size = len(shown)
        if size not in graphs:
            made = SwapStep(swapper, size, dtype), IdentityGraph(swapper, size, dtype)
            graphs[size] = TorchRuntime(made[0], device), TorchRuntime(made[1], device)
        step, identity = graphs[size]
        shapes = {tensor.name: tensor.shape for tensor in step.spec.inputs}
        lasting = _of_person(swapper, identity, shown)
        lasting["noise"] = np.broadcast_to(noise(seed, 0, shapes["noise"][1:]), shapes["noise"]).copy()
        state, faces = step.init(), []
        for frame in range(shown.masked_BT3SS.shape[1]):
            arrays = lasting | _of_frame(swapper, shown, frame)
            slots: dict[Clock, NDArray[np.int64]] = {
                "window": np.full(size, swapper.window.slot_of(frame), np.int64),
                "recent": np.full(size, recent_slot(frame, RECENT), np.int64),
            }
            found = step.run(state, {name: arrays[name] for name in shapes}, slots)
            faces.append(torch.from_numpy(found["face"].copy()))
        return torch.stack(faces, 1).to(shown.masked_BT3SS.device)

    return predict


def _of_person(swapper: Swapper, identity: TorchRuntime, shown: Shown) -> dict[str, Array]:
    encoder = swapper.config.face_encoder
    weights = np.tile(np.array([encoder.texture_weight, encoder.attribute_weight], np.float32), (len(shown), 1))
    given = {"identity": _array(shown.identity_BI), "texture": _array(shown.texture_B3AA), "weights": weights}
    return {"weights": weights, **identity.run(identity.init(), given, {})}


def _of_frame(swapper: Swapper, shown: Shown, frame: int) -> dict[str, Array]:
    return {
        "masked": _array(shown.of_driver(swapper.config.denoiser.driver)[:, frame]),
        "proxy": _array(shown.proxy_BT3SS[:, frame]),
        "mask": _array(shown.mask_BT1SS[:, frame]),
        "attribute": _array(shown.attribute_BT3AA[:, frame]),
        "positions": np.tile(swapper.window.positions(frame), (len(shown), 1)),
        "bias": np.tile(swapper.window.bias(frame), (len(shown), 1)),
        "recent_order": np.tile(recent_order(frame, RECENT), (len(shown), 1)),
    }


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.float().cpu().numpy())
