"""The error as it is seen: it ranks what spoils a face as a person would, and can be learned from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from distill.losses.perceptual import Bands
from engines import IdentityStore
from engines.pixels import resize_area

SIDE = 128
BANDS = Bands()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def face() -> Tensor:
    """A rendered portrait, [3, S, S]."""
    portrait = IdentityStore().load("henrik").portrait_PP3
    side = min(portrait.shape[:2]) // SIDE * SIDE
    small = resize_area(np.ascontiguousarray(portrait[:side, :side]), SIDE, SIDE)
    return torch.from_numpy(small).permute(2, 0, 1).float() / 127.5 - 1


def blurred(picture: Tensor, sigma_px: float) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(picture.numpy(), (0, sigma_px, sigma_px)))


def noise(picture: Tensor) -> Tensor:
    return torch.randn(picture.shape[1:], generator=torch.Generator().manual_seed(0)).expand_as(picture)


def blocky(picture: Tensor) -> Tensor:
    squares = torch.randn(SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(1))
    return squares.repeat_interleave(8, 0).repeat_interleave(8, 1).expand_as(picture)


def as_far(spoiled: Tensor, picture: Tensor, rms: float) -> Tensor:
    """The same kind of error, of the wanted root mean square."""
    error = spoiled - picture
    return picture + error * (rms / float(error.square().mean().sqrt()))


def test_at_the_same_error_by_pixels_it_ranks_as_a_person_does(face: Tensor) -> None:
    shifted = torch.roll(face, 1, 2)
    rms = float((shifted - face).square().mean().sqrt())
    hardly = {"shift": shifted, "brightness": face + rms, "contrast": as_far(face * 0.8, face, rms)}
    badly = {
        "blur": as_far(blurred(face, 1.5), face, rms),
        "noise": as_far(face + noise(face), face, rms),
        "blocks": as_far(face + blocky(face), face, rms),
    }
    of_hardly = {name: float(BANDS(one, face)) for name, one in hardly.items()}
    of_badly = {name: float(BANDS(one, face)) for name, one in badly.items()}
    assert max(of_hardly.values()) < 0.9 * min(of_badly.values()), (of_hardly, of_badly)


def test_more_of_it_is_worse_and_nothing_is_nothing(face: Tensor) -> None:
    blurs = [float(BANDS(blurred(face, sigma_px), face)) for sigma_px in (0.5, 1.0, 2.0, 4.0)]
    assert blurs == sorted(blurs)
    assert abs(float(BANDS(face, face))) < 1e-6


def test_texture_hides_what_smooth_skin_shows(face: Tensor) -> None:
    contrast = blurred((face - blurred(face, 2)).abs().mean(0, keepdim=True), 3)
    most, least = contrast >= contrast.quantile(0.8), contrast <= contrast.quantile(0.2)
    on_texture, on_skin = (face + 0.1 * noise(face) * place / place.float().mean().sqrt() for place in (most, least))
    assert float(BANDS(on_texture, face)) < 0.7 * float(BANDS(on_skin, face))


def test_a_slope_leads_from_a_blur_back_to_the_face(face: Tensor) -> None:
    face = face[:, 40:104, 32:96]
    picture = blurred(face, 1.5).requires_grad_()
    before = float(BANDS(picture.detach(), face))
    optimiser = torch.optim.Adam([picture], 0.02)
    for _ in range(30):
        optimiser.zero_grad()
        BANDS(picture, face).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(BANDS(picture.detach(), face)) < 0.3 * before


def test_gradients_are_numbers_where_nothing_is_to_be_seen() -> None:
    flat = torch.full((2, 3, 16, 16), -1.0)
    made = flat.clone().requires_grad_()
    BANDS(made, flat).backward()  # type: ignore[no-untyped-call]
    assert made.grad is not None
    assert bool(torch.isfinite(made.grad).all())


def test_errors_count_where_the_weight_is(face: Tensor) -> None:
    left = torch.zeros(1, SIDE, SIDE)
    left[..., : SIDE // 2] = 2
    spoiled = face.clone()
    spoiled[..., SIDE // 2 + 8 :] = 0
    assert float(BANDS(spoiled, face, left)) < 0.01 * float(BANDS(spoiled, face))
    even = torch.ones(1, SIDE, SIDE)
    assert float(BANDS(spoiled, face, even)) == pytest.approx(float(BANDS(spoiled, face)), rel=1e-5)


def test_clips_are_their_frames_and_low_precision_changes_nothing(face: Tensor) -> None:
    truth = torch.stack([face, face.flip(-1)])[None]
    made = truth + 0.1 * noise(face)
    each = [float(BANDS(made[0, frame], truth[0, frame])) for frame in (0, 1)]
    assert float(BANDS(made, truth)) == pytest.approx(sum(each) / 2, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        low = float(BANDS(made, truth))
    assert math.isclose(low, float(BANDS(made, truth)), rel_tol=1e-6)


def test_sparse_blocks_tell_the_same_on_average_over_corners(face: Tensor) -> None:
    sparse, corners = Bands(stride_px=8), [(row, column) for row in range(0, 8, 2) for column in range(0, 8, 2)]
    for spoiled in (blurred(face, 1.5), face + 0.1 * noise(face)):
        mean = sum(float(sparse(spoiled, face, corner=corner)) for corner in corners) / len(corners)
        assert mean == pytest.approx(float(BANDS(spoiled, face)), rel=0.05)
