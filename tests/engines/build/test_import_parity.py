"""Imported weights compute what they computed where they come from, output against output.

With diffusers itself on small random networks: float64, where nothing but a wrong structure or a wrong name can differ
(found: below 1e-12 on outputs of order one), and float32 within 1e-4 (found: below 8e-5, which is what float32 differs
from float64 by in diffusers itself). With VividFace's official code and transformers, which are no dependencies: the
numbers that `official_goldens` wrote down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.build import import_text
from engines.build.import_kinds import KINDS, Kind
from engines.build.import_rules import VAE_SVD, Rule, as_it_is
from engines.build.import_sources import open_source
from engines.build.import_weights import import_weights
from engines.errors import WeightsError
from engines.models.attention import Together
from engines.models.config import SwapperConfig
from engines.models.swapper import Swapper
from tests.engines.build.import_nets import (
    TEXT_TOKENS,
    TOKEN_WIDTH,
    adapter,
    config,
    diffusers,
    named_input,
    named_weights,
    saved,
    svd_vae,
    their_shapes,
    unet,
    vae,
    write_file,
)
from tests.engines.build.official_goldens import FACE, GOLDENS, clip_shapes, layout, summary

NEAR = {torch.float32: 1e-4, torch.float64: 1e-10}
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def imported(wanted: SwapperConfig, *paths: Path) -> Swapper:
    found = import_weights([open_source(path) for path in paths], wanted, partial=True)
    swapper = Swapper(found.config)
    swapper.load_state_dict(found.tensors, strict=True)
    return swapper.eval()


def assert_near(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    assert ours.shape == theirs.shape
    assert 0.1 < theirs.std() < 10  # of order one, or the tolerance would mean something else
    worst = (ours - theirs).abs().max().item()
    assert worst <= NEAR[dtype], f"differs by {worst:.3g}"


# ---- diffusers


def compare_unet(folder: Path, dtype: torch.dtype = torch.float64, channels: int = 4, **changes: Any) -> None:
    theirs = unet(in_channels=channels, **changes)
    ours = imported(config(), saved(theirs, folder / "unet")).to(dtype)
    theirs.to(dtype)
    x, text = named_input("x", (2, 13, 8, 8)).to(dtype), named_input("text", (1, TEXT_TOKENS, TOKEN_WIDTH)).to(dtype)
    times, faces = torch.tensor([981.0, 3.0]), named_input("faces", (2, 1, 4, TOKEN_WIDTH)).to(dtype)
    ours.denoiser.text_1LD.copy_(text)
    # What lies in the channels that the source does not know must not matter.
    drawn = ours.denoiser.window(x[:, None], times[:, None], faces, Together(1))[:, 0]
    assert_near(drawn, theirs(x[:, :channels], times, text.expand(2, -1, -1)).sample, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_spatial_unet(tmp_path: Path, dtype: torch.dtype) -> None:
    compare_unet(tmp_path, dtype)


def test_the_spatial_unet_for_inpainting(tmp_path: Path) -> None:
    compare_unet(tmp_path, channels=9)


def test_the_spatial_unet_with_linear_projections(tmp_path: Path) -> None:
    compare_unet(tmp_path, use_linear_projection=True)


def compare_motion(folder: Path, dtype: torch.dtype = torch.float64, merged: bool = False) -> None:
    spatial, motion = unet(), adapter()
    theirs = diffusers.UNetMotionModel.from_unet2d(spatial, motion).eval()
    files = [(theirs, "merged")] if merged else [(spatial, "unet"), (motion, "motion")]
    ours = imported(config(motion=True), *(saved(net, folder / name) for net, name in files)).to(dtype)
    theirs.to(dtype)
    frames = 5
    x, text = named_input("x", (2, frames, 13, 8, 8)), named_input("text", (1, TEXT_TOKENS, TOKEN_WIDTH))
    x, text = x.to(dtype), text.to(dtype)
    times, faces = torch.tensor([981.0, 3.0]), named_input("faces", (2, frames, 4, TOKEN_WIDTH)).to(dtype)
    ours.denoiser.text_1LD.copy_(text)
    drawn = ours.denoiser.window(x, times[:, None].expand(-1, frames), faces, Together(frames))
    whole = theirs(x[:, :, :4].transpose(1, 2), times, text.expand(2 * frames, -1, -1)).sample
    assert_near(drawn, whole.transpose(1, 2), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_unet_with_motion_modules_over_five_frames(tmp_path: Path, dtype: torch.dtype) -> None:
    compare_motion(tmp_path, dtype)


def test_the_unet_with_motion_modules_in_one_file(tmp_path: Path) -> None:
    compare_motion(tmp_path, merged=True)


def test_motion_matters(tmp_path: Path) -> None:
    """The same input without motion modules is far from it: the test above does see them."""
    spatial, motion = unet(), adapter()
    x = named_input("x", (1, 4, 6, 8, 8)).float()
    text, times = named_input("text", (1, TEXT_TOKENS, TOKEN_WIDTH)).float(), torch.tensor([981.0])
    with_motion = diffusers.UNetMotionModel.from_unet2d(spatial, motion).eval()(x, times, text.expand(6, -1, -1)).sample
    alone = spatial(x[0].transpose(0, 1), times.expand(6), text.expand(6, -1, -1)).sample
    assert (with_motion[0].transpose(0, 1) - alone).abs().max() > 0.1


def compare_vae(folder: Path, dtype: torch.dtype = torch.float64) -> None:
    theirs = vae()
    ours = imported(config(), saved(theirs, folder / "vae")).autoencoder.to(dtype)
    theirs.to(dtype)
    pictures, latents = (
        named_input("pictures", (2, 3, 32, 32)).to(dtype),
        named_input("latents", (2, 4, 4, 4)).to(dtype),
    )
    posterior = theirs.encode(pictures).latent_dist
    mean, log_variance = ours.posterior(pictures)
    assert_near(mean, posterior.mean, dtype)
    assert_near(log_variance, posterior.logvar, dtype)
    assert_near(ours.decode(latents * ours.config.scale), theirs.decode(latents).sample, dtype)
    # The scale is the source's, and is applied as diffusers' pipelines do.
    assert_near(ours.encode(pictures) / theirs.config.scaling_factor, posterior.mean, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_autoencoder(tmp_path: Path, dtype: torch.dtype) -> None:
    compare_vae(tmp_path, dtype)


def test_the_autoencoder_under_the_old_names_of_its_attention(tmp_path: Path) -> None:
    """As Stable Diffusion 1.5's own file still has them."""
    theirs = vae()
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = {}
    for name, tensor in theirs.state_dict().items():
        for new_part, old_part in old.items():
            name = name.replace(new_part, old_part)
        state[name] = tensor
    ours = imported(config(), write_file(tmp_path / "old.safetensors", state)).autoencoder
    pictures = named_input("pictures", (1, 3, 32, 32)).float()
    assert_near(ours.posterior(pictures)[0], theirs.encode(pictures).latent_dist.mean, torch.float32)


