"""Everything that people are made of, as tensors: the face model, hair, glasses, skins, brows, eyes.

Space is the ICT model's (see `types`). A template triangle is one triangle of the head, of one hair mesh or of one kind
of glasses; its corners carry what is the same for everybody (texture coordinates, kind, direction of strands).
Legend: V vertices of the head, T its triangles, A template triangles of all meshes, K = 65 identity modes,
E = 57 expression shapes, C = 9 values per corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.people import meshes
from distill.people.meshes import F32, I64
from distill.people.paint import Paint, load_paint, missing
from distill.people.types import IDENTITY_MODES


class Part(IntEnum):
    """What a pixel shows, as `Render.parts_BHW` names it."""

    BACKGROUND = 0
    SKIN = 1
    LIPS = 2
    MOUTH = 3
    TEETH = 4
    EYE = 5
    BROW = 6
    HAIR = 7
    GLASSES = 8
    NECK = 9
    CLOTH = 10
    LASH = 11


class Kind(IntEnum):
    """How a triangle is drawn."""

    SKIN = 0
    SOCKET = 1
    GUMS = 2
    TEETH = 3
    EYE = 4
    HAIR = 5
    LASH = 6
    GLASSES = 7
    LENS = 8


@dataclass(frozen=True)
class Facts:
    """What a sampler of persons may choose from."""

    skins: tuple[str, ...]
    brows: tuple[str, ...]
    hair: tuple[str, ...]
    irises: tuple[str, ...]
    expressions: tuple[str, ...]


@dataclass(frozen=True)
class Faces:
    """A mesh's triangles: without holes, with some in their picture, seen through. Corners, and template triangles."""

    whole_T3: Tensor
    whole_T: Tensor
    holed_T3: Tensor
    holed_T: Tensor
    veil_T3: Tensor
    veil_T: Tensor


@dataclass(frozen=True)
class Strands:
    """One hair mesh: rest [Vh, 3], how it follows identity [K, Vh * 3], nearest skull vertices."""

    rest_V3: Tensor
    basis_KV: Tensor
    normals_V3: Tensor
    near_V: Tensor
    faces: Faces


@dataclass(frozen=True)
class Frame:
    """One kind of glasses: rest, and how it follows the identity."""

    rest_V3: Tensor
    basis_KV: Tensor
    normals_V3: Tensor
    faces: Faces


@dataclass(frozen=True)
class Head:
    """The head's geometry. `around_X` are the triangles of one vertex after another, from `begin_V` on."""

    mean_V3: Tensor
    identity_KV: Tensor  # [K, V * 3]
    expression_EV: Tensor  # [E, V * 3]
    corners_T3: Tensor
    around_X: Tensor
    begin_V: Tensor
    turn_V: Tensor  # how much of the head's turn a vertex makes, 0 at the shoulders
    cloth_V: Tensor
    eyes_24: Tensor  # centre and radius of the left and the right eyeball
    eyes_K24: Tensor
    left_eye: Tensor  # vertices
    right_eye: Tensor
    scalp_HV: Tensor  # for no hair and every hair: share of hair lying on the vertex
    occlusion_HV: Tensor  # for no hair and every hair: how much of the surroundings a vertex sees
    set_back_V: Tensor  # cm by which a vertex counts as farther than it is
    faces: Faces


@dataclass(frozen=True)
class Landmarks:
    """MediaPipe's 468 on the full model: the vertices they need, and where each lies."""

    mean_V3: Tensor
    identity_KV: Tensor
    expression_EV: Tensor
    turn_V: Tensor
    corner_N3: Tensor
    share_N3: Tensor


@dataclass(frozen=True)
class Assets:
    """Read once with `load_assets`; nothing of it changes."""

    facts: Facts
    head: Head
    hair: tuple[Strands, ...]
    glasses: dict[str, Frame]
    landmarks: Landmarks
    corner_values_AC: Tensor  # [3 * A, 9]: u, v, tangent or strand (3), rest place (3), thinness
    kind_A: Tensor
    two_sided_A: Tensor
    throws_A: Tensor
    shell_A: Tensor  # of curls: seen only where the hair is seen from the side
    card_A: Tensor  # picture of alpha that a template triangle has, -1: solid
    paint: Paint

    @property
    def device(self) -> torch.device:
        return self.kind_A.device


KIND_OF_MATERIAL = {
    "M_Face": Kind.SKIN,
    "M_BackHead": Kind.SKIN,
    "M_GumsTongue": Kind.GUMS,
    "M_Teeth": Kind.TEETH,
    "M_ScleraLeft": Kind.EYE,
    "M_ScleraRight": Kind.EYE,
    "M_EyeLashes": Kind.LASH,
}
SET_BACK_CM = {int(Kind.TEETH): 0.25, int(Kind.GUMS): 0.25, int(Kind.EYE): 0.06}
SHADOWS = (Kind.SKIN, Kind.HAIR, Kind.GLASSES)
GLASSES = ("round", "square", "thin")


