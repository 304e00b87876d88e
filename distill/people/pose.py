"""From numbers to points before the camera: identity, expression, eyes, hair, glasses, the head's turn.

Camera axes: x to the right, y up, z towards the camera, centimetres, the origin at the head's middle before `shift_cm`.
Legend: B shots, V vertices of the head, M vertices of all pictures (heads first, then hair by kind, then glasses).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from distill.people.assets import Assets, Faces, Head, Strands
from distill.people.rasterise import Triangles
from distill.people.texture import sums
from distill.people.types import Person, Posture, Scene, Shot

MIDDLE = (0.0, 2.0, 1.0)  # of the head, in the model's space: what the camera looks at
PIVOT = (0.0, -3.0, 1.0)  # where the head turns: the neck's top
LID_DEG = 25.0  # the gaze at which eyeLook* is fully on
KAPPA_DEG = 4.0
EYE_SHRINK = 0.985  # keeps the eyeballs behind closed lids
KINDS_OF_GLASSES = {"none": -1, "round": 0, "square": 1, "thin": 2}


@dataclass(frozen=True)
class Params:
    """The shots' numbers, stacked: one tensor per field of Person, Posture and Scene.

    hair and glasses say which pictures show each kind that is there, and backgrounds are the seeds: known without
    waiting for the device.
    """

    person: dict[str, Tensor]
    posture: dict[str, Tensor]
    scene: dict[str, Tensor]
    hair: dict[int, Tensor]
    glasses: dict[int, Tensor]
    backgrounds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.scene["exposure"])


@dataclass(frozen=True)
class Posed:
    """Everything that can be drawn.

    points_M3, normals_M3   camera axes
    extra_M2                share of the surroundings that the vertex sees, share of hair lying on it
    owner_M                 the picture that a point belongs to
    triangles               of all pictures; template_T which template triangle each is
    turn_B33                the head's turn, camera axes from the model's
    eyes_B24                centre (camera axes) and radius of both eyeballs; gaze_B23 where they look
    """

    points_M3: Tensor
    normals_M3: Tensor
    extra_M2: Tensor
    owner_M: Tensor
    triangles: Triangles
    template_T: Tensor
    throws_T: Tensor  # shadow: all but what lies within the head, and lashes
    solid: int  # the first so many triangles have no holes
    veiled: int  # from here on they are seen through
    turn_B33: Tensor
    eyes_B24: Tensor
    gaze_B23: Tensor
    landmarks_BN3: Tensor


def stack(shots: Sequence[Shot], device: torch.device) -> Params:
    """Numbers of all shots as tensors [B, ...]; float32, or int64 for indices."""

    def of(values: Sequence[Person] | Sequence[Posture] | Sequence[Scene], kind: type) -> dict[str, Tensor]:
        stacked = {}
        for field in fields(kind):
            column = [getattr(value, field.name) for value in values]
            if field.name == "glasses":
                column = [KINDS_OF_GLASSES[name] for name in column]
            array = np.asarray(column)
            array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
            stacked[field.name] = torch.from_numpy(array).to(device)
        return stacked

    def wearers(kinds: Sequence[int]) -> dict[int, Tensor]:
        rows = {kind: [i for i, worn in enumerate(kinds) if worn == kind] for kind in sorted(set(kinds)) if kind >= 0}
        return {kind: torch.tensor(pictures, device=device) for kind, pictures in rows.items()}

    return Params(
        of([shot.person for shot in shots], Person),
        of([shot.posture for shot in shots], Posture),
        of([shot.scene for shot in shots], Scene),
        wearers([shot.person.hair for shot in shots]),
        wearers([KINDS_OF_GLASSES[shot.person.glasses] for shot in shots]),
        tuple(shot.scene.background_seed for shot in shots),
    )


def rotation(yaw_B: Tensor, pitch_B: Tensor, roll_B: Tensor) -> Tensor:
    """[B, 3, 3] from degrees, camera axes from the model's: right, up, clockwise are positive."""
    y, p, r = (torch.deg2rad(angle) for angle in (yaw_B, -pitch_B, -roll_B))
    zero, one = torch.zeros_like(y), torch.ones_like(y)

    def matrix(*values: Tensor) -> Tensor:
        return torch.stack(values, 1).reshape(-1, 3, 3)

    about_y = matrix(y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos())
    about_x = matrix(one, zero, zero, zero, p.cos(), -p.sin(), zero, p.sin(), p.cos())
    about_z = matrix(r.cos(), -r.sin(), zero, r.sin(), r.cos(), zero, zero, zero, one)
    return about_z @ about_y @ about_x