def compare_svd(folder: Path, dtype: torch.dtype = torch.float64) -> None:
    theirs = svd_vae()
    ours = imported(config(temporal=(False, True)), saved(theirs, folder / "svd")).autoencoder.to(dtype)
    theirs.to(dtype)
    frames = 4
    pictures, latents = named_input("pictures", (4, 3, 32, 32)), named_input("latents", (2, frames, 4, 4, 4))
    pictures, latents = pictures.to(dtype), latents.to(dtype)
    assert_near(ours.posterior(pictures)[0], theirs.encode(pictures).latent_dist.mean, dtype)
    clip = theirs.decode(latents.flatten(0, 1), num_frames=frames).sample.unflatten(0, (2, frames))
    assert_near(ours.decode(latents * ours.config.scale), clip, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_temporal_autoencoder(tmp_path: Path, dtype: torch.dtype) -> None:
    compare_svd(tmp_path, dtype)


def test_the_temporal_autoencoder_without_time_is_its_spatial_half(tmp_path: Path) -> None:
    """A still passes by the temporal branch: what diffusers gives where every blend is all spatial."""
    theirs = svd_vae()
    ours = imported(config(temporal=(False, True)), saved(theirs, tmp_path / "svd")).autoencoder
    for name, parameter in theirs.named_parameters():
        if name.endswith("mix_factor"):
            parameter.fill_(-1e4)  # 1 - sigmoid: all of the spatial block
    out = theirs.decoder.time_conv_out
    out.weight.zero_()
    out.weight[:, :, 1, 0, 0] = torch.eye(3)
    out.bias.zero_()
    latents = named_input("latents", (3, 4, 4, 4)).float()
    still = ours.decode(latents * ours.config.scale)
    assert_near(still, theirs.decode(latents, num_frames=3).sample, torch.float32)


# ---- an exchange of two keys must be seen


def exchanged(rules: tuple[Rule, ...], first: str, second: str) -> tuple[Rule, ...]:
    """The table with the two endings of our names exchanged wherever they end a rule."""

    def other(rule: Rule) -> Rule:
        for a, b in ((first, second), (second, first)):
            if rule.ours.endswith(a):
                return replace(rule, ours=rule.ours.removesuffix(a) + b)
        return rule

    table = tuple(other(rule) for rule in rules)
    assert [rule.ours for rule in table] != [rule.ours for rule in rules]
    return table


Compare = Callable[[Path], None]
EXCHANGES: list[tuple[Compare, str, str]] = [
    (compare_unet, ".attn1.to_q", ".attn1.to_k"),
    (compare_unet, ".spatial.norm1", ".spatial.norm2"),
    (compare_unet, ".spatial.norm1", ".spatial.norm3"),
    (compare_unet, ".attn2.to_k", ".attn2.to_v"),
    (compare_unet, ".attn1.to_out", ".attn2.to_out"),
    (compare_unet, "middle.res1.conv1", "middle.res1.conv2"),
    (compare_unet, "middle.res1.norm1", "middle.res2.norm1"),
    (compare_unet, "spatial.proj_in", "spatial.proj_out"),
    (compare_motion, ".attentions.0.to_q", ".attentions.1.to_q"),
    (compare_motion, ".attentions.0.norm", ".attentions.1.norm"),
    (compare_motion, ".attentions.1.to_k", ".attentions.1.to_v"),
    (compare_motion, ".temporal.norm", ".temporal.norm3"),
    (compare_vae, ".attention.to_q", ".attention.to_k"),
    (compare_vae, ".attention.to_v", ".attention.to_out"),
    (compare_vae, "encoder.mid_block.resnets.{i}.spatial.conv1", "encoder.mid_block.resnets.{i}.spatial.conv2"),
    (compare_svd, ".temporal.norm1", ".temporal.norm2"),
    (compare_svd, ".temporal.conv1", ".temporal.conv2"),
]


@pytest.mark.parametrize(("compare", "first", "second"), EXCHANGES, ids=[f"{a} {b}" for _, a, b in EXCHANGES])
def test_two_keys_exchanged_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compare: Compare, first: str, second: str
) -> None:
    name = {compare_unet: "UNet2D", compare_motion: "Motion", compare_vae: "AutoencoderKL"}.get(compare, "Temporal")
    kinds = [
        replace(kind, rules=exchanged(kind.rules, first, second)) if has(kind, name, first, second) else kind
        for kind in KINDS
    ]
    assert kinds != list(KINDS)
    monkeypatch.setattr("engines.build.import_weights.KINDS", kinds)
    with pytest.raises((AssertionError, WeightsError), match=r"differs by|misshapen"):
        compare(tmp_path)


