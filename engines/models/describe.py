"""What a configuration costs: parameters, FLOPs, memory, per part and whole. Computed on the meta device, where tensors
have shapes and no contents: `full` is described in seconds on any machine.

One multiply-add counts as two FLOPs (torch.utils.flop_counter: convolutions and products of matrices; norms,
activations and the few products written as sums are left out, under 1 % in all presets).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from engines.graph import Memory
from engines.models.config import SwapperConfig
from engines.models.step import IdentityGraph, SwapStep
from engines.models.swapper import Swapper

TYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the network. flop is of one call; flop_per_frame of all its calls in a frame of one session."""

    name: str
    parameters: int
    flop: int
    calls_per_frame: int

    @property
    def flop_per_frame(self) -> int:
        return self.flop * self.calls_per_frame


@dataclass(frozen=True, slots=True)
class Description:
    """A configuration's cost.

    parts             the frame's; `identity_flop` is what a new identity costs, once
    flop_per_frame    of the whole graph, counted as one: what the parts do not explain is its glue
    activation_bytes  peak of live intermediate tensors in one frame, without the runtime's own workspaces
    ring_bytes        keys and values of the rolling window, per session
    past_bytes        the causal convolutions' two frames, per session
    """

    name: str
    size_px: int
    steps: int
    window_frames: int
    memory: str
    precision: str
    parts: tuple[Part, ...]
    parameters: int
    weight_bytes: int
    flop_per_frame: int
    identity_flop: int
    activation_bytes: int
    ring_bytes: int
    past_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and text, ready for json.dumps."""
        plain = asdict(self)
        for part, mine in zip(plain["parts"], self.parts, strict=True):
            part["flop_per_frame"] = mine.flop_per_frame
        return plain

    def as_table(self) -> str:
        """For people: a few lines of text without a trailing newline."""
        lines = [
            f"{self.name}: {self.size_px} px, {self.steps} step{'s' if self.steps > 1 else ''}, "
            f"a window of {self.window_frames} frames ({self.memory}), {self.precision}",
            "",
            f"{'part':<22}{'parameters':>13}{'GFLOP a call':>14}{'calls':>7}{'GFLOP a frame':>15}",
        ]
        for part in self.parts:
            lines.append(
                f"{part.name:<22}{_millions(part.parameters):>13}{part.flop / 1e9:>14.3f}"
                f"{part.calls_per_frame:>7}{part.flop_per_frame / 1e9:>15.3f}"
            )
        lines += [
            f"{'whole':<22}{_millions(self.parameters):>13}{'':>21}{self.flop_per_frame / 1e9:>15.3f}",
            "",
            f"a new identity, once        {self.identity_flop / 1e9:10.3f} GFLOP",
            f"weights                     {_mega(self.weight_bytes):>10}",
            f"activations, peak           {_mega(self.activation_bytes):>10}",
            f"ring of keys and values     {_mega(self.ring_bytes):>10} a session",
            f"past of causal convolutions {_mega(self.past_bytes):>10} a session",
        ]
        return "\n".join(lines)


def describe(config: SwapperConfig, precision: str = "float32") -> Description:
    """Counts one frame of one session. precision: float32, float16 or bfloat16, of weights and memories alike."""
    dtype = TYPES[precision]
    with torch.device("meta"):
        swapper = Swapper(config)
        step = SwapStep(swapper, 1, dtype)
        identity = IdentityGraph(swapper, 1, dtype)
    identity_flop = sum(measured(identity).flop_of[""].values())
    cost = measured(step)
    parameters = count(swapper)
    return Description(
        name=config.name,
        size_px=config.size_px,
        steps=config.steps,
        window_frames=config.window.frames,
        memory=config.window.memory,
        precision=precision,
        parts=_parts(swapper, cost),
        parameters=parameters,
        weight_bytes=parameters * dtype.itemsize,
        flop_per_frame=cost.flop(""),
        identity_flop=identity_flop,
        activation_bytes=cost.activation_bytes,
        ring_bytes=_kept(step.spec.memories, "window"),
        past_bytes=_kept(step.spec.memories, "recent"),
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run of a graph. flop_of: FLOPs by kind of operation, by path of the module within which it ran."""

    flop_of: Mapping[str, Mapping[Any, int]]
    activation_bytes: int

    def flop(self, *paths: str) -> int:
        """Within the modules of these paths, which must not contain one another; "" is the whole."""
        return sum(sum(self.flop_of.get(path, {}).values()) for path in paths)


