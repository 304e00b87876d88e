"""Pixels and latents: tracking, geometry, models and engines. Synchronous; knows neither network nor devices.

A name is imported when it is first asked for: the command line asks for its errors and settings at every press of the
Tab key, and must not wait for Numba and SciPy (PEP 562).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.checkup import BuiltEngines, QuickBench, built_engines, quick_bench
    from engines.enrolment import enroll
    from engines.errors import (
        ConsentEnded,
        ConsentMissing,
        EngineBusy,
        EngineFault,
        EngineUnavailable,
        IdentityError,
        KeyFault,
        MediaError,
        NotGenuine,
        SettingError,
        UnknownEngine,
        UnsuitablePhoto,
        VividError,
        WeightsError,
        nearest,
    )
    from engines.identity import Identity, Manifest
    from engines.identity_list import identity_names
    from engines.identity_store import IdentityStore
    from engines.liveness import Challenge, Watched, check_clip, looks_of, new_challenge, watch_clip
    from engines.machine import Gpu, find_gpu, free_memory_bytes
    from engines.marks.detect import Finding, detect_mark
    from engines.marks.invisible import Marker
    from engines.marks.label import draw_label
    from engines.marks.own import own_payload
    from engines.marks.payload import Payload
    from engines.pixels import rgb_to_yuv420
    from engines.pool import EnginePool
    from engines.registry import engine_names, engines_here
    from engines.session import Session, SessionState, load
    from engines.settings import StrictModel, SwapSettings
    from engines.standby import blurred_scene, standby_card
    from engines.trust.agreement import Agreement, agree
    from engines.trust.key import LocalKey, instance_id, is_signed, local_key, made_certificate_pem
    from engines.trust.records import canonical, records_directory, records_trouble, write_whole
    from engines.types import Box, Rgb, Status, StepResult, TrackedFace, Tracking

__all__ = [
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
]

_HOMES: Mapping[str, str] = MappingProxyType(
    {
        name: f"engines.{module}"
        for module, names in {
            "checkup": "BuiltEngines QuickBench built_engines quick_bench",
            "enrolment": "enroll",
            "errors": "ConsentEnded ConsentMissing EngineBusy EngineFault EngineUnavailable IdentityError KeyFault "
            "MediaError NotGenuine SettingError UnknownEngine UnsuitablePhoto VividError WeightsError nearest",
            "identity": "Identity Manifest",
            "identity_list": "identity_names",
            "identity_store": "IdentityStore",
            "liveness": "Challenge Watched check_clip looks_of new_challenge watch_clip",
            "machine": "Gpu find_gpu free_memory_bytes",
            "marks.detect": "Finding detect_mark",
            "marks.invisible": "Marker",
            "marks.label": "draw_label",
            "marks.own": "own_payload",
            "marks.payload": "Payload",
            "pixels": "rgb_to_yuv420",
            "pool": "EnginePool",
            "registry": "engine_names engines_here",
            "session": "Session SessionState load",
            "settings": "StrictModel SwapSettings",
            "standby": "blurred_scene standby_card",
            "trust.agreement": "Agreement agree",
            "trust.key": "LocalKey instance_id is_signed local_key made_certificate_pem",
            "trust.records": "canonical records_directory records_trouble write_whole",
            "types": "Box Rgb Status StepResult TrackedFace Tracking",
        }.items()
        for name in names.split()
    }
)


if not TYPE_CHECKING:  # it would take every misspelt name for one of these

    def __getattr__(name: str) -> object:
        """A public name, from the module that has it."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
