"""Attention over places, tokens and time, with the norms and feed-forward layers around it.

B batch   T frames   N = B T images   C channels   H, W rows and columns at a level   S = H W places
M heads   E = C / M channels per head   L tokens   D their width   P positions of the time code   R past slots

The temporal part follows AnimateDiff (arXiv 2307.04725): every place attends over time to itself, a sinusoidal code is
added to what goes into keys, queries and values. A stream keeps keys and values from before that code, as Live2Diff
does (arXiv 2407.08701); since to_k(x + code) = to_k(x) + to_k(code), the code is added to scores and results by the
slot's age and nothing stored is rewritten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.models.constants import constant

Norm = Literal["group", "rms"]


class ChannelNorm(nn.Module):
    """Divides by the root mean square over channels at each place (arXiv 1910.07467). No gain: a convolution follows.

    The mean is written as a product with a row of 1/C, which ONNX Runtime's CPU provider computes several times as fast
    as a mean over the second axis (docs/log.md).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCS = x_NCHW.flatten(2).float()
        row_1C = torch.full((1, self.channels), 1 / self.channels, dtype=x_NCS.dtype, device=x_NCS.device)
        scale_N1S = torch.rsqrt(row_1C @ x_NCS.square() + self.eps)
        return (x_NCS * scale_N1S).to(x_NCHW.dtype).reshape(x_NCHW.shape)


def picture_norm(kind: Norm, channels: int, eps: float) -> nn.Module:
    if kind == "rms":
        return ChannelNorm(channels)
    return nn.GroupNorm(math.gcd(32, channels), channels, eps)


def heads_first(x_BLC: Tensor, heads: int) -> Tensor:
    """[B, L, C] to [B, M, L, E]."""
    return x_BLC.reshape(*x_BLC.shape[:-1], heads, -1).transpose(1, 2)


def attend(query_BSC: Tensor, key_BLC: Tensor, value_BLC: Tensor, heads: int) -> Tensor:
    """Softmax attention without a mask, [B, S, C]."""
    seen = functional.scaled_dot_product_attention(
        heads_first(query_BSC, heads), heads_first(key_BLC, heads), heads_first(value_BLC, heads)
    )
    return seen.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x_NSC: Tensor) -> Tensor:
        return cast(Tensor, self.to_out(attend(self.to_q(x_NSC), self.to_k(x_NSC), self.to_v(x_NSC), self.heads)))


class TokenAttention(nn.Module):
    """Decoupled attention to text and face tokens: text + scale face (VividFace; arXiv 2308.06721).

    Beside text, face tokens have a query and a way out of their own, as in VividFace. Without text (a network that
    never knew any) they are all there is, and the scale stays.
    """

    def __init__(self, channels: int, heads: int, token_width: int, *, text: bool, face_scale: float) -> None:
        super().__init__()
        self.heads, self.face_scale = heads, face_scale
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(token_width, channels, bias=False) if text else None
        self.to_v = nn.Linear(token_width, channels, bias=False) if text else None
        self.to_k_face = nn.Linear(token_width, channels, bias=False)
        self.to_v_face = nn.Linear(token_width, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        self.to_q_face = nn.Linear(channels, channels, bias=False) if text else None
        self.to_out_face = nn.Linear(channels, channels) if text else None

    def forward(self, x_NSC: Tensor, tokens_NLD: Tensor, text_1LD: Tensor | None) -> Tensor:
        face_query = (self.to_q if self.to_q_face is None else self.to_q_face)(x_NSC)
        face = attend(face_query, self.to_k_face(tokens_NLD), self.to_v_face(tokens_NLD), self.heads)
        if self.to_k is None or self.to_v is None or self.to_out_face is None or text_1LD is None:
            return cast(Tensor, self.to_out(self.face_scale * face))
        text_NLD = text_1LD.expand(len(x_NSC), -1, -1)
        text = attend(self.to_q(x_NSC), self.to_k(text_NLD), self.to_v(text_NLD), self.heads)
        return cast(Tensor, self.to_out(text) + self.face_scale * self.to_out_face(face))


class FeedForward(nn.Module):
    """group: gated GELU, four times as wide (arXiv 2002.05202, as SD1.5). rms: plain SiLU, twice as wide."""

    def __init__(self, kind: Norm, channels: int) -> None:
        super().__init__()
        self.gated = kind == "group"
        inner = channels * (4 if self.gated else 2)
        self.inward = nn.Linear(channels, inner * (2 if self.gated else 1))
        self.outward = nn.Linear(inner, channels)

    def forward(self, x_NSC: Tensor) -> Tensor:
        inner = self.inward(x_NSC)
        if not self.gated:
            return cast(Tensor, self.outward(functional.silu(inner)))
        inner, gate = inner.chunk(2, dim=-1)
        return cast(Tensor, self.outward(inner * functional.gelu(gate)))


class SpatialTransformer(nn.Module):
    """Self-attention over places, attention to tokens, feed-forward. rms: without the projections around them."""

    def __init__(
        self, kind: Norm, channels: int, heads: int, token_width: int, *, text: bool, face_scale: float
    ) -> None:
        super().__init__()
        projected = kind == "group"
        self.norm = picture_norm("group", channels, 1e-6) if projected else nn.Identity()
        self.proj_in = nn.Conv2d(channels, channels, 1) if projected else nn.Identity()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = TokenAttention(channels, heads, token_width, text=text, face_scale=face_scale)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(kind, channels)
        self.proj_out = nn.Conv2d(channels, channels, 1) if projected else nn.Identity()
        self.projected = projected

    def forward(self, x_NCHW: Tensor, tokens_NLD: Tensor, text_1LD: Tensor | None) -> Tensor:
        inner = self.proj_in(self.norm(x_NCHW))
        x = inner.flatten(2).transpose(1, 2)
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), tokens_NLD, text_1LD)
        x = x + self.ff(self.norm3(x))
        out_NCHW = cast(Tensor, self.proj_out(x.transpose(1, 2).reshape(x_NCHW.shape)))
        return out_NCHW + x_NCHW if self.projected else out_NCHW