def measured(graph: SwapStep | IdentityGraph) -> Cost:
    """Runs a graph once. For graphs on the meta device: contents are neither read nor made."""
    kept = (memory.kept for memory in graph.spec.memories)
    given = [torch.empty(spec.shape, dtype=TYPES[spec.dtype], device="meta") for spec in (*graph.spec.inputs, *kept)]
    live = _Live()
    with torch.no_grad(), FlopCounterMode(display=False) as counter, live:
        graph(*given)
    root = type(graph).__name__
    by_path = {name.removeprefix(root).lstrip("."): dict(kinds) for name, kinds in counter.get_flop_counts().items()}
    return Cost({**by_path, "": dict(counter.get_flop_counts()["Global"])}, live.peak_bytes)


def _parts(swapper: Swapper, cost: Cost) -> tuple[Part, ...]:
    """A frame's parts. What runs only for a new identity is listed for its parameters."""
    config = swapper.config
    decoder = ["autoencoder.post_quant_conv", "autoencoder.decoder"]
    encoder = [path for path in _children(swapper, "autoencoder") if path not in decoder]
    once = ["face_encoder.proj", "face_encoder.norm", "face_encoder.texture_resampler"]
    faced = [path for path in _children(swapper, "face_encoder") if path not in once]
    memory = [] if swapper.denoiser.memory_encoder is None else ["denoiser.memory_encoder"]

    def part(name: str, paths: Sequence[str], calls: int, without: Sequence[str] = ()) -> Part:
        flop = cost.flop(*(f"swapper.{path}" for path in paths))
        return Part(name, _count(swapper, paths) - _count(swapper, without), flop // max(calls, 1), calls)

    parts = [
        part("encoder", encoder, 2),
        part("denoiser", ["denoiser"], config.steps, without=memory),
        part("decoder", decoder, 1),
        part("face encoder", faced, 1),
        part("... for a new identity", once, 0),
    ]
    if config.window.memory != "last_step":  # runs parts of the denoiser outside its own passes
        rest = cost.flop("") - sum(each.flop_per_frame for each in parts)
        parts.insert(2, Part(config.window.memory.replace("_", " "), _count(swapper, memory), rest, 1))
    return tuple(parts)


def _children(swapper: Swapper, name: str) -> list[str]:
    return [f"{name}.{child}" for child, _ in swapper.get_submodule(name).named_children()]


def _count(swapper: Swapper, paths: Sequence[str]) -> int:
    have = dict(swapper.named_modules())
    return sum(count(have[path]) for path in paths if path in have)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that operations make, from their making to their last reference."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._bytes_of: dict[int, int] = {}

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, func, types, args=(), kwargs=None
    ) -> Any:
        given = {_key(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and _key(value) not in given and _key(value) not in self._bytes_of:
                storage = value.untyped_storage()
                self._bytes_of[_key(value)] = storage.nbytes()
                weakref.finalize(storage, self._bytes_of.pop, _key(value), None)
        self.peak_bytes = max(self.peak_bytes, sum(self._bytes_of.values()))
        return result


def _key(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def _kept(memories: Sequence[Memory], clock: str) -> int:
    kept = [memory.kept for memory in memories if memory.clock == clock]
    return sum(math.prod(spec.shape) * TYPES[spec.dtype].itemsize for spec in kept)


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _millions(number: int) -> str:
    return f"{number / 1e6:.3f} M"


def _mega(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
