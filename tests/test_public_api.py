"""The names that `engines` promises. A change here is a change for everybody who uses them."""

from __future__ import annotations

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
    "instance_id",
    "is_signed",
    "load",
    "local_key",
    "looks_of",
    "nearest",
    "new_challenge",
    "own_payload",
    "quick_bench",
    "records_directory",
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