def expression(assets: Assets, params: Params) -> Tensor:
    """The expression's weights [B, E] with the lids following the gaze."""
    names = assets.facts.expressions
    yaw, pitch = (params.posture["gaze_deg"] / LID_DEG).unbind(1)
    follow = torch.zeros_like(params.posture["expression"])
    for name, amount in (
        ("eyeLookUp_L", pitch), ("eyeLookUp_R", pitch), ("eyeLookDown_L", -pitch), ("eyeLookDown_R", -pitch),
        ("eyeLookOut_L", yaw), ("eyeLookIn_R", yaw), ("eyeLookIn_L", -yaw), ("eyeLookOut_R", -yaw),
    ):  # fmt: skip
        follow[:, names.index(name)] = amount.clamp(0, 1)
    return torch.maximum(params.posture["expression"], follow)


def pose(assets: Assets, params: Params) -> Posed:
    head, count = assets.head, len(params)
    identity = params.person["identity"]
    face = expression(assets, params)
    turn = rotation(params.posture["yaw_deg"], params.posture["pitch_deg"], params.posture["roll_deg"])
    middle = identity.new_tensor(MIDDLE)
    shift = params.posture["shift_cm"] - middle
    own = (head.mean_V3.reshape(1, -1) + identity @ head.identity_KV).reshape(count, -1, 3)
    points = own + (face @ head.expression_EV).reshape(count, -1, 3)
    eyes = head.eyes_24 + torch.einsum("bk,kec->bec", identity, head.eyes_K24)
    gaze_yaw, gaze_pitch = params.posture["gaze_deg"].unbind(1)
    gaze = rotation(gaze_yaw, gaze_pitch, torch.zeros_like(gaze_yaw))
    gaze = gaze[:, None] @ _vergence(params, eyes)
    points = _turned_eyes(points, head, eyes, gaze)
    points = _bent(points, head.turn_V, turn)
    normals = vertex_normals(points, head)
    points = points + (0.28 * head.cloth_V)[:, None] * normals + shift[:, None]
    hair = params.person["hair"]
    extra = torch.stack([head.occlusion_HV[hair + 1], head.scalp_HV[hair + 1]], 2)
    number = torch.arange(count, device=turn.device)
    parts = [(points, normals, extra, head.faces, number)]
    for kind, which in params.hair.items():
        strands = assets.hair[kind]
        moved, out = _hair(strands, identity[which], own[which], turn[which], shift[which])
        parts.append((moved, out, moved.new_ones((*moved.shape[:2], 2)), strands.faces, which))
    for kind, which in params.glasses.items():
        frame = list(assets.glasses.values())[kind]
        moved = frame.rest_V3 + (identity[which] @ frame.basis_KV).reshape(len(which), -1, 3)
        moved = _turned(moved, turn[which]) + shift[which, None]
        out = frame.normals_V3 @ turn[which].transpose(1, 2)
        parts.append((moved, out, moved.new_ones((*moved.shape[:2], 2)), frame.faces, which))
    return _gathered(
        assets, parts, turn,
        torch.cat([_turned(eyes[..., :3], turn) + shift[:, None], eyes[..., 3:]], 2),
        (turn[:, None] @ gaze)[..., 2],
        _landmarks(assets, identity, face, turn) + shift[:, None],
    )  # fmt: skip


Piece = tuple[Tensor, Tensor, Tensor, Faces, Tensor]


def _gathered(
    assets: Assets, pieces: list[Piece], turn: Tensor, eyes: Tensor, gaze: Tensor, landmarks: Tensor
) -> Posed:
    """Puts all meshes of all pictures into one list, triangles without holes first."""
    points, normals, extra, owner = [], [], [], []
    whole: list[tuple[Tensor, Tensor, Tensor]] = []
    holed: list[tuple[Tensor, Tensor, Tensor]] = []
    veil: list[tuple[Tensor, Tensor, Tensor]] = []
    count = 0
    for p, n, e, faces, which in pieces:
        start = count + p.shape[1] * torch.arange(len(p), device=turn.device)
        for corners, template, into in (
            (faces.whole_T3, faces.whole_T, whole),
            (faces.holed_T3, faces.holed_T, holed),
            (faces.veil_T3, faces.veil_T, veil),
        ):
            into.append((
                (corners[None] + start[:, None, None]).reshape(-1, 3),
                which[:, None].expand(-1, len(corners)).reshape(-1),
                template[None].expand(len(p), -1).reshape(-1),
            ))  # fmt: skip
        points.append(p.reshape(-1, 3))
        normals.append(n.reshape(-1, 3))
        extra.append(e.reshape(-1, 2))
        owner.append(which[:, None].expand(-1, p.shape[1]).reshape(-1))
        count += p.shape[0] * p.shape[1]
    corners_T3, picture_T, template_T = (torch.cat(column) for column in zip(*whole, *holed, *veil, strict=True))
    triangles = Triangles(corners_T3, picture_T, assets.two_sided_A[template_T])
    return Posed(
        torch.cat(points), torch.cat(normals), torch.cat(extra), torch.cat(owner), triangles, template_T,
        assets.throws_A[template_T], sum(len(part[0]) for part in whole),
        sum(len(part[0]) for part in (*whole, *holed)), turn, eyes, gaze, landmarks,
    )  # fmt: skip


