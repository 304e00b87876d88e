"""What a camera and a call do to a picture: blur, few pixels, noise, colour, compression. Drawn once for a clip.

All pictures of one call (`degrade`) get the same of everything, noise included, so that a target and its truth stay
what they are to each other; geometry is never touched, so masks and landmarks stay true. Parameters drift slowly over a
clip, as exposure and focus do. The same seed gives the same bytes on the CPU.

Order as in a camera: lens (blur), exposure and colour, sensor noise, then what a call does: fewer pixels, JPEG or
H.264 at that size, and the way back up. Random erasing comes before the compression, as if something were in view.
Legend: T frames, H, W pixels, 3 colour channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from distill.compress import h264, jpeg
from engines import StrictModel

Series = NDArray[np.float64]

BLUR_TAPS = 15  # odd; both blurs have to fit into it


def _share(default: float, of: str) -> float:
    """A field: how often something is done, 0 to 1."""
    share: float = Field(default, ge=0, le=1, description=f"share of samples {of}")
    return share


class DegradeSettings(StrictModel):
    """How often (shares 0..1) and how much. Lengths are of a picture of 256 px and grow with it."""

    defocus: float = _share(0.3, "that are out of focus")
    defocus_most_px: float = Field(2.5, ge=0, description="largest blur of the lens, sigma")
    motion: float = _share(0.2, "with motion blur")
    motion_most_px: float = Field(9.0, ge=0, description="longest way during one exposure")
    rescale: float = _share(0.5, "that were sent smaller")
    rescale_least: float = Field(0.3, gt=0, le=1, description="smallest side that is sent, as a share")
    noise: float = _share(0.6, "with sensor noise")
    shot_most: float = Field(0.01, ge=0, description="strongest shot noise, variance over linear brightness")
    read_most: float = Field(0.004, ge=0, description="strongest read noise, standard deviation in linear light")
    colour: float = _share(0.8, "with another white balance, exposure, gamma and saturation")
    gamma_least: float = Field(0.7, gt=0, description="smallest gamma")
    gamma_most: float = Field(1.4, gt=0, description="largest gamma")
    grey: float = _share(0.1, "without colour")
    erase: float = _share(0.15, "with an erased rectangle")
    jpeg: float = _share(0.3, "compressed as JPEG")
    h264: float = _share(0.4, "compressed as H.264")
    quality_least: int = Field(20, ge=1, le=95, description="lowest quality of the compression, on JPEG's scale")
    quality_most: int = Field(90, ge=1, le=95, description="highest quality of the compression")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.gamma_least > self.gamma_most or self.quality_least > self.quality_most:
            raise ValueError("the least is more than the most")
        if self.jpeg + self.h264 > 1:
            raise ValueError("jpeg and h264 are more than 1 together")
        return self


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to a clip. Arrays have one value a frame; None: not done."""

    defocus_px_T: Series | None
    motion_px_T2: Series | None  # the shutter's way, x and y
    scale: float
    shot: float
    read: float
    gains_T3: Series | None  # white balance and exposure, linear
    gamma_T: Series | None
    saturation_T: Series | None
    grey: bool
    erased_T4: Series | None  # left, top, right, bottom as shares of the picture
    erased_rgb: tuple[int, int, int] | None  # None: noise
    codec: str  # "none", "jpeg", "h264"
    quality: int
    noise_seed: int


@dataclass(frozen=True, slots=True)
class Degraded:
    """pictures: uint8 [T, H, W, 3] by name; erased_THW: bool, where nothing of the picture is left."""

    pictures: dict[str, Tensor]
    erased_THW: Tensor
    recipe: Recipe


def degrade(pictures: Mapping[str, Tensor], seed: tuple[int, ...], settings: DegradeSettings | None = None) -> Degraded:
    """Degrades clips that belong together, all alike: uint8 [T, H, W, 3] each, one shape, on one device."""
    shapes = {tuple(clip.shape) for clip in pictures.values()}
    if len(shapes) != 1:
        raise ValueError(f"pictures that are degraded together have one shape, not {sorted(shapes)}")
    frames, height_px, width_px, _ = next(iter(shapes))
    recipe = draw_recipe(np.random.default_rng(seed), frames, settings or DegradeSettings())
    erased_THW = _erased(recipe, frames, height_px, width_px)
    done = {name: _apply(clip, recipe, erased_THW) for name, clip in pictures.items()}
    return Degraded(done, erased_THW.to(next(iter(done.values())).device), recipe)


