"""O7: what a causal student loses by regressing a bidirectional teacher; O9: the law of what a window draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from distill.errors import CannotConverge
from distill.losses.guards import check_teacher
from distill.solvers import between, sample
from distill.times import even_times
from tests.distill.losses.frames import Clip, Window, root
from tests.distill.losses.worlds import UNIT

FIRST = math.pi / 2


def bidirectional(clip: Clip, steps: int = 200) -> Tensor:
    """The teacher's pairs: row i is frame i as a combination of the noises, by the solver that makes them."""
    noises = torch.eye(clip.frames, dtype=torch.float64)
    return sample(clip.teacher(), UNIT, noises, even_times(UNIT, steps), "heun", axes=1).T


def causal(clip: Clip, steps: int = 200) -> Tensor:
    """The same of a teacher that draws frame by frame, from the noise of each and the clean frame before."""
    rows = torch.zeros(clip.frames, clip.frames, dtype=torch.float64)
    for i in range(clip.frames):
        x = torch.zeros(1, clip.frames, dtype=torch.float64)
        x[0, i] = 1
        if i == 0:
            rows[i] = x[0]  # unit variance: the flow of a standard Gaussian stands still
            continue
        look = Window(clip.rho, 1).network(rows[i - 1])
        rows[i] = sample(look, UNIT, x, (*even_times(UNIT, steps)[:-1], 1e-4), "heun", axes=1)[0]
    return rows


def projected(rows: Tensor, y: Tensor) -> Tensor:
    """The least-squares fit of y by the rows: the best that a student who sees them can say."""
    fit: Tensor = rows.T @ torch.linalg.lstsq(rows @ rows.T, rows @ y[:, None], driver="gelsd").solution[:, 0]
    return fit


def kept(teacher: Tensor, i: int) -> float:
    """What is left of the innovation of frame i in a student that sees the clean past and its own noise."""
    past, noise = teacher[:i], torch.eye(len(teacher), dtype=teacher.dtype)[i : i + 1]
    nothing = torch.zeros_like(teacher[i])
    seen = projected(torch.cat([past, noise]), teacher[i])
    new = seen - (projected(past, seen) if i else nothing)
    truth = teacher[i] - (projected(past, teacher[i]) if i else nothing)
    return float(new @ new / (truth @ truth))


@pytest.mark.parametrize(("rho", "first", "middle"), [(0.9, 0.578, 0.654), (0.97, 0.345, 0.549)])
def test_o7_regressing_bidirectional_trajectories_loses_a_third_to_two_thirds(
    rho: float, first: float, middle: float
) -> None:
    clip = Clip(rho, 16)
    pairs = bidirectional(clip)
    assert torch.allclose(pairs, root(clip.covariance), atol=2e-3), "the flow's map is the covariance's root"
    assert kept(pairs, 0) == pytest.approx(first, abs=0.01)
    assert kept(pairs, 8) == pytest.approx(middle, abs=0.01)


@pytest.mark.parametrize("rho", [0.9, 0.97])
def test_o7_a_causal_teacher_can_be_followed(rho: float) -> None:
    clip = Clip(rho, 16)
    pairs = causal(clip, 50)
    assert torch.allclose(pairs @ pairs.T, clip.covariance, atol=0.01)
    for i in (0, 8, 15):
        assert kept(pairs, i) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "objective", ["regression", "consistency", "fixed_grid", "continuous", "policy", "progressive"]
)
def test_o7_it_is_refused_with_the_reason(objective: str) -> None:
    with pytest.raises(CannotConverge, match=r"35 to 65 %.*later frames|later frames.*35 to 65 %"):
        check_teacher(objective, student="causal", teacher="bidirectional")  # type: ignore[arg-type]
    check_teacher(objective, student="causal", teacher="causal")  # type: ignore[arg-type]
    check_teacher(objective, student="bidirectional", teacher="bidirectional")  # type: ignore[arg-type]
    check_teacher("dmd", student="causal", teacher="bidirectional")


def rolled(window: Window, ticks: int, steps: int) -> Tensor:
    """What leaves a graded window, as rows over the noises: each tick every slot comes one level down, the first one
    leaves clean, pure noise enters at the end."""
    width = window.width
    levels = torch.arange(1, width + 1, dtype=torch.float64) / width * FIRST
    known = torch.zeros(1 + width + ticks, dtype=torch.float64)
    known[0] = 1
    a, s = levels.cos(), levels.sin()
    x = (a * window.mean)[:, None] * known
    start = a[:, None] * window.covariance * a + torch.diag(s**2)
    x[:, 1 : 1 + width] += torch.linalg.cholesky(start)
    made = []
    for tick in range(ticks):
        below = (levels - FIRST / width).clamp(min=1e-4)
        x = between(window.network(known), UNIT, x, levels, below, "heun", steps)
        known = window.clean(x, below, known)[0]
        made.append(known)
        fresh = torch.zeros_like(known)
        fresh[1 + width + tick] = 1
        x = torch.cat([x[1:], fresh[None]])
    return torch.stack(made)


def law(window: Window, ticks: int = 40, steps: int = 24) -> tuple[float, float]:
    """Variance of a frame and its correlation with the one before, once the start is forgotten."""
    rows = rolled(window, ticks, steps)
    covariance = rows[-2:] @ rows[-2:].T
    return float(covariance[1, 1]), float(covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt())


@pytest.mark.parametrize("window", [Window(0.9, 1), Window(0.9, 4)], ids=["frame by frame", "graded, all see all"])
def test_o9_clean_past_and_bidirectional_windows_draw_the_true_law(window: Window) -> None:
    variance, lag = law(window)
    assert variance == pytest.approx(1.0, abs=0.01)
    assert lag == pytest.approx(0.9, abs=0.01)


def test_o9_a_causal_mask_inside_a_graded_window_does_not() -> None:
    assert law(Window(0.9, 4, causal=True))[0] == pytest.approx(0.764, abs=0.01)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("rho", "width", "variance"),
    [(0.97, 4, 0.695), (0.99, 4, 0.713), (0.9, 8, 0.720), (0.97, 8, 0.608), (0.99, 8, 0.579)],
)
def test_o9_other_windows(rho: float, width: int, variance: float) -> None:
    assert law(Window(rho, width, causal=True), 140)[0] == pytest.approx(variance, abs=0.01)
    assert law(Window(rho, width), 140)[0] == pytest.approx(1.0, abs=0.01)
