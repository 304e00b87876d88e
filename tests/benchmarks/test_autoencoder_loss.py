"""Each figure of an autoencoder's loss rises with its own fault, and rests where nothing is lost."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from benchmarks.autoencoder_loss import Faces, Looks, Loss, compared, latents_of, noise_of, through
from engines.models.autoencoder import Autoencoder, Shape
from engines.models.config import AutoencoderConfig
from engines.models.temporal import Passage

SIDE_PX, FRAMES = 64, 3


class Lossless(Autoencoder):
    """Moves every pixel into a channel of its own, and back."""

    def __init__(self) -> None:
        super().__init__(
            AutoencoderConfig(
                kind="tiny", latent_channels=192, widths=(8,), temporal_encoder=False, temporal_decoder=False, scale=0.5
            )
        )

    def mean_of(self, x_N3HW: Tensor, passage: Passage) -> Tensor:
        return functional.pixel_unshuffle(x_N3HW, 8)

    def moments_of(self, x_N3HW: Tensor, passage: Passage) -> tuple[Tensor, Tensor]:
        mean = self.mean_of(x_N3HW, passage)
        return mean, torch.full_like(mean, -30)

    def encoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        return ()

    def decoder_shapes(self, size_px: int) -> tuple[Shape, ...]:
        return ()

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """It has no weights."""

    def picture_of(self, z_NChw: Tensor, passage: Passage) -> Tensor:
        return functional.pixel_shuffle(z_NChw, 8)


@pytest.fixture(scope="module")
def faces() -> Faces:
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.standard_normal((FRAMES, SIDE_PX, SIDE_PX, 3)), (0, 1, 1, 0))
    pictures = np.clip(140 + 150 * texture, 40, 220).astype(np.uint8)
    masks = np.zeros(pictures.shape[:3], np.bool_)
    masks[:, 8:56, 8:56] = True
    return Faces("texture", pictures, masks)


def loss(faces: Faces, made: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Loss:
    return compared([faces], [made], Looks(None))


def test_nothing_is_lost_by_a_lossless_one(faces: Faces) -> None:
    model = Lossless()
    made = through(model, faces)
    assert np.array_equal(made, faces.pictures)
    of = loss(faces, made)
    assert (of.psnr, of.ssim, of.colour, of.tone, of.temporal) == pytest.approx((99, 1, 0, 0, 0))
    assert of.sharpness == pytest.approx(1)
    latents = latents_of(model, [faces], 0.5)
    pixels = torch.from_numpy(faces.pictures).float() / 127.5 - 1
    assert latents.deviation == pytest.approx(float(pixels.std()), rel=1e-3)


@pytest.mark.parametrize(
    ("fault", "moved"),
    [
        ("blur", {"sharpness"}),
        ("pale", {"tone", "colour"}),
        ("flicker", {"temporal"}),
        ("noise", {"sharpness", "temporal"}),
    ],
)
def test_each_fault_moves_its_own_figures(faces: Faces, fault: str, moved: set[str]) -> None:
    pictures = faces.pictures.astype(np.float64)
    sign = np.array([1.0, -1, 1])[:, None, None, None]
    made = {
        "blur": ndimage.gaussian_filter(pictures, (0, 1, 1, 0)),
        "pale": pictures + 12,
        "flicker": pictures + 5 * sign,
        "noise": through(Lossless(), faces, noise_of(Lossless(), faces, 0.05)),
    }[fault]
    of, none = asdict(loss(faces, np.clip(made, 0, 255).astype(np.uint8))), asdict(loss(faces, faces.pictures))
    limits = {"sharpness": 0.3, "tone": 3.0, "colour": 3.0, "temporal": 8.0}
    wrong = {name for name in moved if abs(of[name] - none[name]) < limits[name]}
    assert not wrong, of
    assert of["psnr"] < 50
    assert fault == "pale" or of["tone"] < limits["tone"]
