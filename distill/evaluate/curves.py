"""Quality by steps: teacher and student on the same held-out examples, from the very same noise.

B examples   T frames   n steps   C latent channels   h = w = S/8   S side of the crop

The teacher at many steps is the reference. A student that was distilled by consistency has to come near it picture by
picture; one that was refined by a distribution (DMD, a GAN) need not, and is judged by the truth alone. How much of the
latents' spread is left, band by band, and the energy of their changes tell a blurred or a flickering student from a
good one that errors alone would not tell from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distill.conditions import conditions
from distill.evaluate.bands import NAMES, band_energy
from distill.evaluate.on_examples import CropErrors, crop_errors
from distill.examples.types import Shown
from distill.sampling import Sampler, pictures, sample_clip, sample_stream
from distill.solvers import Solver
from distill.streaming import Roll, stream
from distill.times import even_times
from distill.training.draws import Draws
from engines.models.presets import ddpm_times, trig_times
from engines.models.swapper import Swapper

MOST_STEPS = 8  # of a student: for so many noise is drawn


@dataclass(frozen=True, slots=True)
class Drawn:
    """latents [B, T, C, h, w], pictures [B, T, 3, S, S] -1..1, and how long the denoiser took for all of it."""

    latents: Tensor
    pictures: Tensor
    took_s: float = 0.0


Painter = Callable[[Shown, Tensor], Drawn]  # of a batch and its noise [B, T, n, C, h, w]


@dataclass(slots=True)
class Curve:
    """What one painter's pictures come to.

    true        against the truth, example by example
    near        against the reference, example by example; empty where there is none
    latent      rms distance of the latents from the reference's, over the spread of those
    bands       rms of the latents in each band, over the true ones' (distill.evaluate.bands)
    energy      energy of the latents' changes from frame to frame, over the true ones'
    ms          milliseconds a frame, denoiser alone
    """

    true: CropErrors = field(default_factory=lambda: CropErrors(()))
    near: CropErrors = field(default_factory=lambda: CropErrors(()))
    latent: float = math.nan
    bands: tuple[float, ...] = ()
    energy: float = math.nan
    ms: float = math.nan


def student(swapper: Swapper, steps: int) -> Painter:
    """The few-step stream, as live: frame by frame on its own past."""
    trig = swapper.schedule.kind == "trig"
    roll = Roll(trig_times(steps) if trig else ddpm_times(steps))

    def draw(shown: Shown, noise_BTnChw: Tensor) -> Drawn:
        return _drawn(swapper, shown, lambda given: stream(swapper, given, noise_BTnChw[:, :, :steps], roll))

    return draw


def window_teacher(swapper: Swapper, steps: int, solver: Solver = "dpm++2m", frames: int = 8) -> Painter:
    """The bidirectional teacher, in windows of that many frames that overlap by half."""
    sampler = Sampler(even_times(swapper.schedule, steps), solver)

    def draw(shown: Shown, noise_BTnChw: Tensor) -> Drawn:
        noise = noise_BTnChw[:, :, 0]
        return _drawn(swapper, shown, lambda given: sample_clip(swapper, given, noise, frames, frames // 2, sampler))

    return draw


def stream_teacher(swapper: Swapper, steps: int, solver: Solver = "dpm++2m") -> Painter:
    """The causal teacher: each frame solved on what those before it left."""
    sampler = Sampler(even_times(swapper.schedule, steps), solver)

    def draw(shown: Shown, noise_BTnChw: Tensor) -> Drawn:
        return _drawn(swapper, shown, lambda given: sample_stream(swapper, given, noise_BTnChw[:, :, 0], sampler))

    return draw


def autoencoded(swapper: Swapper) -> Painter:
    """The truth through the autoencoder: what no denoiser can beat."""

    def draw(shown: Shown, noise_BTnChw: Tensor) -> Drawn:
        return _drawn(swapper, shown, lambda given: given.x0_BTChw)

    return draw


def _drawn(swapper: Swapper, shown: Shown, latents_of: Callable[..., Tensor]) -> Drawn:
    given = conditions(swapper, shown)
    start_s = time.perf_counter()
    latents = latents_of(given)
    took_s = time.perf_counter() - start_s
    return Drawn(latents, pictures(swapper, latents, shown.proxy_BT3SS), took_s)


def curves(
    painters: Mapping[str, Painter],
    shown: Iterable[Shown],
    truth_in: Swapper,
    reference: str | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Curve]:
    """Every painter on every batch; batches are taken one by one and forgotten.

    truth_in   whose autoencoder makes the true latents; all painters have to have the same one for latents to compare
    reference  the name of the painter whose pictures the others are to come near
    """
    sums = {name: _Sums() for name in painters}
    with torch.no_grad():
        for number, batch in enumerate(shown):
            truth = conditions(truth_in, batch).x0_BTChw.float()
            noise = Draws(seed, 0, batch.numbers, str(truth.device)).normal(
                "curves", truth.shape[1], MOST_STEPS, *truth.shape[2:]
            )
            wanted = None if reference is None else painters[reference](batch, noise)
            for name, paint in painters.items():
                drawn = wanted if name == reference and wanted is not None else paint(batch, noise)
                sums[name].add(drawn, batch, truth, wanted)
            say(f"batch {number + 1}: {len(batch)} examples")
    return {name: each.curve() for name, each in sums.items()}


class _Sums:
    """What is summed up over batches."""

    def __init__(self) -> None:
        self._true: list[CropErrors] = []
        self._near: list[CropErrors] = []
        self._apart = self._spread = 0.0
        self._bands = torch.zeros(2, len(NAMES), dtype=torch.float64)
        self._energy = torch.zeros(2, dtype=torch.float64)
        self._took_s, self._frames = 0.0, 0

    def add(self, drawn: Drawn, shown: Shown, truth: Tensor, wanted: Drawn | None) -> None:
        self._true.append(crop_errors(drawn.pictures, shown.truth_BT3SS, shown))
        latents = drawn.latents.float()
        if wanted is not None:
            self._near.append(crop_errors(drawn.pictures, wanted.pictures, shown))
            aim = wanted.latents.float()
            self._apart += float((latents - aim).double().square().sum())
            self._spread += float((aim - aim.mean()).double().square().sum())
        for i, one in enumerate((latents, truth)):
            self._bands[i] += band_energy(one.flatten(0, 1)).cpu() * len(shown)
            self._energy[i] += (one[:, 1:] - one[:, :-1]).double().square().sum().cpu()
        self._took_s += drawn.took_s
        self._frames += latents.shape[0] * latents.shape[1]

    def curve(self) -> Curve:
        ratios = (self._bands[0] / self._bands[1]).sqrt()
        return Curve(
            true=CropErrors(tuple(one for part in self._true for one in part.examples)),
            near=CropErrors(tuple(one for part in self._near for one in part.examples)),
            latent=math.sqrt(self._apart / self._spread) if self._spread > 0 else math.nan,
            bands=tuple(ratios.tolist()),
            energy=float(self._energy[0] / self._energy[1]) if self._energy[1] > 0 else math.nan,
            ms=1000 * self._took_s / max(self._frames, 1),
        )