Past = tuple[tuple[Tensor, Tensor], ...]  # keys and values of each temporal attention layer


@dataclass
class Together:
    """The teacher's form: all T frames of a window see each other; positions 0..T-1, norms over time as AnimateDiff."""

    frames: int


@dataclass
class Banded:
    """What a stream would have seen, for whole sequences at once: frame t sees its own past (engines.window).

    positions_TT  int64: row t, column s: the code's index of frame s when t is computed
    bias_TT       0 where frame t sees frame s, -inf elsewhere, the diagonal included: a frame sees itself apart
    own           the current frame's index in the code
    past          keys and values [B, T, S, M, E] per temporal layer that later frames see; None: this pass's own
    kept          collects this pass's own, per layer
    """

    frames: int
    positions_TT: Tensor
    bias_TT: Tensor
    own: int
    past: Past | None = None
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@dataclass
class Ring:
    """One frame of a stream. A window of one frame has no ring: `keys` and `values` are empty.

    positions_BR, bias_BR            as engines.window gives them
    keys, values                     [B, S, M, R, E] per temporal layer
    own                              the current frame's index in the code
    kept                             collects the new slices [B, S, M, E], per layer
    """

    positions_BR: Tensor | None
    bias_BR: Tensor | None
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    own: int
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    frames: int = 1


Sight = Together | Banded | Ring


