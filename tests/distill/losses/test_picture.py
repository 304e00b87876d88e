"""Pixels, colour, change, and where they count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.colour import encoded, lab
from distill.losses.picture import FEATURES, absolute, changes, colour, even, face_weight, feature_map
from engines.face.align import CENTRE_CM, SPAN_CM
from engines.face.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, face_model


def plain(rgb: tuple[int, int, int], side: int = 16) -> Tensor:
    return (torch.tensor(rgb).float() / 127.5 - 1)[:, None, None].expand(3, side, side).contiguous()


@pytest.mark.parametrize("other", [(205, 160, 140), (90, 60, 50), (12, 8, 5), (255, 255, 255)])
def test_colour_is_the_distance_in_lab(other: tuple[int, int, int]) -> None:
    skin = (200, 150, 130)
    wanted = np.linalg.norm(lab(np.array(skin, np.uint8)) - lab(np.array(other, np.uint8)))
    assert float(colour(plain(other), plain(skin))) * 100 == pytest.approx(wanted, abs=0.02)


def test_detail_that_is_averaged_by_code_values_is_too_dark() -> None:
    """The error by pixels is the same for both; only one of them keeps the tone."""
    rows, columns = np.mgrid[:16, :16]
    freckled = torch.from_numpy(np.where((rows + columns) % 2, 1.0, -0.6).astype(np.float32)).expand(3, 16, 16)
    by_values = torch.full((3, 16, 16), 0.2)
    light = np.array((1.0 + ((0.2 + 0.055) / 1.055) ** 2.4) / 2)
    by_light = torch.full((3, 16, 16), float(encoded(light)) * 2 - 1)
    assert float(colour(by_values, freckled)) * 100 > 5
    assert float(colour(by_light, freckled)) * 100 < 0.05
    assert float(absolute(by_values, freckled)) == pytest.approx(float(absolute(by_light, freckled)), rel=1e-4)


def test_gradients_are_numbers_at_black_and_out_of_range() -> None:
    for value in (-1.0, -1.5, -1 + 1e-7, 1.5):
        made = torch.full((2, 3, 8, 8), value, requires_grad=True)
        (colour(made, torch.full((2, 3, 8, 8), -1.0)) + colour(made, torch.zeros(2, 3, 8, 8))).backward()  # type: ignore[no-untyped-call]
        assert made.grad is not None
        assert bool(torch.isfinite(made.grad).all())
        assert float(made.grad.abs().max()) < 10


def test_what_stays_wrong_is_no_change_and_what_flickers_is() -> None:
    truth = torch.rand(2, 4, 3, 8, 8)
    assert float(changes(truth + 0.3, truth)) < 1e-6
    sign = torch.tensor([1.0, -1, 1, -1])[None, :, None, None, None]
    assert float(changes(truth + 0.1 * sign, truth)) == pytest.approx(0.2, abs=1e-5)


def test_the_weight_is_one_on_average_and_greatest_on_eyes_and_mouth() -> None:
    mask = torch.zeros(2, 3, 1, 64, 64)
    mask[..., 12:56, 12:52] = 1
    weight = face_weight(mask, inside=3, features=2)
    assert float(weight.mean()) == pytest.approx(1)
    eye, cheek, outside = weight[0, 0, 0, 26, 24], weight[0, 0, 0, 34, 16], weight[0, 0, 0, 4, 4]
    assert float(cheek / outside) == pytest.approx(3, rel=0.15)
    assert float(eye / outside) > 4.5
    assert bool((face_weight(torch.zeros_like(mask), 3, 2) == 1).all())


def test_features_lie_where_the_canonical_head_has_them() -> None:
    mean = face_model().mean_S3
    size = 128
    near = feature_map(size, torch.device("cpu"))
    for landmarks in (RIGHT_EYE, LEFT_EYE, OUTER_LIPS):
        x, y = ((mean[landmarks, :2] - CENTRE_CM[:2]) / SPAN_CM + 0.5).T * size
        assert float(near[int(y.mean()), int(x.mean())]) > 0.9
        assert float(near[y.astype(int), x.astype(int)].min()) > 0.3
    assert len(FEATURES) == 3
    assert float(near[size // 8, size // 2]) < 0.01


def test_an_error_of_even_colours_does_not_mind_where_detail_lies() -> None:
    """Noise of the right strength in the wrong place costs little, a wrong tone all that it did before."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 1, 3, 32, 32, generator=rng) - 0.5
    weight = torch.ones(2, 1, 1, 32, 32)
    moved = truth.roll(1, -1)
    sharp, soft = (absolute(*(even(one, side_px) for one in (moved, truth, weight))) for side_px in (1, 8))
    assert soft < 0.1 * sharp
    for side_px in (1, 4, 8):
        tone = absolute(*(even(one, side_px) for one in (truth + 0.2, truth, weight)))
        torch.testing.assert_close(tone, torch.tensor(0.2), atol=1e-5, rtol=0)
    assert torch.equal(even(truth, 1), truth)
    assert even(truth, 8).shape == (2, 1, 3, 4, 4)
