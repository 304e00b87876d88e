"""What passes before faces: hands, things, hair and cloth, moving smoothly, with exact masks.

light = light_on(frames[0], landmarks[0])
passing = occluder_clip(rng, face_of(landmarks_TN3, light), size_px=256)
target, twin = occluded(target_THW3, passing), occluded(twin_THW3, passing)   # the same on both
"""

from distill.occluders.clip import (
    KINDS,
    SHARES,
    Face,
    OccluderClip,
    face_of,
    occluded,
    occluder_clip,
    shadow_on,
)
from distill.occluders.scene import FaceLight, light_on

__all__ = [
    "KINDS",
    "SHARES",
    "Face",
    "FaceLight",
    "OccluderClip",
    "face_of",
    "light_on",
    "occluded",
    "occluder_clip",
    "shadow_on",
]
