"""A small real graph with everything that a step has: convolutions, a ring of keys and values, a causal convolution.

B batch, C channels, h w latent, S = h * w, H heads, R = W - 1 slots, d width of a head, N tokens, D their width
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engines.graph import Clock, DType, GraphSpec, Memory, TensorSpec
from engines.runtimes.base import Array
from engines.window import Window, recent_order, recent_slot

SIDE = 4
HEADS, WIDTH = 2, 8
CHANNELS = HEADS * WIDTH
TOKENS, TOKEN_WIDTH = 3, 8
RECENT = 2
NAMES: Mapping[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


class RingGraph(nn.Module):
    """One frame at a time: (picture, tokens, positions, bias, recent_order; memories) -> face, new slices.

    frames  W; 1 is the image model, without a ring
    """

    def __init__(self, batch: int, frames: int = 4, sinks: int = 1, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.into = nn.Conv2d(3, CHANNELS, 3, padding=1)
            self.key_value_query = nn.Linear(CHANNELS, 3 * CHANNELS)
            self.ask = nn.Linear(CHANNELS, CHANNELS)
            self.tell = nn.Linear(TOKEN_WIDTH, 2 * CHANNELS)
            self.norm = nn.GroupNorm(2, CHANNELS)
            self.through_time = nn.Conv1d(CHANNELS, CHANNELS, RECENT + 1)
            self.out = nn.Conv2d(CHANNELS, 3, 3, padding=1)
            self.key_place = nn.Parameter(torch.randn(frames, HEADS, WIDTH))
            self.value_place = nn.Parameter(torch.randn(frames, HEADS, WIDTH))
        self.batch = batch
        self.window = Window(frames, sinks if frames > 1 else 0)

    @property
    def spec(self) -> GraphSpec:
        slots, kind = self.window.slots, NAMES[self.into.weight.dtype]
        inputs = [
            TensorSpec("picture", (self.batch, 3, SIDE, SIDE)),
            TensorSpec("tokens", (self.batch, TOKENS, TOKEN_WIDTH)),
        ]
        memories = []
        if slots:
            inputs += [
                TensorSpec("positions", (self.batch, slots), "int64"),
                TensorSpec("bias", (self.batch, slots)),
            ]
            ring, slice_ = (self.batch, SIDE * SIDE, HEADS, slots, WIDTH), (self.batch, SIDE * SIDE, HEADS, WIDTH)
            memories += [
                Memory(TensorSpec(name, ring, kind), TensorSpec(f"{name}_new", slice_, kind), 3, "window")
                for name in ("key_00", "value_00")
            ]
        inputs.append(TensorSpec("recent_order", (self.batch, RECENT), "int64"))
        past, now = (self.batch, RECENT, CHANNELS, SIDE, SIDE), (self.batch, CHANNELS, SIDE, SIDE)
        memories.append(Memory(TensorSpec("past_00", past, kind), TensorSpec("past_00_new", now, kind), 1, "recent"))
        outputs = (TensorSpec("face", (self.batch, 3, SIDE, SIDE)), TensorSpec("mean", (self.batch, CHANNELS)))
        return GraphSpec("ring", tuple(inputs), outputs, tuple(memories))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        kind = self.into.weight.dtype
        picture, tokens, *rest = tensors
        x = self.into(picture.to(kind))
        x = x + self.attend(x, tokens.to(kind))
        new: tuple[Tensor, ...] = ()
        if self.window.slots:
            positions, bias, order, key, value, past = rest
            x, *new_ring = self.remember(x, positions, bias.to(kind), key, value)
            new = tuple(new_ring)
        else:
            order, past = rest
        now = F.silu(self.norm(x))
        x = now + self.in_time(now, order, past)
        face = torch.tanh(self.out(x))
        return face.float(), x.mean((2, 3)).float(), *new, now

    def attend(self, x_BChw: Tensor, tokens_BND: Tensor) -> Tensor:
        """Cross-attention to the tokens."""
        query = self.ask(x_BChw.flatten(2).transpose(1, 2)).unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
        key, value = self.tell(tokens_BND).unflatten(2, (2, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        return seen.transpose(1, 2).flatten(2).transpose(1, 2).reshape(x_BChw.shape)

    def remember(
        self, x_BChw: Tensor, positions_BR: Tensor, bias_BR: Tensor, key_BSHRd: Tensor, value_BSHRd: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attention over the ring and the frame itself; the ring is never joined or copied."""
        tokens = x_BChw.flatten(2).transpose(1, 2)
        query, key, value = self.key_value_query(tokens).unflatten(2, (3, HEADS, WIDTH)).unbind(2)  # [B, S, H, d]
        last = self.window.frames - 1
        places = self.key_place[positions_BR].transpose(1, 2)[:, None]  # [B, 1, H, R, d]
        past = ((key_BSHRd @ query[..., None]) + (places @ query[..., None]))[..., 0] + bias_BR[:, None, None]
        own = (query * (key + self.key_place[last])).sum(-1, keepdim=True)
        share = torch.softmax(torch.cat([past, own], -1) * WIDTH**-0.5, -1)
        old, mine = share[..., None, :-1], share[..., -1:]
        value_places = self.value_place[positions_BR].transpose(1, 2)[:, None]
        seen = (old @ value_BSHRd + old @ value_places)[..., 0, :] + mine * (value + self.value_place[last])
        return x_BChw + seen.flatten(2).transpose(1, 2).reshape(x_BChw.shape), key, value

    def in_time(self, now_BChw: Tensor, order_BK: Tensor, past_BKChw: Tensor) -> Tensor:
        """A causal convolution over the last frames, oldest first."""
        at = order_BK[:, :, None, None, None].expand(past_BKChw.shape)
        line = torch.cat([past_BKChw.gather(1, at), now_BChw[:, None]], 1)  # [B, K + 1, C, h, w]
        series = line.permute(0, 3, 4, 2, 1).reshape(-1, CHANNELS, RECENT + 1)
        moved: Tensor = self.through_time(series).reshape(self.batch, SIDE, SIDE, CHANNELS)
        return moved.permute(0, 3, 1, 2)


