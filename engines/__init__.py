"""Pixels and latents: tracking, geometry, models and engines. Synchronous; knows neither network nor devices."""

from engines.enroll import enroll
from engines.errors import (
    ConsentMissing,
    EngineBusy,
    EngineFault,
    EngineUnavailable,
    IdentityError,
    MediaError,
    SettingError,
    UnknownEngine,
    UnsuitablePhoto,
    VividError,
    WeightsError,
    nearest,
)
from engines.identity import Identity, Manifest
from engines.identity_store import IdentityStore
from engines.marks.label import draw_label
from engines.pool import EnginePool
from engines.registry import engine_names, engines_here
from engines.session import Session, SessionState, load
from engines.settings import StrictModel, SwapSettings
from engines.standby import blurred_scene, standby_card
from engines.types import Box, Rgb, Status, StepResult, TrackedFace, Tracking

__all__ = [
    "Box",
    "ConsentMissing",
    "EngineBusy",
    "EngineFault",
    "EnginePool",
    "EngineUnavailable",
    "Identity",
    "IdentityError",
    "IdentityStore",
    "Manifest",
    "MediaError",
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
    "WeightsError",
    "blurred_scene",
    "draw_label",
    "engine_names",
    "engines_here",
    "enroll",
    "load",
    "nearest",
    "standby_card",
]
