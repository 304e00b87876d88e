"""The plainest loop: for tests of what a stage learns, and of where its gradients go."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from distill.examples.types import Shown
from distill.stages.denoising import DenoisingStage
from distill.training.draws import Draws
from engines.models.config import SwapperConfig, WindowConfig
from engines.models.swapper import Swapper
from tests.distill.made_up import synthetic_batch
from tests.engines.small_engine import SMALL


def small(seed: int = 0, window: WindowConfig | None = None, times: tuple[float, ...] = ()) -> Swapper:
    """A swapper of a few thousand weights, new. Its latents are scaled to the deviation that the schedule expects."""
    torch.set_num_threads(1)
    one_level = SMALL.autoencoder.model_copy(update={"widths": (16,), "scale": 1.12})  # of a new one's latents
    updates: dict[str, object] = {"autoencoder": one_level}
    if window is not None:
        updates["window"] = window
    if times:
        updates["schedule"] = SMALL.schedule.model_copy(update={"times": times})
    config: SwapperConfig = SMALL.model_copy(update=updates)
    return Swapper(config).initialise(seed)


def batch(kind: str = "video", count: int = 2, frames: int = 6, seed: int = 0) -> Shown:
    encoder = SMALL.face_encoder
    return synthetic_batch(
        "video" if kind == "video" else "image",
        batch=count,
        frames=frames,
        picture_px=encoder.picture_px,
        identity_width=encoder.identity_width,
        seed=seed,
    )


def learn(stage: DenoisingStage, shown: Shown, steps: int, rate: float = 1e-2) -> float:
    """On one batch, drawn anew in every step. The loss afterwards as a share of that before, on draws of their own."""
    (player,) = stage.players.values()
    optimiser = torch.optim.AdamW(player.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    before = _level(stage, shown)
    for step in range(steps):
        optimiser.zero_grad()
        stage.loss("painter", shown, Draws(0, step, shown.numbers), 0.0).total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(player.parameters(), 1.0)
        optimiser.step()
    return _level(stage, shown) / before


@torch.no_grad()
def _level(stage: DenoisingStage, shown: Shown, looks: int = 8) -> float:
    draws = (Draws(1, look, shown.numbers) for look in range(looks))
    return sum(float(stage.loss("painter", shown, one, 0.0).total) for one in draws) / looks


def untouched(stage: DenoisingStage, shown: Shown, steps: int = 3) -> Iterator[str]:
    """Parameters of the player that no step's gradient reaches."""
    (player,) = stage.players.values()
    reached: dict[str, Tensor] = {}
    for step in range(steps):
        player.zero_grad()
        stage.loss("painter", shown, Draws(0, step, shown.numbers), 0.0).total.backward()  # type: ignore[no-untyped-call]
        reached |= {name: p.grad for name, p in player.named_parameters() if p.grad is not None and p.grad.any()}
    return (name for name, _ in player.named_parameters() if name not in reached)
