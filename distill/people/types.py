"""One picture of a person who does not exist, as numbers: who (Person), what they do (Posture), where (Scene).

All three are plain frozen values of fixed size, so that they can be compared to the bit, stored, and stacked into
batches. Space is the ICT face model's: centimetres, +x the person's left, +y up, +z out of the face. Angles in degrees.
Legend: K = 65 identity modes, E = 57 expression shapes, L = 3 directional lights, B = 9 spherical harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, ...]

IDENTITY_MODES, EXPRESSIONS = 65, 57
GlassesKind = Literal["none", "round", "square", "thin"]


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is. Equal persons give equal pixels under equal posture and scene.

    identity      K coefficients of the ICT identity modes, about N(0, 1)
    skins         two indices into the skins, mixed by `skin_mix` 0..1 (0: only the first)
    skin_lab      shift of the mixed skin in CIELAB: lightness, a, b
    roughness     of the skin's highlights, 0.3 (oily) to 0.6 (dry)
    freckles, stubble, blotches  strength 0..1; `marks_seed` places them
    lips_lab, lips_strength      lip colour (natural or made up) as a Lab shift, and how much of it
    shadow_lab, shadow_strength  eye make-up likewise
    brows, brow_lightness        index of the brow layer and its lightness -1..1
    hair, hair_lab               index of the hair mesh (-1: none) and its Lab shift
    iris, iris_lab               index of the iris texture and its Lab shift
    glasses, glasses_lab         kind and colour of the frame
    clothes_seed                 colour and pattern of the shirt
    """

    identity: Vector
    skins: tuple[int, int]
    skin_mix: float
    skin_lab: Vector
    roughness: float
    freckles: float
    stubble: float
    blotches: float
    marks_seed: int
    lips_lab: Vector
    lips_strength: float
    shadow_lab: Vector
    shadow_strength: float
    brows: int
    brow_lightness: float
    hair: int
    hair_lab: Vector
    iris: int
    iris_lab: Vector
    glasses: GlassesKind
    glasses_lab: Vector
    clothes_seed: int


@dataclass(frozen=True, slots=True)
class Posture:
    """What a face does: E expression weights 0..1, the head's turn and place, and where the eyes look.

    yaw_deg > 0 turns the face to the picture's right, pitch_deg > 0 upwards, roll_deg > 0 clockwise in the picture.
    shift_cm moves the head in camera axes (x right, y up, z towards the camera). gaze_deg: yaw and pitch of both eyes
    against the head, the same signs; lids follow.
    """

    expression: Vector
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    shift_cm: Vector
    gaze_deg: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """Camera, light and background.

    field_of_view_deg  vertical; distance_cm from the camera to the head's middle
    ambient            B x 3 coefficients of linear light, spherical harmonics of order two, row after row
    light_directions   L unit vectors towards the light in camera axes; light_colours L x 3 linear; light_softness L,
                       0 (sharp shadow) .. 1
    background_seed    picks and places the background; background_photo: index into portraits or textures, -1: made up
    exposure           linear gain before the tone curve
    """

    field_of_view_deg: float
    distance_cm: float
    ambient: Vector
    light_directions: Vector
    light_colours: Vector
    light_softness: Vector
    background_seed: int
    exposure: float


@dataclass(frozen=True, slots=True)
class Shot:
    """Everything that makes one picture."""

    person: Person
    posture: Posture
    scene: Scene