def draw_recipe(rng: np.random.Generator, frames: int, settings: DegradeSettings) -> Recipe:
    """All chances are drawn whether they are used or not, so that one setting does not change another's draw."""
    defocus = (0.4 + 0.6 * _drift(rng, frames)) * settings.defocus_most_px * rng.beta(1.5, 1.5)
    turn, length = rng.uniform(0, math.pi), settings.motion_most_px * rng.beta(1, 1.5)
    turns = turn + 0.8 * (_drift(rng, frames) - 0.5)
    motion = (_drift(rng, frames) * length)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    warm, tint, stops = rng.normal(0, 0.12), rng.normal(0, 0.04), rng.normal(0, 0.2)
    logs = np.array([warm, tint, -warm])[None] * (0.8 + 0.4 * _drift(rng, frames))[:, None]
    gains = np.exp(logs + stops * (0.7 + 0.6 * _drift(rng, frames))[:, None])
    low, high = math.log(settings.gamma_least), math.log(settings.gamma_most)
    gamma = np.exp(np.clip(rng.uniform(low, high) + 0.1 * (_drift(rng, frames) - 0.5), low, high))
    saturation = np.clip(rng.uniform(0.4, 1.5) + 0.2 * (_drift(rng, frames) - 0.5), 0.0, 1.6)
    scale = math.exp(rng.uniform(math.log(settings.rescale_least), 0))
    shot, read = settings.shot_most * rng.beta(1, 3), settings.read_most * rng.beta(1, 3)
    erased = _draw_erased(rng, frames)
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    filling = (red, green, blue) if rng.random() < 0.7 else None
    codec = rng.random()
    chance = dict(zip(("defocus", "motion", "rescale", "noise", "colour", "grey", "erase"), rng.random(7).tolist()))
    quality = int(rng.integers(settings.quality_least, settings.quality_most + 1))
    noise_seed = int(rng.integers(2**62))
    noisy = chance["noise"] < settings.noise
    coloured = chance["colour"] < settings.colour
    return Recipe(
        defocus_px_T=defocus if chance["defocus"] < settings.defocus else None,
        motion_px_T2=motion if chance["motion"] < settings.motion else None,
        scale=scale if chance["rescale"] < settings.rescale else 1.0,
        shot=shot if noisy else 0.0,
        read=read if noisy else 0.0,
        gains_T3=gains if coloured else None,
        gamma_T=gamma if coloured else None,
        saturation_T=saturation if coloured else None,
        grey=chance["grey"] < settings.grey,
        erased_T4=erased if chance["erase"] < settings.erase else None,
        erased_rgb=filling,
        codec="jpeg" if codec < settings.jpeg else "h264" if codec < settings.jpeg + settings.h264 else "none",
        quality=quality,
        noise_seed=noise_seed,
    )


def _drift(rng: np.random.Generator, frames: int) -> Series:
    """A value 0..1 that wanders slowly: two waves of 2 to 8 s at 25 frames/s. float64 [T]."""
    periods, phases = rng.uniform(50, 200, 2), rng.uniform(0, 2 * math.pi, 2)
    ticks = np.arange(frames)
    waves = np.sin(2 * math.pi * ticks / periods[0] + phases[0]) + np.sin(2 * math.pi * ticks / periods[1] + phases[1])
    return np.asarray(0.5 + 0.25 * waves)


def _draw_erased(rng: np.random.Generator, frames: int) -> Series:
    """A rectangle of 2 to 12 % of the picture that moves a little. float64 [T, 4]."""
    area, ratio = rng.uniform(0.02, 0.12), math.exp(rng.uniform(-0.8, 0.8))
    half = np.array([math.sqrt(area * ratio), math.sqrt(area / ratio)]) / 2
    start, way = rng.uniform(0.1, 0.9, 2), rng.normal(0, 0.01, 2)
    middles = start[None] + way[None] * np.arange(frames)[:, None]
    return np.concatenate([middles - half, middles + half], axis=1)


def _erased(recipe: Recipe, frames: int, height_px: int, width_px: int) -> Tensor:
    erased_THW = torch.zeros((frames, height_px, width_px), dtype=torch.bool)
    if recipe.erased_T4 is not None:
        for frame, (left, top, right, bottom) in enumerate(recipe.erased_T4.tolist()):
            rows = slice(max(round(top * height_px), 0), max(round(bottom * height_px), 0))
            columns = slice(max(round(left * width_px), 0), max(round(right * width_px), 0))
            erased_THW[frame, rows, columns] = True
    return erased_THW


def _apply(clip_THW3: Tensor, recipe: Recipe, erased_THW: Tensor) -> Tensor:
    """One clip, uint8 [T, H, W, 3] -> the same."""
    frames, height_px, width_px, _ = clip_THW3.shape
    device = clip_THW3.device
    light_T3HW = _linear(clip_THW3.permute(0, 3, 1, 2).float() / 255)
    kernels = _kernels(recipe, frames, max(height_px, width_px) / 256)
    if kernels is not None:
        light_T3HW = _blur(light_T3HW, kernels.to(device))
    if recipe.gains_T3 is not None:
        light_T3HW = light_T3HW * _per_frame(recipe.gains_T3, device)
    generator = torch.Generator(device).manual_seed(recipe.noise_seed)
    if recipe.shot or recipe.read:
        deviation = (recipe.shot * light_T3HW.clamp(0, 4) + recipe.read**2).sqrt()
        light_T3HW = light_T3HW + deviation * torch.randn(light_T3HW.shape, generator=generator, device=device)
    picture_T3HW = _encoded(light_T3HW)
    picture_T3HW = _colour(picture_T3HW, recipe)
    if recipe.erased_T4 is not None:
        picture_T3HW = torch.where(erased_THW[:, None].to(device), _filling(picture_T3HW, recipe), picture_T3HW)
    if recipe.scale < 1:
        small = (max(round(height_px * recipe.scale), 16), max(round(width_px * recipe.scale), 16))
        picture_T3HW = functional.interpolate(picture_T3HW, small, mode="bilinear", antialias=True)
    picture_T3HW = _compressed(picture_T3HW, recipe)
    if picture_T3HW.shape[2:] != (height_px, width_px):
        picture_T3HW = functional.interpolate(picture_T3HW, (height_px, width_px), mode="bicubic")
    return _bytes(picture_T3HW).permute(0, 2, 3, 1).contiguous()


