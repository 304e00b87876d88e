"""Who may import whom: a table held against every import statement, those inside functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engines", "streamer", "distill")
SHARED_BY_RUNTIMES = ("base", "checks", "fixed_frame", "torch_graph")
CHOOSES_RUNTIMES = "engines.runtimes.choose"  # by name, and says why: the one module that knows all of them
EVERYTHING = (*PACKAGES, "benchmarks", "examples")
WITHOUT_CIRCLES = ("streamer", "distill", "benchmarks", "examples")


@dataclass(frozen=True)
class Rule:
    """Modules under one of `where`, except under one of `but`, never import anything under one of `never`."""

    where: tuple[str, ...]
    never: tuple[str, ...]
    why: str
    but: tuple[str, ...] = ()


RULES = (
    Rule(
        ("engines",),
        ("streamer", "distill", "asyncio", "aiohttp", "aiortc", "av"),
        "pixels do not know the network",
    ),
    Rule(
        ("streamer",),
        ("distill", "torch", "tensorrt", "onnxruntime"),
        "the server starts and is tested without a GPU stack",
    ),
    Rule(("distill",), ("streamer", "aiohttp", "aiortc"), "training needs no server"),
    Rule(
        ("engines.models",),
        ("engines.runtimes", "engines.swappers", "engines.build", "engines.registry"),
        "a network is only mathematics",
    ),
    Rule(
        ("engines.window", "engines.schedule"),
        ("engines.runtimes", "logging", "time"),
        "pure, testable by hand",
    ),
    Rule(
        ("engines.face",),
        ("engines.runtimes", "engines.swappers", "logging", "time"),
        "face geometry is pure, testable by hand",
    ),
    Rule(
        ("engines.runtimes",),
        ("engines.swappers", "engines.face", "engines.session", "engines.registry"),
        "a runtime executes graphs and knows no faces",
    ),
    Rule(
        EVERYTHING,
        ("tensorrt", "torch_tensorrt"),
        "optional means optional",
        but=("engines.runtimes.trt", "engines.build"),
    ),
    Rule(EVERYTHING, ("onnxruntime",), "optional means optional", but=("engines.runtimes.ort", "engines.build")),
    Rule(("engines", "streamer"), ("engines.build",), "nothing is built on a call", but=("engines.build",)),
    Rule(EVERYTHING, ("tests",), "tests are not shipped"),
    Rule(
        (*EVERYTHING, "tests"),
        ("cv2", "mediapipe", "jax", "matplotlib", "sounddevice"),
        "they want libGL or PortAudio, which a bare server has not (docs/decisions/001)",
    ),
    Rule(EVERYTHING, ("numba",), "one place knows Numba", but=("engines.jit",)),
    Rule(
        (*EVERYTHING, "tests"),
        ("pyvirtualcam", "streamer.camera.virtualcam_child"),
        "it is GPL-2.0: a process of its own, never imported",
        but=("streamer.camera.virtualcam_child",),
    ),
    Rule(PACKAGES, ("pickle", "joblib", "dill"), "a file from elsewhere must not run code"),
)


def is_under(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(parent + ".") for parent in parents)


def imports_of(module: str, source: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, relative and dynamic imports resolved.

    `from a import b` gives `a` and `a.b`, since b may be a module.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, origin
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rsplit(".", 1)[-1]
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """What in a module goes against the table, one line each."""
    found = []
    for line, name in imports_of(module, source, is_package):
        found += [
            f"{module}:{line} imports {name}: {rule.why}"
            for rule in RULES
            if is_under(module, rule.where) and not is_under(module, rule.but) and is_under(name, rule.never)
        ]
        if is_under(module, ("engines.runtimes",)) and is_sibling_runtime(module, name):
            found.append(f"{module}:{line} imports {name}: one runtime never hides behind another")
        if is_under(module, ("streamer",)) and name.startswith("engines.") and not is_public(name):
            found.append(f"{module}:{line} imports {name}: streamer uses only the public names of engines")
    return found


def is_sibling_runtime(module: str, name: str) -> bool:
    """Whether `name` is in another runtime than `module`, and not in what all of them share."""
    parts = name.split(".")[:3]
    if parts[:2] != ["engines", "runtimes"] or len(parts) < 3 or module == CHOOSES_RUNTIMES:
        return False
    return parts[2] not in SHARED_BY_RUNTIMES and parts != module.split(".")[:3]


def is_public(name: str) -> bool:
    import engines

    return name.count(".") == 1 and name.split(".")[1] in engines.__all__


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[Path]:
    return sorted(path for top in (*EVERYTHING, "tests") for path in (ROOT / top).rglob("*.py"))


def test_every_import_obeys_the_table() -> None:
    found = [
        line
        for path in sources()
        for line in violations(module_of(path), path.read_text(encoding="utf-8"), path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def test_the_table_looks_at_the_whole_project() -> None:
    modules = {module_of(path) for path in sources()}
    assert {"engines", "engines.session", "engines.swappers.base", "streamer.cli", "tests.test_architecture"} <= modules


PLANTED = [
    ("engines.session", "import asyncio"),
    ("engines.session", "def step():\n    from aiortc import VideoStreamTrack"),
    ("engines.face.track", "from time import monotonic"),
    ("engines.face.align", "def f():\n    import logging.handlers"),
    ("engines.face.align", "from ..runtimes import base"),
    ("engines.window", "from engines import runtimes"),
    ("engines.models.denoiser", "from engines.registry import make"),
    ("engines.runtimes.ort", "from engines.runtimes.torch_eager import TorchRuntime"),
    ("engines.runtimes.ort", "from . import trt"),
    ("engines.runtimes.torch_eager", "import tensorrt"),
    ("engines.session", "from engines.build import verify"),
    ("engines.session", "from tests.fakes import FakeClock"),
    ("engines.pixels", "import numba"),
    ("engines.face.track", "import mediapipe as mp"),
    ("engines.weights", "import pickle"),
    ("streamer.app", "import torch"),
    ("streamer.app", "if True:\n    import importlib\n    importlib.import_module('distill.train')"),
    ("streamer.worker", "from engines.session import Session"),
    ("streamer.worker", "from engines import registry"),
    ("streamer.peer", "import onnxruntime as ort"),
    ("distill.train", "from streamer.stats import Window"),
    ("distill.train", "import aiohttp.web"),
    ("benchmarks.likeness", "import cv2"),
]


@pytest.mark.parametrize(("module", "source"), PLANTED, ids=[f"{m}: {s.splitlines()[-1].strip()}" for m, s in PLANTED])
def test_a_planted_violation_is_caught(module: str, source: str) -> None:
    assert violations(module, source)


LEGAL = [
    ("engines.session", "from engines.swappers.base import Inputs\nimport time"),
    ("engines.swappers.latent", "from engines.runtimes.base import Runtime\nfrom engines.swappers.proxy import Proxy"),
    ("engines.runtimes.trt", "def make():\n    import tensorrt"),
    ("engines.runtimes.ort", "import onnxruntime"),
    ("engines.build.export", "import onnxruntime\nfrom engines.build import manifest"),
    ("engines.jit", "import numba"),
    ("streamer.app", "from engines import Session, VividError\nimport asyncio\nfrom aiohttp import web"),
    ("distill.train", "import torch\nfrom engines.face import align"),
    ("streamer.timeline", "import av"),
]


@pytest.mark.parametrize(("module", "source"), LEGAL, ids=[m for m, _ in LEGAL])
def test_a_legal_import_passes(module: str, source: str) -> None:
    assert violations(module, source) == []


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a ring, those inside functions and for types included; empty without one.

    modules: name to source; a package's own module is left out, since every module in it imports it.
    """
    graph: dict[str, set[str]] = {}
    for module, source in modules.items():
        names = {name for _, name in imports_of(module, source)}
        graph[module] = {other for other in (*names, *(name.rpartition(".")[0] for name in names)) if other in modules}
        graph[module].discard(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Where two modules need each other, what both need belongs into a third."""
    found = circle(
        {
            module_of(path): path.read_text(encoding="utf-8")
            for path in sources()
            if path.name != "__init__.py" and is_under(module_of(path), WITHOUT_CIRCLES)
        }
    )
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    ("back", "found"),
    [
        ("from streamer.room import Room", True),
        ("def late():\n    from streamer import room", True),
        ("if TYPE_CHECKING:\n    from .room import Room", True),
        ("from streamer.rooms import Room", False),
    ],
)
def test_a_planted_circle_is_caught(back: str, found: bool) -> None:
    modules = {
        "streamer.room": "import streamer.peer",
        "streamer.peer": "import streamer.worker",
        "streamer.worker": back,
    }
    assert bool(circle(modules)) == found


def test_importing_the_packages_starts_nothing_heavy() -> None:
    """What a statement does not show: nothing imported brings in the heavy or the optional by itself."""
    heavy = ("torch", "tensorrt", "onnxruntime", "cv2", "jax", "matplotlib", "sounddevice", "mediapipe")
    code = f"import sys, engines, streamer.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
