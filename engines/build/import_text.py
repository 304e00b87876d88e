"""What Stable Diffusion 1.5's text encoder says to the empty prompt: constant tokens, computed once, at import.

L tokens, D width. The text model is CLIP's (arXiv 2103.00020): causal attention, x sigmoid(1.702 x) in the layers
between. Only its weights are needed; no tokeniser, since the empty prompt is always a start and nothing but ends.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from engines.errors import WeightsError

START, END = 49406, 49407  # of CLIP's vocabulary; SD1.5 pads with ends
HEAD_WIDTH = 64
PREFIX = "text_model."
SIGNATURE = f"{PREFIX}embeddings.token_embedding.weight"


def empty_prompt(weights: Mapping[str, Tensor], skipped_layers: int = 0) -> Tensor:
    """[1, L, D], float32.

    skipped_layers: how many layers at the end are left out before the last norm. SD1.5 leaves out none; VividFace's
    code asks diffusers for `clip_skip=1`, which leaves out one.
    """
    table = weights[SIGNATURE].float()
    positions = weights[f"{PREFIX}embeddings.position_embedding.weight"].float()
    if len(table) <= END:
        raise WeightsError(f"a text encoder with {len(table)} words is not SD1.5's, which knows {END + 1}")
    tokens = torch.full((len(positions),), END)
    tokens[0] = START
    x_LD = table[tokens] + positions
    for layer in range(_layers(weights) - skipped_layers):
        part = f"{PREFIX}encoder.layers.{layer}"
        x_LD = x_LD + _attention(weights, part, _norm(weights, f"{part}.layer_norm1", x_LD))
        inner = _linear(weights, f"{part}.mlp.fc1", _norm(weights, f"{part}.layer_norm2", x_LD))
        x_LD = x_LD + _linear(weights, f"{part}.mlp.fc2", inner * torch.sigmoid(1.702 * inner))
    return _norm(weights, f"{PREFIX}final_layer_norm", x_LD)[None]


def _layers(weights: Mapping[str, Tensor]) -> int:
    return len([key for key in weights if key.endswith(".layer_norm1.weight")])


def _linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return functional.linear(x, weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float())


def _norm(weights: Mapping[str, Tensor], name: str, x_LD: Tensor) -> Tensor:
    return functional.layer_norm(
        x_LD, x_LD.shape[-1:], weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float(), 1e-5
    )


def _attention(weights: Mapping[str, Tensor], part: str, x_LD: Tensor) -> Tensor:
    heads = x_LD.shape[1] // HEAD_WIDTH
    q, k, v = (
        _linear(weights, f"{part}.self_attn.{name}_proj", x_LD).reshape(len(x_LD), heads, HEAD_WIDTH).transpose(0, 1)
        for name in "qkv"
    )
    seen = functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    return _linear(weights, f"{part}.self_attn.out_proj", seen.transpose(0, 1).flatten(1))