def _turned(points_BV3: Tensor, turn_B33: Tensor) -> Tensor:
    pivot = points_BV3.new_tensor(PIVOT)
    return (points_BV3 - pivot) @ turn_B33.transpose(1, 2) + pivot


def _bent(points_BV3: Tensor, share_V: Tensor, turn_B33: Tensor) -> Tensor:
    """The head turns, the shoulders stay, the neck follows in between."""
    return torch.lerp(points_BV3, _turned(points_BV3, turn_B33), share_V[:, None])


def _vergence(params: Params, eyes_B24: Tensor) -> Tensor:
    """Both eyes turned towards what they look at, as far away as the camera: [B, 2, 3, 3].

    The axis that an iris shows points outwards of the line of sight by `KAPPA_DEG`, so irises look nearly parallel.
    """
    across = eyes_B24[:, :, 0]
    inwards = torch.atan2(-across, params.scene["distance_cm"][:, None].clamp(min=25))
    outwards = torch.deg2rad(across.new_tensor(KAPPA_DEG)) * across.sign()
    angle = torch.rad2deg(inwards + outwards).reshape(-1)
    return rotation(angle, torch.zeros_like(angle), torch.zeros_like(angle)).reshape(-1, 2, 3, 3)


def _turned_eyes(points_BV3: Tensor, head: Head, eyes_B24: Tensor, gaze_B233: Tensor) -> Tensor:
    points_BV3 = points_BV3.clone()
    for number, which in ((1, head.left_eye), (2, head.right_eye)):
        centre = eyes_B24[:, number - 1 : number, :3]
        turned = (points_BV3[:, which] - centre) @ gaze_B233[:, number - 1].transpose(1, 2)
        points_BV3[:, which] = EYE_SHRINK * turned + centre
    return points_BV3


def vertex_normals(points_BV3: Tensor, head: Head) -> Tensor:
    """Smooth normals: sums over the triangles round each vertex, in a fixed order."""
    count, vertices = points_BV3.shape[:2]
    flat = points_BV3.reshape(-1, 3)
    number = torch.arange(count, device=flat.device)[:, None]
    first = flat.index_select(0, (head.corners_T3[:, 0] + number * vertices).reshape(-1))
    edges = [flat.index_select(0, (head.corners_T3[:, k] + number * vertices).reshape(-1)) - first for k in (1, 2)]
    face = torch.linalg.cross(*edges)
    around = (head.around_X + number * len(head.corners_T3)).reshape(-1)
    begin = (head.begin_V + number * len(head.around_X)).reshape(-1)
    total = sums(face, around, begin)
    return torch.nn.functional.normalize(total, dim=1).reshape(count, vertices, 3)


def _hair(strands: Strands, identity: Tensor, own: Tensor, turn: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Hair on these heads: points and normals [B, Vh, 3]. What would lie inside the scalp is lifted just off it."""
    moved = strands.rest_V3 + (identity @ strands.basis_KV).reshape(len(identity), -1, 3)
    skull = own[:, strands.near_V]
    out = strands.normals_V3
    height = ((moved - skull) * out).sum(2)
    above = (strands.rest_V3[:, 1] > 4) & (strands.rest_V3[:, 1] < 40)
    lift = torch.where(above & (height < 0.15), 0.15 - height, torch.zeros_like(height))
    moved = moved + lift[..., None] * out
    return _turned(moved, turn) + shift[:, None], out @ turn.transpose(1, 2)


def _landmarks(assets: Assets, identity: Tensor, face: Tensor, turn: Tensor) -> Tensor:
    marks = assets.landmarks
    points = (marks.mean_V3.reshape(1, -1) + identity @ marks.identity_KV + face @ marks.expression_EV).reshape(
        len(identity), -1, 3
    )
    points = _bent(points, marks.turn_V, turn)
    return (points[:, marks.corner_N3] * marks.share_N3[..., None]).sum(2)