def arrays(folder: Path, name: str) -> dict[str, NDArray[np.generic]]:
    path = folder / name
    if not path.is_file():
        raise missing(f"{path} is missing; see ../shared/data/README.md for where it comes from")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def load_assets(data_folder: Path | str, device: str | torch.device = "cpu") -> Assets:
    """Reads and prepares everything (some seconds). Raises DataMissing with the path of what is not there."""
    folder = Path(data_folder)
    if not folder.is_dir():
        raise missing(f"{folder} is missing: the folder with the face model, skins and hair")
    lite, full = arrays(folder, "ict/ict_lite_f16.npz"), arrays(folder, "ict/ict_full_f16.npz")
    points, hairs = arrays(folder, "mediapipe/mediapipe_face.npz"), arrays(folder, "hair_ict/hair_ict.npz")
    target = torch.device(device)
    base = meshes.head_mesh(lite, {name: int(kind) for name, kind in KIND_OF_MATERIAL.items()}, int(Kind.SOCKET))
    names = tuple(sorted(key[:-2] for key in hairs if key.endswith("_v")))
    paint = load_paint(folder, base, names)
    strands = [meshes.hair_mesh(hairs, name, base, bool(paint.loose[number])) for number, name in enumerate(names)]
    frames = {kind: meshes.glasses_mesh(kind, base) for kind in GLASSES}
    first, parts = len(base.tri), [base.corner_values]
    kinds, cards = [base.kind], [np.where(base.kind == Kind.LASH, len(names), -1)]
    firsts = []
    for number, (mesh, kind) in enumerate(
        [*((mesh, Kind.HAIR) for mesh in strands), *((mesh, Kind.GLASSES) for mesh in frames.values())]
    ):
        firsts.append(first)
        first += len(mesh.tri)
        parts.append(mesh.corner_values)
        solid = np.arange(len(mesh.tri)) < len(mesh.tri) - mesh.lenses
        kinds.append(np.where(solid, int(kind), int(Kind.LENS)))
        cards.append(np.full(len(mesh.tri), number if kind == Kind.HAIR else -1))
    kind_A = np.concatenate(kinds)

    def f32(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(target)

    def i64(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(target)

    values, card_A = np.concatenate(parts), np.concatenate(cards)
    solid_A, shown_A = paint.solid_and_shown(values.reshape(-1, 3, 9)[..., [0, 1, 8]], card_A)

    veiled_A = (kind_A == Kind.LASH) | (kind_A == Kind.LENS)

    def faces(tri: I64, start: int) -> Faces:
        here = slice(start, start + len(tri))
        veil_A = veiled_A[here]
        whole, holed = np.nonzero(solid_A[here] & ~veil_A)[0], np.nonzero(shown_A[here] & ~solid_A[here] & ~veil_A)[0]
        veil = np.nonzero(veil_A)[0]
        return Faces(
            i64(tri[whole]), i64(start + whole), i64(tri[holed]), i64(start + holed), i64(tri[veil]), i64(start + veil)
        )

    thin = values.reshape(-1, 3, 9)[..., 8]
    covers = [meshes.scalp_share(base, mesh) for mesh in strands]
    scalp = np.stack([np.zeros(len(base.mean), np.float32), *covers])
    left_eye, right_eye = (i64(np.nonzero(base.eye_of == number)[0]) for number in (1, 2))
    head = Head(
        f32(base.mean), f32(base.identity.reshape(IDENTITY_MODES, -1)), f32(base.expression.reshape(57, -1)),
        i64(base.tri), i64(base.around), i64(base.begin), f32(meshes.turn_share(base.mean)),
        f32(meshes.cloth_share(base.mean, base)), f32(base.eyes), f32(base.eyes_basis), left_eye, right_eye,
        f32(scalp),
        f32(meshes.occlusion(base, scalp)), f32(meshes.set_back(base, SET_BACK_CM)), faces(base.tri, 0),
    )  # fmt: skip
    hair = tuple(
        Strands(f32(m.rest), f32(m.basis.reshape(IDENTITY_MODES, -1)), f32(m.normals), i64(m.near), faces(m.tri, start))
        for m, start in zip(strands, firsts[: len(strands)], strict=True)
    )
    glasses = {
        kind: Frame(f32(m.rest), f32(m.basis.reshape(IDENTITY_MODES, -1)), f32(m.normals), faces(m.tri, start))
        for (kind, m), start in zip(frames.items(), firsts[len(strands) :], strict=True)
    }
    facts = Facts(paint.skin_names, paint.brow_names, names, paint.iris_names, tuple(str(n) for n in lite["exp_names"]))
    return Assets(
        facts, head, hair, glasses, _landmarks(full, points, target), f32(values), i64(kind_A),
        torch.from_numpy((kind_A == Kind.HAIR) | veiled_A).to(target),
        torch.from_numpy(np.isin(kind_A, [int(kind) for kind in SHADOWS])).to(target),
        torch.from_numpy((thin.min(axis=1) > 0) & (np.ptp(thin, axis=1) == 0)).to(target), i64(card_A),
        paint.to(target),
    )  # fmt: skip


def _landmarks(
    full: dict[str, NDArray[np.generic]], points: dict[str, NDArray[np.generic]], device: torch.device
) -> Landmarks:
    used, corner = np.unique(points["ict_tri"], return_inverse=True)
    mean: F32 = full["mean"][used].astype(np.float32)
    corners: I64 = corner.reshape(-1, 3).astype(np.int64)

    def sent(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return Landmarks(
        sent(mean),
        sent(full["id_basis"][:IDENTITY_MODES, used].astype(np.float32).reshape(IDENTITY_MODES, -1)),
        sent(full["exp_basis"][:, used].astype(np.float32).reshape(57, -1)),
        sent(meshes.turn_share(mean)),
        sent(corners),
        sent(points["ict_bary"].astype(np.float32)),
    )
