"""The 57 expression shapes of the ICT face model: ARKit's names, which belong together, which exclude each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]

EXPRESSION_NAMES: tuple[str, ...] = tuple(
    """browDown_L browDown_R browInnerUp_L browInnerUp_R browOuterUp_L browOuterUp_R cheekPuff_L cheekPuff_R
    cheekSquint_L cheekSquint_R eyeBlink_L eyeBlink_R eyeLookDown_L eyeLookDown_R eyeLookIn_L eyeLookIn_R eyeLookOut_L
    eyeLookOut_R eyeLookUp_L eyeLookUp_R eyeSquint_L eyeSquint_R eyeWide_L eyeWide_R jawForward jawLeft jawOpen jawRight
    mouthClose mouthDimple_L mouthDimple_R mouthFrown_L mouthFrown_R mouthFunnel mouthLeft mouthLowerDown_L
    mouthLowerDown_R mouthPress_L mouthPress_R mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower
    mouthShrugUpper mouthSmile_L mouthSmile_R mouthStretch_L mouthStretch_R mouthUpperUp_L mouthUpperUp_R noseSneer_L
    noseSneer_R cheekRaiser_L cheekRaiser_R PupilDilate_L PupilDilate_R""".split()
)
INDEX = {name: i for i, name in enumerate(EXPRESSION_NAMES)}

LIDS_FULL_PITCH_DEG, LIDS_FULL_YAW_DEG = 25.0, 25.0  # gaze at which eyeLookUp/Down and eyeLookIn/Out are 1


@dataclass(frozen=True, slots=True)
class Unit:
    """One movement: a shape, or the left and right one together. `how_often` is relative, `most` its largest weight."""

    name: str
    how_often: float
    most: float = 1.0

    @property
    def indices(self) -> tuple[int, ...]:
        """Its places among the weights: one, or left and right."""
        return (INDEX[self.name],) if self.name in INDEX else (INDEX[f"{self.name}_L"], INDEX[f"{self.name}_R"])


# Blinks come from blinking, eyeLook* from the gaze, and mouthClose only ever works against an open jaw: not here.
UNITS: tuple[Unit, ...] = (
    Unit("mouthSmile", 6.0),
    Unit("jawOpen", 5.0),
    Unit("browInnerUp", 3.0),
    Unit("browOuterUp", 3.0),
    Unit("browDown", 3.0),
    Unit("eyeSquint", 2.5),
    Unit("eyeWide", 1.5),
    Unit("cheekSquint", 2.0),
    Unit("cheekRaiser", 2.0),
    Unit("mouthPucker", 2.0),
    Unit("mouthFunnel", 2.0),
    Unit("mouthFrown", 2.0),
    Unit("mouthStretch", 1.5),
    Unit("mouthPress", 1.5),
    Unit("mouthUpperUp", 1.5),
    Unit("mouthLowerDown", 1.5),
    Unit("mouthDimple", 1.5),
    Unit("mouthRollLower", 1.0),
    Unit("mouthRollUpper", 1.0),
    Unit("mouthShrugLower", 1.0),
    Unit("mouthShrugUpper", 1.0),
    Unit("noseSneer", 1.0),
    Unit("mouthLeft", 0.7, 0.7),
    Unit("mouthRight", 0.7, 0.7),
    Unit("jawForward", 0.5, 0.7),
    Unit("jawLeft", 0.5, 0.6),
    Unit("jawRight", 0.5, 0.6),
    Unit("cheekPuff", 0.5),
)

# Muscles that pull against each other: only the difference is seen.
OPPOSED: tuple[tuple[str, str], ...] = (
    ("browDown", "browOuterUp"),
    ("mouthSmile", "mouthFrown"),
    ("mouthSmile", "mouthPucker"),
    ("mouthStretch", "mouthPucker"),
    ("mouthStretch", "mouthFunnel"),
    ("mouthSmile", "mouthFunnel"),
    ("mouthPress", "jawOpen"),
    ("mouthPress", "mouthFunnel"),
    ("mouthRollUpper", "mouthUpperUp"),
    ("mouthRollLower", "mouthLowerDown"),
    ("mouthRollUpper", "mouthFunnel"),
    ("mouthRollLower", "mouthFunnel"),
    ("cheekPuff", "jawOpen"),
    ("cheekPuff", "mouthSmile"),
    ("jawLeft", "jawRight"),
    ("mouthLeft", "mouthRight"),
    ("eyeWide", "eyeSquint"),
)
_OPPOSED_INDICES = tuple(
    (a, b)
    for one, other in OPPOSED
    for a in Unit(one, 0).indices
    for b in Unit(other, 0).indices
    if len(Unit(one, 0).indices) == 1
    or len(Unit(other, 0).indices) == 1
    or EXPRESSION_NAMES[a][-2:] == EXPRESSION_NAMES[b][-2:]
)


def sensible(weights_TE: Weights) -> Weights:
    """Weights that a face can have: opposed muscles cancel, lids that close are not wide, lips reach the jaw at most.

    float64 [..., 57] in and out, 0..1. Continuous, so that smooth motion stays smooth.
    """
    out = np.clip(weights_TE, 0, 1)
    for a, b in _OPPOSED_INDICES:
        common = np.minimum(out[..., a], out[..., b])
        out[..., a] -= common
        out[..., b] -= common
    for side in ("L", "R"):
        blink = out[..., INDEX[f"eyeBlink_{side}"]]
        for name in ("eyeWide", "eyeSquint"):  # a closed lid has no room for either
            out[..., INDEX[f"{name}_{side}"]] *= np.clip(1 - 2 * blink, 0, 1)
    close = INDEX["mouthClose"]
    out[..., close] = np.minimum(out[..., close], out[..., INDEX["jawOpen"]])
    return out


def follow_gaze(weights_TE: Weights, gaze_T2: Weights) -> Weights:
    """Sets the lids for where the eyes look: yaw and pitch in degrees, as in Posture; closed lids follow less.

    float64 [..., 57] and [..., 2] in; weights out. Yaw > 0 looks to the person's left: the left eye outwards.
    """
    out = weights_TE.copy()
    yaw, pitch = gaze_T2[..., 0] / LIDS_FULL_YAW_DEG, gaze_T2[..., 1] / LIDS_FULL_PITCH_DEG
    for side, outwards in (("L", yaw), ("R", -yaw)):
        open_share = 1 - out[..., INDEX[f"eyeBlink_{side}"]]
        out[..., INDEX[f"eyeLookOut_{side}"]] = np.clip(outwards, 0, 1)
        out[..., INDEX[f"eyeLookIn_{side}"]] = np.clip(-outwards, 0, 1)
        out[..., INDEX[f"eyeLookUp_{side}"]] = np.clip(pitch, 0, 1) * open_share
        out[..., INDEX[f"eyeLookDown_{side}"]] = np.clip(-pitch, 0, 1) * open_share
    return out