def has(kind: Kind, name: str, first: str, second: str) -> bool:
    ends = {rule.ours for rule in kind.rules}
    return name in kind.name and all(any(end.endswith(part) for end in ends) for part in (first, second))


def test_a_blend_with_the_wrong_sign_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tuple(replace(rule, change=as_it_is) if rule.ours.endswith("mix_factor") else rule for rule in VAE_SVD)
    kinds = [replace(kind, rules=plain) if kind.rules is VAE_SVD else kind for kind in KINDS]
    monkeypatch.setattr("engines.build.import_weights.KINDS", kinds)
    with pytest.raises(AssertionError, match="differs by"):
        compare_svd(tmp_path)


# ---- VividFace's official code and transformers, by what they gave


def golden(name: str) -> Any:
    return json.loads(GOLDENS.read_text(encoding="utf-8"))[name]


def assert_golden(ours: Tensor, theirs: list[float], near: float = 1e-9) -> None:
    assert summary(ours) == pytest.approx(theirs, rel=near, abs=near)


def official(folder: Path, name: str, wanted: SwapperConfig) -> tuple[Swapper, str]:
    """A swapper from a file such as the official code would write, and the layout's hash."""
    kind = next(kind for kind in KINDS if kind.name == name)
    with torch.device("meta"):
        ours = {key: tuple(tensor.shape) for key, tensor in Swapper(wanted).state_dict().items()}
    shapes = their_shapes(kind.rules, ours)
    path = write_file(folder / "official.safetensors", named_weights(shapes))
    return imported(wanted, path).double(), layout(shapes)


