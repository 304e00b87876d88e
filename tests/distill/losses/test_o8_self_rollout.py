"""O8: distribution matching on a student's own roll-outs mends what regression on bidirectional pairs broke.

Six frames, AR(1). The student is causal and linear, x_i = h_i x_(i-1) + g_i z_i, and starts at the regression. Real:
the exact bidirectional denoiser; fake: one linear denoiser for each of twelve noise levels. All through the objectives.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from distill.losses.denoising import Denoising
from distill.losses.dmd import DistributionMatching, of_fake
from distill.network import Network
from tests.distill.losses.frames import Clip, root
from tests.distill.losses.worlds import UNIT

CLIP = Clip(0.9, 6)
LEVELS = torch.linspace(0.1, 1.45, 12)
BATCH = 512
MATCHING = DistributionMatching()


@dataclass(frozen=True)
class Student:
    """h: share of the frame before, g: of the frame's own noise, [T]."""

    h: Tensor
    g: Tensor

    def rolled(self, noise_BT: Tensor) -> Tensor:
        """Its own roll-out, each frame on the one that it made before."""
        frames = [self.g[0] * noise_BT[:, 0]]
        for i in range(1, CLIP.frames):
            frames.append(self.h[i] * frames[-1] + self.g[i] * noise_BT[:, i])
        return torch.stack(frames, 1)

    def covariance(self) -> Tensor:
        with torch.no_grad():
            rows = self.rolled(torch.eye(CLIP.frames)).T
        return rows @ rows.T


def regressed() -> Student:
    """Least squares of the teacher's pairs on the frame before and the frame's own noise."""
    teacher, noise = root(CLIP.covariance).float(), torch.eye(CLIP.frames)
    h, g = torch.zeros(CLIP.frames), torch.diagonal(teacher).clone()
    for i in range(1, CLIP.frames):
        seen = torch.stack([teacher[i - 1], noise[i]])
        h[i], g[i] = torch.linalg.solve(seen @ seen.T, seen @ teacher[i])
    return Student(h, g)


def linear(weights: Tensor) -> Network:
    """x0 = weights[level] x, as an output."""

    def look(x: Tensor, t: Tensor) -> Tensor:
        level = (t[:, None] - LEVELS).abs().argmin(1)
        x0 = torch.einsum("bij,bj->bi", weights[level], x)
        return (t.cos()[:, None] * x - x0) / t.sin()[:, None]

    return look


def exact_denoisers() -> Tensor:
    covariance, eye = CLIP.covariance.float(), torch.eye(CLIP.frames)
    return torch.stack(
        [covariance @ torch.linalg.inv(t.cos() ** 2 * covariance + t.sin() ** 2 * eye) * t.cos() for t in LEVELS]
    )


def off(student: Student) -> float:
    exact = CLIP.covariance.float()
    return float((student.covariance() - exact).norm() / exact.norm())


def trained(updates: int, ratio: int = 5) -> Student:
    """One update of the student for `ratio` of the fake denoiser."""
    generator = torch.Generator().manual_seed(0)
    start, real = regressed(), linear(exact_denoisers())
    student = Student(start.h.requires_grad_(), start.g.requires_grad_())
    weights = exact_denoisers().requires_grad_()
    optimisers = (
        torch.optim.Adam([student.h, student.g], lr=6e-3, betas=(0.0, 0.999)),
        torch.optim.Adam([weights], lr=2e-2, betas=(0.0, 0.999)),
    )
    fading = [
        torch.optim.lr_scheduler.LinearLR(one, 1, 0.02, count)
        for one, count in zip(optimisers, (updates // (ratio + 1), updates))
    ]
    for i in range(updates):
        made = student.rolled(torch.randn(BATCH, CLIP.frames, generator=generator))
        t = LEVELS[torch.randint(0, len(LEVELS), (BATCH,), generator=generator)]
        noise = torch.randn(BATCH, CLIP.frames, generator=generator)
        mover = 0 if i % (ratio + 1) == ratio else 1
        if mover == 0:
            loss = MATCHING(real, linear(weights), UNIT, made, noise, t)
        else:
            loss = of_fake(linear(weights), UNIT, made, noise, t, Denoising("x0"))
        optimisers[mover].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimisers[mover].step()
        fading[mover].step()
    return student


def mended(student: Student) -> None:
    assert off(student) < 0.03
    assert float(student.covariance().diagonal().mean()) == pytest.approx(1.0, abs=0.03)


def test_o8_matching_on_own_rollouts_mends_the_regression() -> None:
    before = regressed()
    assert off(before) == pytest.approx(0.659, abs=1e-3)
    assert float(before.covariance().diagonal().mean()) == pytest.approx(0.438, abs=1e-3)
    mended(trained(1500))


@pytest.mark.long
def test_o8_with_the_references_number_of_updates() -> None:
    mended(trained(3000))
    mended(trained(3000, ratio=1))