def _per_frame(values: Series, device: torch.device) -> Tensor:
    """[T] or [T, 3] -> float32 [T, 1 or 3, 1, 1]."""
    return torch.from_numpy(values.astype(np.float32)).to(device).reshape(len(values), -1, 1, 1)


def _linear(srgb: Tensor) -> Tensor:
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055).clamp(min=0) ** 2.4)


def _encoded(light: Tensor) -> Tensor:
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-6) ** (1 / 2.4) - 0.055)


def _bytes(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def _kernels(recipe: Recipe, frames: int, px: float) -> Tensor | None:
    """One blur a frame, float32 [T, taps, taps]: the lens's Gaussian run along the shutter's way."""
    if recipe.defocus_px_T is None and recipe.motion_px_T2 is None:
        return None
    reach = max(round(BLUR_TAPS // 2 * px), 1)
    ticks = torch.arange(-reach, reach + 1, dtype=torch.float32)
    sigma_T = torch.full((frames,), 0.35)
    if recipe.defocus_px_T is not None:
        sigma_T = (torch.from_numpy(recipe.defocus_px_T).float() * px).clamp(0.35, reach / 2)
    way_T2 = torch.zeros((frames, 2))
    if recipe.motion_px_T2 is not None:
        way_T2 = torch.from_numpy(recipe.motion_px_T2).float() * px
    steps = torch.linspace(-0.5, 0.5, 2 * reach + 1)
    x_TS1 = (way_T2[:, :1] * steps)[:, :, None]
    y_TS1 = (way_T2[:, 1:] * steps)[:, :, None]
    across_TSK = torch.exp(-0.5 * ((ticks - x_TS1) / sigma_T[:, None, None]) ** 2)
    down_TSK = torch.exp(-0.5 * ((ticks - y_TS1) / sigma_T[:, None, None]) ** 2)
    kernels_TKK = torch.einsum("tsk,tsl->tkl", down_TSK, across_TSK)
    return kernels_TKK / kernels_TKK.sum((1, 2), keepdim=True)


def _blur(light_T3HW: Tensor, kernels_TKK: Tensor) -> Tensor:
    frames, channels, height_px, width_px = light_T3HW.shape
    reach = kernels_TKK.shape[1] // 2
    padded = functional.pad(light_T3HW, (reach,) * 4, mode="replicate")
    weights = kernels_TKK.repeat_interleave(channels, 0)[:, None]
    flat = functional.conv2d(padded.reshape(1, frames * channels, *padded.shape[2:]), weights, groups=frames * channels)
    return flat.reshape(frames, channels, height_px, width_px)


def _colour(picture_T3HW: Tensor, recipe: Recipe) -> Tensor:
    """Gamma and saturation of the camera's own processing, on values that are encoded already."""
    device = picture_T3HW.device
    if recipe.gamma_T is not None:
        picture_T3HW = picture_T3HW.clamp(1e-4, 1) ** _per_frame(recipe.gamma_T, device)
    luma = (picture_T3HW * torch.tensor([0.299, 0.587, 0.114], device=device).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    if recipe.grey:
        return luma.expand_as(picture_T3HW)
    if recipe.saturation_T is not None:
        picture_T3HW = luma + (picture_T3HW - luma) * _per_frame(recipe.saturation_T, device)
    return picture_T3HW.clamp(0, 1)


def _filling(picture_T3HW: Tensor, recipe: Recipe) -> Tensor:
    if recipe.erased_rgb is not None:
        colour = torch.tensor(recipe.erased_rgb, device=picture_T3HW.device, dtype=torch.float32) / 255
        return colour.reshape(1, 3, 1, 1).expand_as(picture_T3HW)
    generator = torch.Generator(picture_T3HW.device).manual_seed(recipe.noise_seed + 1)
    return torch.rand(picture_T3HW.shape, generator=generator, device=picture_T3HW.device)


def _compressed(picture_T3HW: Tensor, recipe: Recipe) -> Tensor:
    if recipe.codec == "none":
        return picture_T3HW
    raw_THW3 = _bytes(picture_T3HW).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    coded_THW3 = jpeg(raw_THW3, recipe.quality) if recipe.codec == "jpeg" else h264(raw_THW3, recipe.quality)
    return torch.from_numpy(coded_THW3).to(picture_T3HW.device).permute(0, 3, 1, 2).float() / 255
