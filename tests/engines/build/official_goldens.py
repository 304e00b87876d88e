"""Writes golden_official.json: what the official implementations compute with weights that follow from their names.

Not a test; run by hand, with VividFace's checkout (commit 801588b) and diffusers 0.27.2, transformers 4.46.3,
huggingface_hub 0.25.2, tokenizers 0.20.3 and einops before anything else on PYTHONPATH:

    PYTHONPATH=old-packages:VividFace:. python -m tests.engines.build.official_goldens
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.engines.build.import_nets import TEXT_TOKENS, UNET_WIDTHS, VAE_WIDTHS, named_input, named_weights

GOLDENS = Path(__file__).with_name("golden_official.json")
UNUSED = ("pos_embed.pe", "coord_proj", "mask_token", "layernorm.", "Conv2d_0", "position_ids")
FACE = {"tokens": 6, "width": 64, "identity": 512, "features": 768}
CLIP_TOKENS = 77


def named(net: nn.Module) -> Any:
    """The network with weights from names, in float64."""
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    taken = {name: shape for name, shape in shapes.items() if not any(part in name for part in UNUSED)}
    net.load_state_dict(named_weights(taken), strict=False)
    return net.eval().double()


def layout(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A hash over names and shapes of all tensors that mean anything."""
    lines = sorted(
        f"{name} {list(shape)}" for name, shape in shapes.items() if not any(part in name for part in UNUSED)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def layout_of(net: nn.Module) -> str:
    return layout({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()})


def summary(tensor: Tensor) -> list[float]:
    """Sixteen numbers spread over the tensor, and its mean square."""
    flat = tensor.double().flatten()
    places = torch.linspace(0, len(flat) - 1, 16).long()
    return [*flat[places].tolist(), flat.square().mean().item()]


def denoising_unet() -> dict[str, Any]:
    from model.unet_motion_model import UNetMotionModel  # type: ignore[import-not-found]

    net = UNetMotionModel(
        in_channels=13,
        block_out_channels=UNET_WIDTHS,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=FACE["width"],
        num_attention_heads=8,
        motion_num_attention_heads=8,
        face_tokens_num=FACE["tokens"],
        id_embed_dim=FACE["identity"],
        attr_embed_dim=FACE["features"],
    )
    key_layout = layout_of(net)
    net = named(net)
    clips, frames = 2, 5
    x_BTCHW = named_input("x", (clips, frames, 13, 8, 8))
    faces = {
        "id_embed": named_input("identity", (clips, FACE["identity"])).repeat_interleave(frames, 0),
        "attr_embed": named_input("attribute", (clips * frames, 9, FACE["features"])),
        "dino_embed": named_input("texture", (clips, 9, FACE["features"])).repeat_interleave(frames, 0),
    }
    scales = {"attr_scale": 0.6, "dino_scale": 0.7}
    with torch.no_grad():
        tokens = net.position_net(*(faces[name] for name in ("id_embed", "attr_embed", "dino_embed")), *scales.values())
        out = net(
            x_BTCHW.transpose(1, 2),
            torch.tensor([981, 3]),
            named_input("text", (1, TEXT_TOKENS, FACE["width"])).expand(clips, -1, -1),
            cross_attention_kwargs={"ip_scale": 0.9, "gligen": {**faces, **scales}},
        ).sample.transpose(1, 2)
    return {"layout": key_layout, "tokens": summary(tokens), "out": summary(out)}


def face3dvae() -> dict[str, Any]:
    from face3dvae.models.svd_temporal_decoder import (  # type: ignore[import-not-found]
        AutoencoderKLTemporalEncoderDecoder,
    )

    net = AutoencoderKLTemporalEncoderDecoder(block_out_channels=VAE_WIDTHS, layers_per_block=2)
    golden: dict[str, Any] = {"layout": layout_of(net)}
    net = named(net)
    pictures, latents = named_input("pictures", (6, 3, 32, 32)), named_input("latents", (6, 4, 4, 4))
    with torch.no_grad():
        for still in (False, True):
            posterior = net.encode(pictures, num_frames=3, is_image_batch=still).latent_dist
            decoded = net.decode(latents, num_frames=3, is_image_batch=still, return_dict=False)[0]
            form = "still" if still else "clip"
            golden |= {f"mean {form}": summary(posterior.mean), f"log variance {form}": summary(posterior.logvar)}
            golden[f"decoded {form}"] = summary(decoded)
    return golden


def dinov2() -> dict[str, Any]:
    from transformers import Dinov2Config, Dinov2Model  # type: ignore[import-not-found]

    config = Dinov2Config(hidden_size=128, num_attention_heads=2, num_hidden_layers=12, image_size=70, patch_size=14)
    net = Dinov2Model(config)
    golden: dict[str, Any] = {"layout": layout_of(net)}
    net = named(net)
    mean, std = (torch.tensor(v).double()[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for side_px in (70, 56):
        pictures = named_input("face", (2, 3, side_px, side_px)).clamp(-1, 1)
        with torch.no_grad():
            states = net(((pictures + 1) / 2 - mean) / std, output_hidden_states=True).hidden_states
        golden[f"{side_px} px"] = summary(states[-1][:, 1:])
    return golden


def clip_shapes() -> dict[str, tuple[int, ...]]:
    """What the small text encoder below holds."""
    width, inner = 64, 128
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (CLIP_TOKENS, width),
    }
    layers: dict[str, tuple[int, ...]] = {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    layers |= {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    for layer in range(3):
        for name, shape in layers.items():
            shapes[f"encoder.layers.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layers.{layer}.{name}.bias"] = shape[:1]
    for norm in [*(f"encoder.layers.{layer}.layer_norm{n}" for layer in range(3) for n in (1, 2)), "final_layer_norm"]:
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return {f"text_model.{name}": shape for name, shape in shapes.items()}


def clip_text() -> dict[str, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(hidden_size=64, intermediate_size=128, num_attention_heads=1, num_hidden_layers=3)
    net = CLIPTextModel(config)
    golden: dict[str, Any] = {"layout": layout_of(net)}
    net = named(net).float()
    tokens = torch.full((1, CLIP_TOKENS), 49407)
    tokens[0, 0] = 49406
    with torch.no_grad():
        out = net(tokens, output_hidden_states=True)
        skipped = net.text_model.final_layer_norm(out.hidden_states[-2])
    return {**golden, "whole": summary(out.last_hidden_state), "one layer left out": summary(skipped)}


if __name__ == "__main__":
    made = {"denoising_unet": denoising_unet(), "face3dvae": face3dvae(), "dinov2": dinov2(), "clip": clip_text()}
    GOLDENS.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
