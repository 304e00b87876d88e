"""The names that `engines` promises. A change here is a change for everybody who uses them."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import engines

PROMISED = {
    "Agreement",
    "Box",
    "BuiltEngines",
    "Challenge",
    "ConsentEnded",
    "ConsentMissing",
    "EngineBusy",
    "EngineFault",
    "EnginePool",
    "EngineUnavailable",
    "Finding",
    "Gpu",
    "Identity",
    "IdentityError",
    "IdentityStore",
    "KeyFault",
    "LocalKey",
    "Manifest",
    "Marker",
    "MediaError",
    "NotGenuine",
    "Payload",
    "QuickBench",
    "Rgb",
    "Session",
    "SessionState",
    "SettingError",
    "Status",
    "StepResult",
    "StrictModel",
    "SwapSettings",
    "TrackedFace",
    "Tracking",
    "UnknownEngine",
    "UnsuitablePhoto",
    "VividError",
    "Watched",
    "WeightsError",
    "agree",
    "blurred_scene",
    "built_engines",
    "canonical",
    "check_clip",
    "detect_mark",
    "draw_label",
    "engine_names",
    "engines_here",
    "enroll",
    "find_gpu",
    "free_memory_bytes",
    "identity_names",
    "instance_id",
    "is_signed",
    "load",
    "local_key",
    "looks_of",
    "made_certificate_pem",
    "nearest",
    "new_challenge",
    "own_payload",
    "quick_bench",
    "records_directory",
    "records_trouble",
    "rgb_to_yuv420",
    "standby_card",
    "watch_clip",
    "write_whole",
}


def test_engines_exports_what_is_promised() -> None:
    assert set(engines.__all__) == PROMISED
    assert engines.__all__ == sorted(engines.__all__)


def test_every_exported_name_is_there_and_documented() -> None:
    for name in engines.__all__:
        value = getattr(engines, name)
        assert name == "Rgb" or value.__doc__, f"engines.{name} has no docstring"


def test_a_type_checker_sees_the_names_that_a_program_gets() -> None:
    assert engines.__file__ is not None
    tree = ast.parse(Path(engines.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("engines.")
        for alias in node.names
    }
    assert seen == dict(engines._HOMES)
    assert set(seen) == PROMISED
    assert set(dir(engines)) >= PROMISED


def test_no_module_is_called_like_a_name() -> None:
    """Importing such a module would put it in the name's place."""
    assert not PROMISED & {module.name for module in pkgutil.iter_modules(engines.__path__)}


def test_an_error_and_a_setting_cost_no_pixels() -> None:
    heavy = ("numpy", "numba", "scipy", "PIL", "cryptography")
    code = (
        "import sys; from engines import VividError, SwapSettings, StrictModel, engine_names; engine_names();"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
