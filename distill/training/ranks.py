"""The processes of one run, as torchrun starts them; alone without it.

copies  every process has all weights. Gradients are averaged after the backward pass, in flat buckets: whatever a stage
        does with its networks inside of its loss, nothing can be missed, which hooks on modules cannot promise
shards  FSDP2: weights, gradients, optimiser and averages are spread over the processes. The whole loss runs inside of
        one module's `forward`, for which the weights are gathered, and no block by itself: temporal layers leave keys
        and values beside their output, and FSDP's hooks would miss the gradient that comes in by them
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distill.errors import RankLost
from engines import SettingError

BUCKET_BYTES = 64 << 20
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the others."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    form: Literal["copies", "shards"] = "copies"

    @property
    def first(self) -> bool:
        """Writes, speaks and keeps time for all."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        return self.count > 1 and self.form == "shards"

    def agree(self, *values: float) -> list[float]:
        """The first rank's first value, and of each of the others the largest that any rank has."""
        if self.count == 1:
            return list(values)
        mine = torch.tensor([values[0] if self.first else -1.0, *values[1:]], dtype=torch.float64)
        _together(lambda: dist.all_reduce(mine, dist.ReduceOp.MAX))
        return cast("list[float]", mine.tolist())

    def mean(self, values: Tensor) -> Tensor:
        """Over ranks, in place."""
        if self.count > 1:
            _together(lambda: dist.all_reduce(values))
            values /= self.count
        return values

    def reduce_gradients(self, weights: Sequence[Tensor]) -> None:
        """Averages gradients over ranks. A weight without a gradient on any rank stays without one."""
        if self.count == 1 or self.sharded:
            return
        used = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float32)
        _together(lambda: dist.all_reduce(used, dist.ReduceOp.MAX))
        for weight, seen in zip(weights, used.tolist(), strict=True):
            if seen and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        buckets = list(_buckets([weight.grad for weight in weights if weight.grad is not None]))
        flat = [torch.cat([gradient.reshape(-1) for gradient in bucket]) for bucket in buckets]
        for bucket, whole in zip(buckets, flat, strict=True):
            self.mean(whole)
            for gradient, part in zip(bucket, torch.split(whole, [one.numel() for one in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def same_weights(self, modules: Iterable[nn.Module]) -> None:
        """The first rank's weights and buffers on all of them."""
        if self.count > 1:
            for module in modules:
                for tensor in (*module.parameters(), *module.buffers()):
                    _together(partial(dist.broadcast, tensor.data, 0))

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole and on the CPU; empty but on the first rank. To be called by all."""
        found = {}
        for name, tensor in tensors.items():
            whole = _together(tensor.full_tensor) if hasattr(tensor, "full_tensor") else tensor
            if self.first:
                found[name] = whole.detach().cpu().contiguous()
        return found

    def wait(self) -> None:
        if self.count > 1:
            _together(dist.barrier)


class Inside(nn.Module):
    """Runs functions inside of a module's `forward`, with the weights of all players at hand."""

    def __init__(self, players: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.players = nn.ModuleDict(dict(players))

    def forward(self, function: Callable[..., Any], *given: Any) -> Any:
        return function(*given)


def spread(inside: Inside, ranks: Ranks) -> None:
    """FSDP2 over all ranks."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(inside, mesh=init_device_mesh(ranks.device.type, (ranks.count,)), reshard_after_forward=False)


def whole_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is kept: on its device, and spread and laid out as it is; numbers without axes, such as
    an optimiser's steps, whole everywhere. Fused optimisers go through memory and look at no strides."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    moved = tensor.to(like.device)
    if tensor.shape != like.shape:
        return moved
    if isinstance(like, DTensor) and not isinstance(tensor, DTensor):
        moved = distribute_tensor(moved, like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=tensor.dtype).copy_(moved)


@contextmanager
def started(device: str, form: Literal["copies", "shards"], timeout_s: float) -> Iterator[Ranks]:
    """Joins the other processes if torchrun started this one. Raises SettingError and RankLost."""
    rank, count, local = (int(os.environ.get(name, default)) for name, default in ENVIRONMENT)
    found = _device(device, local if count > 1 else None)
    if count == 1:
        yield Ranks(device=found)
        return
    if found.type == "cuda":
        torch.cuda.set_device(found)
    backend = "cpu:gloo,cuda:nccl" if found.type == "cuda" else "gloo"
    _together(lambda: dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s)))
    try:
        yield Ranks(rank, count, found, form)
    finally:
        dist.destroy_process_group()


ENVIRONMENT = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


def _device(name: str, local: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingError(f"machine.device={name}: torch finds no such device; take cpu")
    if name == "cuda":
        return torch.device("cuda", local or 0)
    return torch.device(name)


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def _together(call: Callable[[], Result]) -> Result:
    try:
        return call()
    except RuntimeError as error:  # gloo's and NCCL's errors have no narrower name in common
        first = str(error).strip().splitlines()[0]
        raise RankLost(
            f"another process of this run died or fell silent ({first}); start the same command again: it goes on from "
            "the last checkpoint"
        ) from error
