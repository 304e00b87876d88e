"""The facts of a build, gathered and written beside the engine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine_manifest import MANIFEST, EngineManifest, FileFact, Precision, RuntimeName, sealed, sha256_of
from engines.machine import Machine, this_machine

if TYPE_CHECKING:
    import onnx
    import torch

SOURCE = Path(__file__).parent


def onnx_text_sha256(model: onnx.ModelProto) -> str:
    """Over a graph's operators, names, shapes and attributes, without its weights."""
    bare = type(model.graph)()
    for field in ("node", "input", "output", "value_info"):
        getattr(bare, field).extend(getattr(model.graph, field))
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True))
    for tensor in model.graph.initializer:
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}\n".encode())
    for opset in model.opset_import:
        digest.update(f"{opset.domain} {opset.version}\n".encode())
    return digest.hexdigest()


def program_text_sha256(program: torch.export.ExportedProgram) -> str:
    """Over an exported program's operators, and the shapes and types that they have, without its weights."""
    lines = [str(program.graph_module.code)]
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if hasattr(value, "shape"):
            lines.append(f"{node.name} {value.dtype} {list(value.shape)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def bound_to(runtime: RuntimeName, device: str, precision: Precision = "float32") -> Machine:
    """The part of this machine that an engine depends on: a GPU with its driver; of a CPU, only what kind it is.

    ONNX graphs and weights run on every processor of the kind; what a library makes of them is not stored. Compiled
    code is, and has the instructions of the CPU that it was compiled on. A graph in 8 bits is bound to them too: sums
    that are exact on this processor overflow on one without VNNI.
    """
    here = this_machine(device)
    any_cpu = device == "cpu" and runtime != "compiled" and precision != "int8"
    return here.model_copy(update={"cpu": ""}) if any_cpu else here


def files_in(folder: Path) -> dict[str, FileFact]:
    """Every file but the manifest."""
    return {
        path.name: FileFact(sha256=sha256_of(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }


def write_manifest(folder: Path, manifest: EngineManifest) -> EngineManifest:
    """Seals and writes it; returns what was written. Raises OSError."""
    whole = sealed(manifest)
    (folder / MANIFEST).write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return whole


def now_utc() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def product_version() -> str:
    try:
        return version("vividstream")
    except PackageNotFoundError:
        return "source"


def git_revision() -> str:
    """Of this source, with `+` if it was changed since; empty where it is no checkout or there is no git."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    revision = _git("rev-parse", "HEAD") or ""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", str(SOURCE.parent))
    return revision + ("+" if changed else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=SOURCE, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def peak_memory_bytes() -> int:
    """The most that this process ever held; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
