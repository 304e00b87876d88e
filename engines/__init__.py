"""Pixels and latents: tracking, geometry, models and engines. Synchronous; knows neither network nor devices."""

from engines.checkup import BuiltEngines, QuickBench, built_engines, quick_bench
from engines.enroll import enroll
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
from engines.trust.key import LocalKey, instance_id, is_signed, local_key
from engines.trust.records import canonical, records_directory, write_whole
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
]