def test_vividfaces_unet_and_face_mixer(tmp_path: Path) -> None:
    wanted = config(
        motion=True,
        denoiser={"face_scale": 0.9},
        face_encoder={"tokens": FACE["tokens"], "feature_width": FACE["features"]},
    )
    swapper, found = official(tmp_path, "VividFace denoising_unet", wanted)
    expected = golden("denoising_unet")
    assert found == expected["layout"]
    clips, frames = 2, 5
    encoder = swapper.face_encoder
    x_BND = encoder.norm(encoder.proj(named_input("identity", (clips, 512))).unflatten(-1, (FACE["tokens"], -1)))
    textured = x_BND + 0.7 * encoder.texture_resampler(x_BND, named_input("texture", (clips, 9, 768)))
    asked = x_BND.repeat_interleave(frames, 0)
    attributes = encoder.attribute_resampler(asked, named_input("attribute", (clips * frames, 9, 768)))
    tokens = textured.repeat_interleave(frames, 0) + 0.6 * attributes
    assert_golden(tokens, expected["tokens"])
    swapper.denoiser.text_1LD.copy_(named_input("text", (1, TEXT_TOKENS, TOKEN_WIDTH)))
    out = swapper.denoiser.window(
        named_input("x", (clips, frames, 13, 8, 8)),
        torch.tensor([981.0, 3.0])[:, None].expand(-1, frames),
        tokens.unflatten(0, (clips, frames)),
        Together(frames),
    )
    assert_golden(out, expected["out"])


def test_vividfaces_autoencoder(tmp_path: Path) -> None:
    wanted = config(temporal=(True, True), autoencoder={"encoder_blocks": 3})
    swapper, found = official(tmp_path, "VividFace face3dvae", wanted)
    expected = golden("face3dvae")
    assert found == expected["layout"]
    assert swapper.config.autoencoder.encoder_padding == "around"
    # A configuration with as many blocks as the decoder's would not have had a place for the third.
    other = imported(config(temporal=(True, True)), tmp_path / "official.safetensors")
    assert other.config.autoencoder.encoder_blocks == 3
    ours = swapper.autoencoder
    pictures, latents = named_input("pictures", (2, 3, 3, 32, 32)), named_input("latents", (2, 3, 4, 4, 4))
    for still, form in ((False, "clip"), (True, "still")):
        mean, log_variance = ours.posterior(pictures, still=still)
        assert_golden(mean, expected[f"mean {form}"])
        assert_golden(log_variance, expected[f"log variance {form}"])
        assert_golden(ours.decode(latents * ours.config.scale, still=still), expected[f"decoded {form}"])


@pytest.mark.parametrize("side_px", [70, 56])
def test_dinov2_at_its_own_size_and_at_another(tmp_path: Path, side_px: int) -> None:
    faces = {"backbone": "vit", "picture_px": side_px, "feature_width": 128}
    own = config(face_encoder=faces | {"picture_px": 70})
    _, found = official(tmp_path, "DINOv2 (transformers)", own)
    assert found == golden("dinov2")["layout"]
    swapper = imported(config(face_encoder=faces), tmp_path / "official.safetensors").double()
    pictures = named_input("face", (2, 3, side_px, side_px)).clamp(-1, 1)
    # The pictures' mean and deviation are float32 in ours.
    assert_golden(swapper.face_encoder.features(pictures), golden("dinov2")[f"{side_px} px"], near=1e-6)


def test_dinov2_in_its_authors_layout_is_the_same(tmp_path: Path) -> None:
    wanted = config(face_encoder={"backbone": "vit", "picture_px": 70, "feature_width": 128})
    swapper, _ = official(tmp_path, "DINOv2 (transformers)", wanted)
    prefix = "face_encoder.backbone."
    state = {
        name.removeprefix(prefix): tensor.float()
        for name, tensor in swapper.state_dict().items()
        if name.startswith(prefix)
    }
    dropped = {"mask_token": torch.zeros(1, 128), "norm.weight": torch.ones(128), "norm.bias": torch.zeros(128)}
    again = imported(wanted, write_file(tmp_path / "authors.safetensors", state | dropped))
    pictures = named_input("face", (2, 3, 70, 70)).clamp(-1, 1)
    assert_golden(again.double().face_encoder.features(pictures), golden("dinov2")["70 px"], near=1e-6)


def test_the_text_encoders_answer_to_the_empty_prompt() -> None:
    expected = golden("clip")
    assert layout(clip_shapes()) == expected["layout"]
    weights = named_weights(clip_shapes())
    assert_golden(import_text.empty_prompt(weights), expected["whole"], near=1e-5)
    assert_golden(import_text.empty_prompt(weights, 1), expected["one layer left out"], near=1e-5)
