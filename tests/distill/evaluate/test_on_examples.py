"""True swap on the crop: known errors come out as known, and a student is drawn as it is served."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.evaluate.on_examples import CropErrors, Predictor, proxy_picture, ratio, streamed, true_swap_error
from distill.examples.types import Shown
from engines.models.config import (
    AutoencoderConfig,
    DenoiserConfig,
    FaceEncoderConfig,
    ScheduleConfig,
    SwapperConfig,
    WindowConfig,
)
from engines.models.step import SwapStep
from engines.models.swapper import Swapper
from tests.distill.made_up import synthetic_batch

SMALL = SwapperConfig(
    name="small",
    size_px=64,
    window=WindowConfig(frames=4, sinks=1, memory="last_step"),
    schedule=ScheduleConfig(),
    autoencoder=AutoencoderConfig(
        kind="tiny", latent_channels=4, widths=(8, 8), blocks=1, temporal_encoder=False, temporal_decoder=True
    ),
    denoiser=DenoiserConfig(
        widths=(8, 8), blocks=1, attention=(False, True), temporal=(False, True), heads=2, token_width=16, norm="rms"
    ),
    face_encoder=FaceEncoderConfig(
        backbone="conv", picture_px=32, feature_width=16, tokens=2, token_width=16, depth=1, heads=2
    ),
)


def measured(predict: Predictor, *shown: Shown) -> CropErrors:
    return true_swap_error(predict, shown)


def test_the_truth_has_no_error() -> None:
    errors = measured(lambda shown: shown.truth_BT3SS, synthetic_batch(), synthetic_batch("image"))
    assert errors.summary() == {
        "examples": 4, "rms": 0.0, "psnr": 99.0, "ssim": pytest.approx(1), "colour": 0.0, "temporal": 0.0
    }  # fmt: skip
    assert [math.isnan(one.temporal) for one in errors.examples] == [False, False, True, True]


def test_an_error_counts_as_far_as_it_is_pasted() -> None:
    shown = synthetic_batch()
    flat = replace(shown, truth_BT3SS=torch.zeros_like(shown.truth_BT3SS), mask_BT1SS=torch.ones_like(shown.mask_BT1SS))

    def shifted(alpha: float) -> float:
        pasted = replace(flat, alpha_BT1SS=torch.full_like(shown.alpha_BT1SS, alpha))
        return measured(lambda one: one.truth_BT3SS + 20 / 127.5, pasted).mean()

    assert shifted(1) == pytest.approx(20, abs=0.6)  # levels; a half is rounded
    assert shifted(0.5) == pytest.approx(10, abs=0.6)
    assert shifted(0) == 0


def test_what_lies_outside_of_the_region_does_not_count() -> None:
    shown = synthetic_batch()
    errors = measured(lambda one: torch.where(one.mask_BT1SS > 0, one.truth_BT3SS, torch.ones(())), shown)
    assert errors.mean() == 0


def test_flicker_is_seen_and_a_lasting_error_is_none() -> None:
    shown = synthetic_batch(frames=6)
    shown = replace(shown, truth_BT3SS=0.5 * shown.truth_BT3SS, alpha_BT1SS=torch.ones_like(shown.alpha_BT1SS))
    sign = torch.tensor([1.0, -1.0] * 3)[None, :, None, None, None]
    steady = measured(lambda one: one.truth_BT3SS + 0.1, shown)
    flickering = measured(lambda one: one.truth_BT3SS + 0.1 * sign, shown)
    assert steady.mean("rms") == pytest.approx(flickering.mean("rms"), abs=0.1)
    assert steady.mean("temporal") < 1
    assert flickering.mean("temporal") == pytest.approx(2 * 0.1 * 127.5, abs=1)


def test_a_better_guess_has_a_ratio_below_one_beyond_doubt() -> None:
    shown = [synthetic_batch(batch=4, seed=seed) for seed in range(3)]
    proxy = true_swap_error(proxy_picture, shown)
    nearer = true_swap_error(lambda one: torch.lerp(one.proxy_BT3SS, one.truth_BT3SS, 0.5), shown)
    found = ratio(nearer, proxy)
    assert found.low < found.ratio < found.high < 0.6
    assert found.ratio == pytest.approx(0.5, abs=0.03)
    assert ratio(proxy, proxy).high == 1
    with pytest.raises(ValueError, match="12 and 4"):
        ratio(proxy, true_swap_error(proxy_picture, shown[:1]))


def test_a_streamed_student_is_the_served_graph_frame_by_frame() -> None:
    torch.set_num_threads(1)
    swapper = Swapper(SMALL).initialise(3).eval()
    shown = synthetic_batch(frames=5)
    predict = streamed(swapper)
    picture = predict(shown)
    assert picture.shape == shown.truth_BT3SS.shape
    # A later frame changes no earlier one, an earlier one changes the later: it is a stream with a past.
    torch.testing.assert_close(predict(_changed(shown, 4))[:, :4], picture[:, :4], rtol=0, atol=0)
    assert (predict(_changed(shown, 0))[:, 1] - picture[:, 1]).abs().max() > 1e-5
    # Rows do not mix, and a batch of another size is drawn by the same weights.
    torch.testing.assert_close(predict(shown.rows(1, 2))[0], picture[1], rtol=1e-4, atol=1e-4)
    assert isinstance(SwapStep(swapper), torch.nn.Module)  # the swapper is still the caller's
    assert np.isfinite(true_swap_error(predict, [shown]).mean())


def _changed(shown: Shown, frame: int) -> Shown:
    masked: Tensor = shown.masked_BT3SS.clone()
    masked[:, frame] = -masked[:, frame]
    return replace(shown, masked_BT3SS=masked)
