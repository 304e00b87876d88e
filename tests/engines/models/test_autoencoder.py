"""Both autoencoders: frame by frame equals offline, the future changes nothing, stills are the image autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor

from engines.graph import Memory
from engines.models.autoencoder import Autoencoder, build
from engines.models.config import AutoencoderConfig
from engines.models.temporal import fold_future
from engines.window import recent_order, recent_slot

KL = AutoencoderConfig(
    kind="kl", widths=(32, 32, 64, 64), blocks=2, temporal_encoder=True, temporal_decoder=True, scale=0.18215
)
TINY = AutoencoderConfig(
    kind="tiny", widths=(16, 32), blocks=1, temporal_encoder=True, temporal_decoder=True, latent_channels=8, scale=0.5
)
KINDS = pytest.mark.parametrize("config", [KL, TINY], ids=["kl", "tiny"])
SIZE_PX = 16
B, T = 2, 7

Frame = Callable[[Tensor, Sequence[Tensor], Tensor | None], tuple[Tensor, tuple[Tensor, ...]]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def built(config: AutoencoderConfig, seed: int = 0) -> Autoencoder:
    """With weights that are not at their start: biases and blends too."""
    model = build(config)
    generator = torch.Generator().manual_seed(seed)
    model.initialise(generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                at = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                parameter.copy_(at + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def clip(channels: int, size_px: int, seed: int = 1) -> Tensor:
    return torch.randn(B, T, channels, size_px, size_px, generator=torch.Generator().manual_seed(seed))


def streamed(frame: Frame, memories: Sequence[Memory], x_BTCHW: Tensor) -> Tensor:
    """Frame by frame, the memories written as a runtime does it."""
    past = [torch.zeros(memory.kept.shape) for memory in memories]
    results = []
    for t in range(x_BTCHW.shape[1]):
        order_B2 = torch.from_numpy(recent_order(t, 2)).expand(x_BTCHW.shape[0], 2)
        result, new = frame(x_BTCHW[:, t], past, order_B2)
        for kept, slice_, memory in zip(past, new, memories, strict=True):
            assert slice_.shape == memory.new.shape
            kept.select(memory.axis, recent_slot(t, 2)).copy_(slice_)
        results.append(result)
    return torch.stack(results, 1)


def close(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@KINDS
def test_streaming_equals_offline(config: AutoencoderConfig) -> None:
    model = built(config)
    pictures = clip(3, SIZE_PX)
    memories = model.memories(B, SIZE_PX, pictures=1)
    encoder, decoder = memories[: model.encoder_memories], memories[model.encoder_memories :]
    latents = model.encode(pictures, causal=True)
    assert close(streamed(model.encode_frame, encoder, pictures), latents) < 1e-5
    assert close(streamed(model.decode_frame, decoder, latents), model.decode(latents, causal=True)) < 1e-5


@KINDS
def test_a_later_frame_changes_no_bit_of_an_earlier_one(config: AutoencoderConfig) -> None:
    model = built(config)
    pictures = clip(3, SIZE_PX)
    changed = pictures.clone()
    changed[:, 4:] += 1
    latents, other = model.encode(pictures, causal=True), model.encode(changed, causal=True)
    assert torch.equal(latents[:, :4], other[:, :4])
    assert not torch.equal(latents[:, 4:], other[:, 4:])
    assert torch.equal(model.decode(latents, causal=True)[:, :4], model.decode(other, causal=True)[:, :4])


@KINDS
def test_the_window_sees_both_ways_and_the_causal_form_reaches_back(config: AutoencoderConfig) -> None:
    model = built(config)
    latents = clip(config.latent_channels, SIZE_PX // 8)
    for at, causal, touched in ((3, False, 2), (3, True, 5)):
        changed = latents.clone()
        changed[:, at] += 1
        before, after = model.decode(latents, causal=causal), model.decode(changed, causal=causal)
        assert not torch.equal(before[:, touched], after[:, touched])


@KINDS
def test_stills_are_the_image_autoencoder(config: AutoencoderConfig) -> None:
    """Without its temporal weights the same network, whatever they are."""
    model = built(config)
    image = build(config.model_copy(update={"temporal_encoder": False, "temporal_decoder": False})).eval()
    image.load_state_dict({k: v for k, v in model.state_dict().items() if k in image.state_dict()})
    assert set(image.state_dict()) < set(model.state_dict())
    pictures = clip(3, SIZE_PX)
    latents = model.encode(pictures, still=True)
    with torch.no_grad():
        assert torch.equal(latents, image.encode(pictures))
        assert torch.equal(latents[:, 2], model.encode(pictures[:, 2]))
        assert torch.equal(model.decode(latents, still=True), image.decode(latents, causal=True))
        frame, new = image.decode_frame(latents[:, 0])
    assert torch.equal(frame, model.decode(latents[:, 0]))
    assert new == ()
    assert image.memories(B, SIZE_PX) == ()


@KINDS
def test_a_row_forgotten_is_a_fresh_one(config: AutoencoderConfig) -> None:
    """Zeros are what a memory is before the first frame: a runtime resets a row by writing them."""
    model = built(config)
    latents = clip(config.latent_channels, SIZE_PX // 8)
    memories = model.memories(B, SIZE_PX, pictures=0)
    past = [torch.zeros(memory.kept.shape) for memory in memories]
    for t in range(3):
        order_B2 = torch.from_numpy(recent_order(t, 2)).expand(B, 2)
        for kept, slice_ in zip(past, model.decode_frame(latents[:, t], past, order_B2)[1], strict=True):
            kept[:, t % 2] = slice_
    for kept in past:
        kept[1] = 0
    fresh = [torch.zeros_like(kept) for kept in past]
    order_B2 = torch.tensor([[1, 0], [0, 1]])  # row 0 is at its fourth frame, row 1 at its first
    mixed, _ = model.decode_frame(latents[:, 3], past, order_B2)
    alone, _ = model.decode_frame(latents[:, 3], fresh, torch.tensor([[0, 1], [0, 1]]))
    assert torch.equal(mixed[1], alone[1])
    assert not torch.equal(mixed[0], alone[0])


@KINDS
def test_memories_name_every_picture_once(config: AutoencoderConfig) -> None:
    model = build(config)
    memories = model.memories(3, 64, pictures=2, dtype="bfloat16")
    names = [spec.name for memory in memories for spec in (memory.kept, memory.new)]
    assert len(set(names)) == len(names)
    assert len(memories) == 2 * model.encoder_memories + model.decoder_memories
    assert memories[0].kept.name == "past_enc_00"
    assert memories[-1].kept.name == f"past_dec_{model.decoder_memories - 1:02}"
    for memory in memories:
        shape = list(memory.kept.shape)
        assert shape[:2] == [3, 2]
        del shape[memory.axis]
        assert tuple(shape) == memory.new.shape
        assert memory.kept.dtype == "bfloat16"
        assert memory.clock == "recent"


@KINDS
def test_latents_are_scaled_and_the_posterior_is_not(config: AutoencoderConfig) -> None:
    model = built(config)
    pictures = clip(3, SIZE_PX)
    mean, log_variance = model.posterior(pictures)
    assert mean.shape == log_variance.shape == (B, T, config.latent_channels, SIZE_PX // 8, SIZE_PX // 8)
    torch.testing.assert_close(model.encode(pictures), mean * config.scale)
    twice = built(config.model_copy(update={"scale": 2 * config.scale}))
    torch.testing.assert_close(twice.encode(pictures), 2 * model.encode(pictures))
    torch.testing.assert_close(twice.decode(2 * mean), model.decode(mean))


@KINDS
@pytest.mark.parametrize("shape", [(1, 3, 20, 16), (1, 3, 16, 12), (1, 4, 16, 16), (3, 16, 16)])
def test_impossible_pictures_are_refused_in_words(config: AutoencoderConfig, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pictures are .*not \[" + str(shape[0])):
        build(config).encode(torch.zeros(shape))


def test_wrong_numbers_of_widths_are_refused() -> None:
    for config in (KL.model_copy(update={"widths": (32, 32)}), TINY.model_copy(update={"widths": (16,) * 4})):
        with pytest.raises(ValueError, match="widths, not"):
            build(config)
    with pytest.raises(ValueError, match="as many widths"):
        build(TINY.model_copy(update={"encoder_widths": (8, 8, 8)}))


@pytest.mark.parametrize("padding", ["corner", "around"])
def test_the_encoder_may_differ_from_the_decoder(padding: str) -> None:
    wide = KL.model_copy(update={"encoder_blocks": 3, "encoder_padding": padding})
    assert built(wide).encode(clip(3, SIZE_PX)).shape[-1] == SIZE_PX // 8
    assert len(build(wide).memories(1, 8)) == 2 * (4 * 3 * 2 + 4) + 4 * 3 * 2 + 4 + 1
    narrow = built(TINY.model_copy(update={"encoder_widths": (8, 24), "encoder_blocks": 2}))
    assert narrow.memories(1, 16, pictures=1)[0].new.shape == (1, 24, 2, 2)
    assert narrow.encode(clip(3, SIZE_PX)).shape == (B, T, 8, 2, 2)


@KINDS
def test_variance_is_kept_and_gradients_reach_everything(config: AutoencoderConfig) -> None:
    """At the start of training nothing dies or bursts: neither the pictures' variance nor a layer's gradient."""
    widths = (32, 64, 64, 64) if config.kind == "kl" else (48, 96)
    model = build(config.model_copy(update={"widths": widths, "scale": 1.0, "blocks": 2}))
    model.initialise(torch.Generator().manual_seed(3))
    pictures = clip(3, 32)[:, :3] * 0.5
    mean, log_variance = model.posterior(pictures)
    result = model.decode(mean)
    if config.kind == "tiny":
        assert 0.5 < mean.var() / pictures.var() < 2
        assert 0.5 < result.var() / pictures.var() < 2
    (result.square().mean() + log_variance.mean()).backward()  # type: ignore[no-untyped-call]
    norms = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        norms[name] = float(parameter.grad.norm() / (parameter.detach().norm() + 1e-3))
    weights = [norm for name, norm in norms.items() if name.endswith("weight") and "norm" not in name]
    assert min(weights) > 1e-3 * max(weights), norms


@KINDS
def test_folding_the_future_brings_the_causal_form_near_the_window_form(config: AutoencoderConfig) -> None:
    """A texture that moves by one place a frame, frames at both ends left out."""
    texture = torch.randn(1, config.latent_channels, 12, 12, generator=torch.Generator().manual_seed(5))
    wide = torch.nn.functional.interpolate(texture, scale_factor=2, mode="bicubic")
    latents = torch.stack([wide.roll(t, -1)[:, :, :6, :6] for t in range(11)], 1)
    late, folded = built(config), built(config)
    fold_future(folded)
    window = late.decode(latents)[:, 4:-4]
    errors = [float((m.decode(latents, causal=True)[:, 4:-4] - window).square().mean()) for m in (late, folded)]
    assert errors[1] < errors[0] / 2
    still = latents[:, :1].expand_as(latents)
    if config.kind == "tiny":  # which has no norm that a window's black ends could change
        torch.testing.assert_close(folded.decode(still, causal=True)[:, 4:-4], late.decode(still)[:, 4:-4])


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1), (torch.float16, 0.03)])
@KINDS
def test_a_gpu_gives_the_same(config: AutoencoderConfig, dtype: torch.dtype, most: float) -> None:
    """fp32 with TF32 convolutions allowed, as torch has it; half precisions finite and near."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model, moved = built(config), built(config).to("cuda", dtype)
    pictures = clip(3, 64)
    latents = model.encode(pictures, causal=True)
    for ours, expected in (
        (moved.encode(pictures.to("cuda", dtype), causal=True), latents),
        (moved.decode(latents.to("cuda", dtype), causal=True), model.decode(latents, causal=True)),
    ):
        assert ours.isfinite().all()
        assert close(ours.float().cpu(), expected) < most


@pytest.mark.parametrize(("name", "own_px"), [("conv_out", 4), ("gain", 8)])
@pytest.mark.parametrize("light_px", [4, 8, 16])
def test_light_has_no_detail(name: str, own_px: int, light_px: Literal[4, 8, 16]) -> None:
    """One colour for each square, no finer than what a layer gives; from centre to centre nothing but a slope."""
    latents = torch.randn(1, TINY.latent_channels, 4, 4, generator=torch.Generator().manual_seed(2))
    light = built(TINY.model_copy(update={"light": light_px}))
    other = light.get_submodule(f"decoder.{'gain' if name == 'conv_out' else 'conv_out'}")
    for weight in other.parameters():
        weight.zero_()
    log_gain, side_px = light.decode(latents, still=True), max(own_px, light_px)
    assert log_gain.shape == built(TINY).decode(latents, still=True).shape == (1, 3, 32, 32)
    assert log_gain.std() > 0.01
    between = log_gain[..., side_px // 2 : -side_px // 2].reshape(1, 3, 32, -1, side_px)
    assert between.diff(n=2, dim=-1).abs().max() < 1e-5
