"""The rasteriser: no holes, no sample twice, nearer hides farther, seen from the right side."""

from __future__ import annotations

import pytest
import torch

from distill.people.rasterise import (
    EMPTY,
    Screen,
    Triangles,
    depth_of,
    empty_buffer,
    place,
    rasterise,
    triangle_of,
    weights,
)

SIDE = 160


def sheet(count: int, seed: int) -> tuple[Screen, Triangles]:
    """A jittered grid of points over more than the picture, in two triangles per cell, facing the camera."""
    jitter = torch.Generator().manual_seed(seed)
    line = torch.linspace(-7.3, SIDE + 6.1, count)
    y, x = torch.meshgrid(line, line, indexing="ij")
    cell = float(line[1] - line[0])
    x, y = (value + (torch.rand(count, count, generator=jitter) - 0.5) * 0.6 * cell for value in (x, y))
    number = torch.arange(count * count).reshape(count, count)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    corners = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (b, c, d))])
    screen = Screen(x.reshape(-1), y.reshape(-1), torch.full((count * count,), 0.02))
    return screen, of_corners(corners)


def of_corners(corners: torch.Tensor, two_sided: bool = False) -> Triangles:
    count = len(corners)
    return Triangles(corners, torch.zeros(count, dtype=torch.int64), torch.full((count,), two_sided, dtype=torch.bool))


@pytest.mark.parametrize("count", [5, 40, 230])
def test_a_closed_sheet_covers_every_sample_once(count: int) -> None:
    screen, triangles = sheet(count, count)
    device = torch.device("cpu")
    buffer = rasterise(empty_buffer(1, SIDE, SIDE, device), screen, triangles, SIDE, SIDE)
    assert bool((buffer != EMPTY).all())
    half = len(triangles.corners_T3) // 2
    total = torch.zeros(SIDE * SIDE, dtype=torch.int64)
    for start, stop in ((0, half), (half, 2 * half)):
        part = of_corners(triangles.corners_T3[start:stop])
        drawn = rasterise(empty_buffer(1, SIDE, SIDE, device), screen, part, SIDE, SIDE)
        total += drawn != EMPTY
    assert bool((total == 1).all())


def test_shares_give_the_sample_back() -> None:
    screen, triangles = sheet(23, 3)
    buffer = rasterise(empty_buffer(1, SIDE, SIDE, torch.device("cpu")), screen, triangles, SIDE, SIDE)
    sample = torch.arange(SIDE * SIDE)
    x, y = place(sample, SIDE, SIDE)
    triangle = triangle_of(buffer)
    share = weights(screen, triangles, triangle, x, y)
    corners = triangles.corners_T3[triangle].T
    torch.testing.assert_close((screen.x_M[corners] * share).sum(0), x, atol=2e-3, rtol=0)
    torch.testing.assert_close((screen.y_M[corners] * share).sum(0), y, atol=2e-3, rtol=0)


def test_nearer_hides_farther_and_backs_are_not_seen() -> None:
    x = torch.tensor([10.0, 150, 10, 10, 150, 10])
    y = torch.tensor([10.0, 10, 150, 10, 10, 150])
    screen = Screen(x, y, torch.tensor([0.01, 0.01, 0.01, 0.02, 0.02, 0.02]))
    far_then_near = torch.tensor([[0, 2, 1], [3, 5, 4]])
    device = torch.device("cpu")
    buffer = rasterise(empty_buffer(1, SIDE, SIDE, device), screen, of_corners(far_then_near), SIDE, SIDE)
    seen = buffer[buffer != EMPTY]
    assert len(seen) > 5000
    assert bool((triangle_of(seen) == 1).all())
    torch.testing.assert_close(depth_of(seen), torch.full((len(seen),), 50.0))
    back = of_corners(far_then_near.flip(1))
    assert bool((rasterise(empty_buffer(1, SIDE, SIDE, device), screen, back, SIDE, SIDE) == EMPTY).all())
    both = of_corners(far_then_near.flip(1), two_sided=True)
    assert bool((rasterise(empty_buffer(1, SIDE, SIDE, device), screen, both, SIDE, SIDE) == buffer).all())