class Clip:
    """Frames of one batch in which each row may begin, pause and begin anew on its own."""

    def __init__(self, graph: RingGraph, seed: int) -> None:
        self.graph = graph
        self.random = np.random.default_rng(seed)
        self.tokens = self.random.standard_normal((graph.batch, TOKENS, TOKEN_WIDTH)).astype(np.float32)
        self.seen = [0] * graph.batch

    def frame(self, live: tuple[bool, ...] | None = None) -> tuple[dict[str, Array], dict[Clock, NDArray[np.int64]]]:
        """Inputs and slots of the next frame, of the rows that are live (all, if None)."""
        rows = live or (True,) * self.graph.batch
        window = self.graph.window
        picture = self.random.uniform(-1, 1, (self.graph.batch, 3, SIDE, SIDE)).astype(np.float32)
        inputs: dict[str, Array] = {"picture": picture, "tokens": self.tokens}
        if window.slots:
            inputs["positions"] = np.stack([window.positions(seen) for seen in self.seen])
            inputs["bias"] = np.stack([window.bias(seen) for seen in self.seen])
        inputs["recent_order"] = np.stack([recent_order(seen, RECENT) for seen in self.seen])
        slots: dict[Clock, NDArray[np.int64]] = {
            "window": np.array([window.slot_of(seen) for seen in self.seen], np.int64),
            "recent": np.array([recent_slot(seen, RECENT) for seen in self.seen], np.int64),
        }
        for written in slots.values():
            written[~np.array(rows)] = -1
        self.seen = [seen + on for seen, on in zip(self.seen, rows)]
        return inputs, slots

    def restart(self, row: int) -> None:
        """The row's session begins anew."""
        self.seen[row] = 0


class Reference:
    """The graph in eager float32, with rings written here and not by a runtime: what every runtime must equal."""

    def __init__(self, graph: RingGraph) -> None:
        self.graph = graph
        self.kept = {memory.kept.name: torch.zeros(memory.kept.shape) for memory in graph.spec.memories}

    def step(self, inputs: Mapping[str, Array], slots: Mapping[Clock, NDArray[np.int64]]) -> dict[str, Array]:
        spec = self.graph.spec
        with torch.no_grad():
            results = self.graph(*(torch.tensor(inputs[one.name]) for one in spec.inputs), *self.kept.values())
        for memory, new in zip(spec.memories, results[len(spec.outputs) :]):
            for row in range(self.graph.batch):
                slot = int(slots[memory.clock][row])
                if slot >= 0:
                    by_slot = self.kept[memory.kept.name].movedim(memory.axis, 1)
                    by_slot[row, slot] = new[row]
        return {one.name: result.numpy() for one, result in zip(spec.outputs, results)}

    def restart(self, row: int) -> None:
        for kept in self.kept.values():
            kept[row] = 0
