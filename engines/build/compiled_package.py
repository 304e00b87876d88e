"""A graph module to a package of compiled code for this machine's CPU: opened in a moment, without a compiler.

torch.compile compiles at every start, minutes for a whole network; AOTInductor does that work once and leaves a file.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from engines.build.export_onnx import exported_program
from engines.runtimes.compiled import JOINED, require_compiler


def build_package(module: nn.Module, path: Path, tuned: bool = False) -> None:
    """Writes the module, in its own precision, as `path` (.pt2), weights folded in. Minutes.

    tuned: try several ways for each product (max-autotune): half again as long for 4 % (docs/log.md).

    The code is for this CPU's instructions and this torch: the store's key has both. Raises EngineUnavailable where the
    C++ compiler is missing, ExportError for a graph that is not whole.
    """
    if path.suffix != ".pt2":
        raise ValueError(f"{path.name}: a package's name ends in .pt2")
    require_compiler()
    program = exported_program(module)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(path), inductor_configs={"freezing": True, "max_autotune": tuned, **JOINED}
        )
