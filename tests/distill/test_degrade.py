"""Degradations: seeded, alike for what belongs together, slow over a clip, and each does what its name says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from distill.compress import Clip, h264, jpeg
from distill.degrade import Degraded, DegradeSettings, _apply, degrade, draw_recipe
from engines import SettingError

NOTHING = DegradeSettings(defocus=0, motion=0, rescale=0, noise=0, colour=0, grey=0, erase=0, jpeg=0, h264=0)


def clip(frames: int = 4, side_px: int = 96, shift: int = 0) -> torch.Tensor:
    """Detail of all sizes on a slope of colour, moving by a pixel a frame."""
    y, x = np.mgrid[:side_px, :side_px].astype(np.float32)
    pictures = []
    for frame in range(frames):
        wave = np.sin((x + frame) / 2.5) * np.cos(y / 3.5) + np.sin((x + frame + shift) / 11)
        pictures.append(np.stack([128 + 45 * wave, 40 + 1.3 * x + 20 * wave, 30 + 1.6 * y], axis=2))
    return torch.from_numpy(np.stack(pictures).clip(0, 255).astype(np.uint8))


def only(seed: int = 1, frames: int = 4, **settings: float) -> Degraded:
    return degrade({"target": clip(frames)}, (seed,), NOTHING.model_copy(update=settings))


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).abs().mean())


def detail(pictures: torch.Tensor) -> float:
    grey = pictures.float().mean(3).numpy()
    return float(np.abs(ndimage.laplace(grey, axes=(1, 2))).mean())


def test_nothing_asked_nothing_done() -> None:
    assert error(only().pictures["target"], clip()) < 0.01


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        seen = set()
        for seed in range(12):
            torch.set_num_threads(1)
            one = degrade({"target": clip()}, (seed, 5)).pictures["target"]
            torch.set_num_threads(2)
            assert torch.equal(one, degrade({"target": clip()}, (seed, 5)).pictures["target"])
            seen.add(one.numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(seen) == 12


def test_what_belongs_together_is_treated_alike() -> None:
    """Two pictures that are equal stay equal, and where they differ only in one half, the other half stays equal."""
    settings = NOTHING.model_copy(update={"defocus": 1, "motion": 1, "noise": 1, "colour": 1, "erase": 1})
    target = clip()
    truth = target.clone()
    truth[:, 70:] = 255 - truth[:, 70:]
    for seed in range(6):
        both = degrade({"target": target, "truth": truth}, (seed,), settings)
        assert torch.equal(both.pictures["target"][:, :60], both.pictures["truth"][:, :60])
        assert not torch.equal(both.pictures["target"], both.pictures["truth"])


def test_refuses_shapes_that_cannot_be_treated_alike() -> None:
    with pytest.raises(ValueError, match="one shape"):
        degrade({"a": clip(2), "b": clip(3)}, (1,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"defocus": 1.1},
        {"noise": -0.1},
        {"rescale_least": 0},
        {"gamma_least": 1.5},
        {"quality_most": 10},
        {"quality_most": 99},
        {"jpeg": 0.7, "h264": 0.7},
        {"blur": 1},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError):
        DegradeSettings.read(wrong)


def test_parameters_drift_slowly() -> None:
    settings = DegradeSettings(defocus=1, motion=1, colour=1)
    moving = 0
    for seed in range(30):
        recipe = draw_recipe(np.random.default_rng(seed), 100, settings)
        assert recipe.defocus_px_T is not None
        assert recipe.gamma_T is not None
        assert recipe.gains_T3 is not None
        assert np.abs(np.diff(recipe.defocus_px_T)).max() < 0.15
        assert np.abs(np.diff(np.log(recipe.gains_T3), axis=0)).max() < 0.05
        assert recipe.gamma_T.min() >= 0.7 - 1e-9
        assert recipe.gamma_T.max() <= 1.4 + 1e-9
        moving += int(np.ptp(recipe.defocus_px_T) > 0.05)
    assert moving > 10


def test_one_setting_does_not_change_anothers_draw() -> None:
    with_noise = draw_recipe(np.random.default_rng(3), 8, NOTHING.model_copy(update={"noise": 1, "colour": 1}))
    without = draw_recipe(np.random.default_rng(3), 8, NOTHING.model_copy(update={"colour": 1}))
    assert with_noise.gains_T3 is not None
    assert without.gains_T3 is not None
    np.testing.assert_array_equal(with_noise.gains_T3, without.gains_T3)


def test_shares_are_kept() -> None:
    recipes = [draw_recipe(np.random.default_rng(seed), 1, DegradeSettings()) for seed in range(2000)]

    def share(of: str) -> float:
        tests = {
            "grey": lambda recipe: recipe.grey,
            "jpeg": lambda recipe: recipe.codec == "jpeg",
            "h264": lambda recipe: recipe.codec == "h264",
            "rescale": lambda recipe: recipe.scale < 1,
        }
        return float(np.mean([tests[of](recipe) for recipe in recipes]))

    assert [share(of) for of in ("grey", "jpeg", "h264", "rescale")] == pytest.approx([0.1, 0.3, 0.4, 0.5], abs=0.04)
    assert {20, 90} <= {recipe.quality for recipe in recipes} <= set(range(20, 91))
    assert min(recipe.scale for recipe in recipes) >= 0.3


@pytest.mark.parametrize("name", ["defocus", "motion", "rescale"])
def test_takes_detail_away(name: str) -> None:
    speckle = np.random.default_rng(5).integers(0, 256, (2, 192, 192, 3)).astype(np.uint8)
    raw = torch.from_numpy(speckle)
    settings = NOTHING.model_copy(update={name: 1})
    kept = [detail(degrade({"a": raw}, (seed,), settings).pictures["a"]) / detail(raw) for seed in range(12)]
    assert max(kept) < 1.02
    assert np.mean(kept) < 0.75


def test_motion_blurs_along_one_direction_only() -> None:
    target = torch.zeros((1, 65, 65, 3), dtype=torch.uint8)
    target[:, 32, 32] = 255
    recipe = draw_recipe(np.random.default_rng(0), 1, NOTHING)
    along_x = replace(recipe, motion_px_T2=np.array([[30.0, 0.0]]))
    streak = _apply(target, along_x, torch.zeros((1, 65, 65), dtype=torch.bool))[0, :, :, 0]
    assert int((streak > 20).any(0).sum()) >= 5
    assert int((streak > 20).any(1).sum()) <= 3


def test_noise_is_new_in_every_frame() -> None:
    still = clip(1).expand(4, -1, -1, -1)
    noisy = degrade({"target": still}, (4,), NOTHING.model_copy(update={"noise": 1})).pictures["target"]
    assert error(noisy[0], noisy[1]) > 0.5
    assert error(noisy.float().mean(0), still[0]) < 3


def test_grey_has_no_colour_left() -> None:
    grey = only(grey=1).pictures["target"]
    assert torch.equal(grey[..., 0], grey[..., 1])
    assert torch.equal(grey[..., 1], grey[..., 2])


def test_says_where_it_erased() -> None:
    done = only(erase=1)
    changed = (done.pictures["target"] != clip()).any(3)
    share = float(done.erased_THW.float().mean())
    assert 0.01 < share < 0.14
    assert not (changed & ~done.erased_THW).any()
    assert float(changed[done.erased_THW].float().mean()) > 0.95


@pytest.mark.parametrize("codec", [jpeg, h264])
def test_lower_quality_is_further_from_the_picture(codec: Callable[[Clip, int], Clip]) -> None:
    raw = clip(6).numpy()
    errors = [float(np.abs(codec(raw, quality).astype(int) - raw).mean()) for quality in (90, 55, 20)]
    assert 0 < errors[0] < errors[1] < errors[2]
    assert errors[0] < 8


@pytest.mark.parametrize("shape", [(1, 17, 33), (5, 64, 64), (12, 97, 50)])
def test_h264_keeps_the_shape_and_the_order(shape: tuple[int, int, int]) -> None:
    frames, height_px, width_px = shape
    levels = np.linspace(20, 230, frames).astype(np.uint8)
    raw = np.broadcast_to(levels[:, None, None, None], (frames, height_px, width_px, 3)).copy()
    out = h264(raw, 80)
    assert out.shape == raw.shape
    assert np.abs(out.mean((1, 2, 3)) - levels).max() < 6


def test_h264_is_a_video_codec() -> None:
    """Frames depend on those before: the same picture is coded differently after another past."""
    a, b = clip(4).numpy(), clip(4, shift=20).numpy()
    b[3] = a[3]
    assert not np.array_equal(h264(a, 40)[3], h264(b, 40)[3])


def test_real_pictures_survive(shared_data: Path) -> None:
    """200 draws on a real portrait: nothing black, nothing burnt out, the face still there."""
    photo = Image.open(shared_data / "photos" / "astronaut.png").convert("RGB").crop((150, 20, 310, 180))
    face = torch.from_numpy(np.asarray(photo.resize((96, 96))).copy())[None]
    plain = face.float().mean(3).flatten()
    alike = []
    started_s = time.monotonic()
    for seed in range(200):
        out = degrade({"target": face}, (seed,)).pictures["target"]
        alike.append(float(torch.corrcoef(torch.stack([plain, out.float().mean(3).flatten()]))[0, 1]))
        assert 8 < float(out.float().mean()) < 247
    assert time.monotonic() - started_s < 60
    assert np.mean(alike) > 0.85
    assert min(alike) > 0.3