class TemporalAttention(nn.Module):
    """Each place over time, its norm included. `index` is its number among all of the network, in order of running."""

    code_PC: Tensor

    def __init__(self, channels: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads, self.index = heads, -1
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        constant(self, "code_PC", lambda: time_code(positions, channels))

    def forward(self, x_BTSC: Tensor, sight: Sight) -> Tensor:
        x = self.norm(x_BTSC)
        if isinstance(sight, Together):
            seen = self._together(x)
        elif isinstance(sight, Banded):
            seen = self._banded(x, sight)
        else:
            seen = self._ring(x[:, 0], sight)[:, None]
        return cast(Tensor, self.to_out(seen))

    def remembered(self, x_BSC: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S, M, E] that something else than this layer's own input leaves for later frames."""
        x = self.norm(x_BSC)
        return self._split(self.to_k(x)), self._split(self.to_v(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1)

    def _code(self, layer: nn.Linear, positions: int) -> Tensor:
        """A projection of the code's first rows, [P, M, E]. Constant once the weights are."""
        return self._split(layer(self.code_PC[:positions]))

    def _together(self, x_BTSC: Tensor) -> Tensor:
        frames = x_BTSC.shape[1]
        x_BSTC = x_BTSC.transpose(1, 2) + self.code_PC[:frames]
        q, k, v = (self._split(layer(x_BSTC)).transpose(2, 3) for layer in (self.to_q, self.to_k, self.to_v))
        return functional.scaled_dot_product_attention(q, k, v).permute(0, 3, 1, 2, 4).flatten(3)

    def _own(self, x: Tensor, own: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query with the code, key and value without it: [..., M, E]."""
        query = self._split(self.to_q(x + self.code_PC[own]))
        return query / math.sqrt(query.shape[-1]), self._split(self.to_k(x)), self._split(self.to_v(x))

    def _ring(self, x_BSC: Tensor, sight: Ring) -> Tensor:
        own = sight.own
        query, key, value = self._own(x_BSC, own)
        sight.kept.append((key, value))
        key_code, value_code = self._code(self.to_k, own + 1), self._code(self.to_v, own + 1)
        own_value = value + value_code[own]
        if sight.positions_BR is None or sight.bias_BR is None:
            return own_value.flatten(2)
        k_BMRE = _rows(key_code, sight.positions_BR).transpose(1, 2)
        v_BMRE = _rows(value_code, sight.positions_BR).transpose(1, 2)
        of_code = (query.transpose(1, 2) @ k_BMRE.transpose(2, 3)).transpose(1, 2)
        of_ring = (sight.keys[self.index] @ query[..., None]).squeeze(-1)
        of_own = (query * (key + key_code[own])).sum(-1, keepdim=True)
        of_past = of_ring + of_code + sight.bias_BR[:, None, None].to(query.dtype)
        weights = torch.cat([of_past, of_own], -1).float().softmax(-1).to(query.dtype)
        past, now = weights[..., :-1], weights[..., -1:]
        seen = (past[..., None, :] @ sight.values[self.index]).squeeze(-2)
        seen = seen + (past.transpose(1, 2) @ v_BMRE).transpose(1, 2) + now * own_value
        return seen.flatten(2)

    def _banded(self, x_BTSC: Tensor, sight: Banded) -> Tensor:
        own = sight.own
        query, key, value = self._own(x_BTSC, own)
        sight.kept.append((key, value))
        old_key, old_value = (key, value) if sight.past is None else sight.past[self.index]
        key_code, value_code = self._code(self.to_k, own + 1), self._code(self.to_v, own + 1)
        of_past = torch.einsum("btsme,busme->btsmu", query, old_key)
        of_code = torch.einsum("btsme,tume->btsmu", query, key_code[sight.positions_TT])
        of_own = (query * (key + key_code[own])).sum(-1, keepdim=True)
        hidden = sight.bias_TT[:, None, None].to(query.dtype)
        weights = torch.cat([of_past + of_code + hidden, of_own], -1).float().softmax(-1).to(query.dtype)
        past, now = weights[..., :-1], weights[..., -1:]
        seen = torch.einsum("btsmu,busme->btsme", past, old_value)
        seen = seen + torch.einsum("btsmu,tume->btsme", past, value_code[sight.positions_TT])
        return (seen + now * (value + value_code[own])).flatten(3)


class TemporalTransformer(nn.Module):
    """A motion module. group: AnimateDiff's, two attentions over time, feed-forward, projections around, its group norm
    over all frames when they are seen together, else frame by frame. rms: one attention and nothing else."""

    def __init__(self, kind: Norm, channels: int, heads: int, positions: int) -> None:
        super().__init__()
        self.whole = kind == "group"
        self.norm = picture_norm("group", channels, 1e-6) if self.whole else nn.Identity()
        self.proj_in = nn.Linear(channels, channels) if self.whole else nn.Identity()
        self.attentions = nn.ModuleList(
            TemporalAttention(channels, heads, positions) for _ in range(2 if self.whole else 1)
        )
        self.norm3 = nn.LayerNorm(channels) if self.whole else nn.Identity()
        self.ff = FeedForward(kind, channels) if self.whole else nn.Identity()
        self.proj_out = nn.Linear(channels, channels) if self.whole else nn.Identity()

    def forward(self, x_NCHW: Tensor, sight: Sight) -> Tensor:
        x_BTSC = self.proj_in(self._normed(x_NCHW, sight))
        for attention in self.attentions:
            x_BTSC = x_BTSC + attention(x_BTSC, sight)
        if self.whole:
            x_BTSC = self.proj_out(x_BTSC + self.ff(self.norm3(x_BTSC)))
        out_NCHW: Tensor = x_BTSC.flatten(0, 1).transpose(1, 2).reshape(x_NCHW.shape)
        return out_NCHW + x_NCHW if self.whole else out_NCHW

    def _normed(self, x_NCHW: Tensor, sight: Sight) -> Tensor:
        """[B, T, S, C]."""
        channels, frames = x_NCHW.shape[1], sight.frames
        if isinstance(sight, Together):
            x_BCTS = x_NCHW.reshape(-1, frames, channels, x_NCHW[0, 0].numel()).transpose(1, 2)
            return cast(Tensor, self.norm(x_BCTS)).permute(0, 2, 3, 1)
        x_NSC = cast(Tensor, self.norm(x_NCHW.flatten(2))).transpose(1, 2)
        return x_NSC.reshape(-1, frames, *x_NSC.shape[1:])


def _rows(table_PME: Tensor, index_BR: Tensor) -> Tensor:
    """[B, R, M, E]."""
    rows = functional.embedding(index_BR, table_PME.flatten(1))
    return rows.reshape(*index_BR.shape, *table_PME.shape[1:])


def time_code(positions: int, channels: int) -> Tensor:
    """Sinusoidal code of positions 0.., [P, C]: sines at even channels, cosines at odd ones (arXiv 1706.03762)."""
    position = torch.arange(positions, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    code = torch.zeros(positions, channels)
    code[:, 0::2] = torch.sin(position * rate)
    code[:, 1::2] = torch.cos(position * rate)
    return code
