"""What every runtime refuses before a frame is computed, and after it. Arithmetic on arrays; no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineFault, nearest
from engines.graph import Clock, GraphSpec, TensorSpec

NUMPY = {"float32": np.float32, "float16": np.float16, "int64": np.int64}


def batch_of(spec: GraphSpec) -> int:
    """B, how many sessions one run serves: the first dimension of everything."""
    return spec.inputs[0].shape[0]


def clocks_of(spec: GraphSpec) -> dict[Clock, int]:
    """Each clock that writes a memory of this graph, and how many slots it counts."""
    found: dict[Clock, int] = {}
    for memory in spec.memories:
        slots = memory.kept.shape[memory.axis]
        if found.setdefault(memory.clock, slots) != slots:
            raise ValueError(f'memory "{memory.kept.name}" has {slots} slots, others of its clock have other numbers')
    return found


def check_spec(spec: GraphSpec) -> None:
    """Refuses a description that contradicts itself: ValueError names the tensor."""
    names = [tensor.name for tensor in every_tensor(spec)]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise ValueError(f'graph "{spec.name}": names used twice: {", ".join(sorted(doubled))}')
    for tensor in every_tensor(spec):
        if not tensor.shape or tensor.shape[0] != batch_of(spec):
            raise ValueError(f'graph "{spec.name}": "{tensor.name}" is {tensor.shape}, not of batch {batch_of(spec)}')
    for memory in spec.memories:
        kept, axis = memory.kept, memory.axis
        if kept.shape[:axis] + kept.shape[axis + 1 :] != memory.new.shape or not 0 < axis < len(kept.shape):
            raise ValueError(f'graph "{spec.name}": "{memory.new.name}" {memory.new.shape} is no slice of {kept}')
        if kept.dtype != memory.new.dtype:
            raise ValueError(f'graph "{spec.name}": "{memory.new.name}" is {memory.new.dtype}, not {kept.dtype}')
    clocks_of(spec)


def every_tensor(spec: GraphSpec) -> list[TensorSpec]:
    """Inputs, outputs, then kept and new of each memory."""
    memories = [tensor for memory in spec.memories for tensor in (memory.kept, memory.new)]
    return [*spec.inputs, *spec.outputs, *memories]


def check_inputs(spec: GraphSpec, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Refuses inputs that are not what the graph takes: ValueError says which one and what was wanted."""
    wanted = {tensor.name: tensor for tensor in spec.inputs}
    for name in inputs:
        if name not in wanted:
            raise ValueError(f'graph "{spec.name}" has no input "{name}"; {nearest(name, wanted)}')
    for name, tensor in wanted.items():
        if name not in inputs:
            raise ValueError(f'graph "{spec.name}" needs input "{name}", {tensor.dtype} {list(tensor.shape)}')
        array = inputs[name]
        if array.shape != tensor.shape:
            raise ValueError(f'input "{name}" is {list(array.shape)}; graph "{spec.name}" takes {list(tensor.shape)}')
        if array.dtype != NUMPY[tensor.dtype]:
            raise ValueError(f'input "{name}" is {array.dtype}; graph "{spec.name}" takes {tensor.dtype}')


def check_slots(spec: GraphSpec, slots: Mapping[Clock, NDArray[np.int64]]) -> None:
    """Refuses slots that do not exist: ValueError."""
    clocks = clocks_of(spec)
    batch = batch_of(spec)
    for clock in slots:
        if clock not in ("window", "recent"):
            raise ValueError(f'no clock is called "{clock}"; {nearest(clock, clocks or ("window", "recent"))}')
    for clock, count in clocks.items():
        if clock not in slots:
            raise ValueError(f'graph "{spec.name}" needs the slots of clock "{clock}"')
        given = slots[clock]
        if given.shape != (batch,) or given.dtype != np.int64:
            raise ValueError(f'slots of clock "{clock}" are {given.dtype} {list(given.shape)}, not int64 [{batch}]')
        if given.size and (int(given.min()) < -1 or int(given.max()) >= count):
            raise ValueError(f'slots of clock "{clock}" are {given.tolist()}; there are {count}, and -1 for none')


def check_finite(spec: GraphSpec, finite: Iterable[bool]) -> None:
    """Raises EngineFault where a row (a session) got something that is no number.

    finite  per row, whether all its outputs and new slices were numbers
    """
    bad = [row for row, good in enumerate(finite) if not good]
    if bad:
        rows = ", ".join(map(str, bad))
        raise EngineFault(f'graph "{spec.name}" gave values that are no numbers (row {rows}); nothing was remembered')


def finite_rows(arrays: Iterable[NDArray[Any]], batch: int) -> NDArray[np.bool_]:
    """Per row, whether every value is a number. A sum says so in one pass: NaN and inf survive it."""
    rows = np.ones(batch, np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        for array in arrays:
            for row in range(batch):
                rows[row] &= bool(np.isfinite(array[row].sum(dtype=np.float32)))
    return rows
