"""Prepares the meshes that people are made of, once, in NumPy: the head, hair fitted to it, glasses.

Space is the ICT model's: centimetres, +x the person's left, +y up, +z out of the face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.people.fringe import added, shells, strips
from distill.people.nearest import nearest
from distill.people.types import IDENTITY_MODES

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]

SOCKETS = (2, 3, 4)  # parts of the model inside the mouth and behind the eyes
MOUTH = (5, 6)  # gums and teeth, which this model has a little too far out for lively lips
TEETH_SHRINK, TEETH_BACK = np.array([0.95, 1, 1], np.float32), np.array([0, 0, -0.2], np.float32)
LENS_CM = 11.0  # radius of the ball that a lens is cut from
NECK_Y = (-14.5, -6.5)  # below the first the shoulders stay, above the second the head turns


@dataclass(frozen=True)
class HeadMesh:
    """The head that all of a person's parts are attached to."""

    mean: F32
    identity: F32
    expression: F32
    tri: I64
    kind: I64
    around: I64
    begin: I64
    normals: F32
    corner_values: F32
    uv: F32  # [T, 3, 2]
    eyes: F32
    eyes_basis: F32
    eye_of: I64
    lm68: I64
    skull: I64  # vertices of face and back of the head


@dataclass(frozen=True)
class FittedMesh:
    """A mesh that follows the head's identity."""

    rest: F32
    basis: F32
    normals: F32
    near: I64
    tri: I64
    corner_values: F32
    lenses: int = 0  # so many triangles at the end


def unit(vectors: F32) -> F32:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), np.float32)


def smooth_normals(points: F32, tri: I64) -> F32:
    a, b, c = (points[tri[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    total = np.zeros_like(points)
    for k in range(3):
        np.add.at(total, tri[:, k], face)
    return unit(total)


def turn_share(rest: F32) -> F32:
    """How much of the head's turn a point makes: none at the shoulders, all of it from the jaw upwards."""
    share = np.clip((rest[:, 1] - NECK_Y[0]) / (NECK_Y[1] - NECK_Y[0]), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def neckline(rest: F32) -> F32:
    """Height of a shirt's edge at each place of the mean head."""
    return np.asarray(-14.6 - 0.28 * (rest[:, 2] - 2) + 0.012 * rest[:, 0] ** 2, np.float32)


def cloth_share(rest: F32, head: HeadMesh) -> F32:
    """How far a vertex lies under the shirt, 0..1."""
    inner = np.ones(len(rest), bool)
    inner[head.skull] = False
    return np.asarray(
        np.where(inner & (rest[:, 1] > -14), 0, np.clip((neckline(rest) - rest[:, 1]) * 1.2, 0, 1)), np.float32
    )


def sphere(points: F32) -> F32:
    """Least-squares centre and radius."""
    system = np.c_[2 * points, np.ones(len(points))]
    solved = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0]
    return np.array([*solved[:3], np.sqrt(solved[3] + (solved[:3] ** 2).sum())], np.float32)


def tangents(points: F32, tri: I64, uv: F32, along_v: bool) -> F32:
    """Per triangle, the direction in which u (or v) grows, [T, 3]."""
    edge1, edge2 = points[tri[:, 1]] - points[tri[:, 0]], points[tri[:, 2]] - points[tri[:, 0]]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    along = edge2 * d1[:, :1] - edge1 * d2[:, :1] if along_v else edge1 * d2[:, 1:] - edge2 * d1[:, 1:]
    return unit((along * np.sign(det)[:, None]).astype(np.float32))


def smoothed(per_tri: F32, tri: I64, count: int) -> F32:
    total = np.zeros((count, 3), np.float32)
    for k in range(3):
        np.add.at(total, tri[:, k], per_tri)
    return unit(total)


def corner_table(rest: F32, tri: I64, uv: F32, direction: F32, thin: F32 | None = None) -> F32:
    """[3 * T, 9]: texture coordinates, direction, rest place, thinness of hair, corner after corner."""
    flat = tri.reshape(-1)
    thinness = np.zeros((len(flat), 1), np.float32) if thin is None else thin.reshape(-1, 1)
    return np.asarray(np.concatenate([uv.reshape(-1, 2), direction[flat], rest[flat], thinness], axis=1), np.float32)


def _skirt(points: F32, tri: I64) -> tuple[I64, I64]:
    """The shoulders' rim: its vertices, pairwise, and triangles that hang from it to new vertices."""
    _, welded = np.unique(np.round(points / 2e-3).astype(np.int64), axis=0, return_inverse=True)
    corners = welded.reshape(-1)[tri]
    directed = {
        (int(t[i]), int(t[(i + 1) % 3])): (int(o[i]), int(o[(i + 1) % 3]))
        for t, o in zip(corners, tri, strict=True) for i in range(3)
    }  # fmt: skip
    rim = [own for edge, own in directed.items() if edge[::-1] not in directed]
    ends = np.array([(a, b) for a, b in rim if points[a, 1] < -13 and points[b, 1] < -13], np.int64)
    first = len(points) + 2 * np.arange(len(ends))
    sides = [np.stack([ends[:, 1], ends[:, 0], first], 1), np.stack([ends[:, 1], first, first + 1], 1)]
    return ends.ravel(), np.concatenate(sides)


def head_mesh(model: Arrays, kind_of: Mapping[str, int], socket: int) -> HeadMesh:
    """Keeps what is drawn, closes the shoulders downwards, fits the eyes."""
    mean = model["mean"].astype(np.float32)
    identity = model["id_basis"][:IDENTITY_MODES].astype(np.float32)
    expression = model["exp_basis"].astype(np.float32)
    names = [str(name) for name in model["material_names"]]
    kind = np.array([kind_of.get(name, -1) for name in names])[model["tri_material"]]
    kind = np.where(np.isin(model["tri_part"], SOCKETS), socket, kind)
    tri_all, uv_all = model["tri"].astype(np.int64), model["uv"].astype(np.float32)[model["tri_uv"]]
    kept = kind >= 0
    tri, uv, kind = tri_all[kept], uv_all[kept], kind[kept].astype(np.int64)
    skin = kind == 0
    source, hanging = _skirt(mean, tri[skin])
    inside = np.unique(tri_all[np.isin(model["tri_part"], MOUTH)])
    mean[inside] = mean[inside] * TEETH_SHRINK + TEETH_BACK
    new = mean[source] * np.array([1.35, 1, 1.2], np.float32) - np.array([0, 16, 0], np.float32)
    balls = [
        np.unique(tri_all[np.isin(model["tri_material"], [names.index(n)])]) for n in ("M_ScleraLeft", "M_ScleraRight")
    ]
    eyes = np.stack([sphere(mean[ball]) for ball in balls])
    basis = np.stack([[sphere((mean + mode)[ball]) for ball in balls] for mode in identity]) - eyes
    points = np.concatenate([mean, new])
    eye_of = np.zeros(len(points), np.int64)
    for number, ball in enumerate(balls):
        eye_of[ball] = number + 1
    tri = np.concatenate([tri, hanging])
    uv = np.concatenate([uv, np.full((len(hanging), 3, 2), 1.5, np.float32)])
    kind = np.concatenate([kind, np.zeros(len(hanging), np.int64)])
    _, welded = np.unique(np.round(points / 2e-3).astype(np.int64), axis=0, return_inverse=True)
    welded = welded.reshape(-1).astype(np.int64)
    along = smoothed(tangents(points, tri, uv, along_v=False), tri, len(points))
    return HeadMesh(
        points,
        np.concatenate([identity, identity[:, source]], axis=1),
        np.concatenate([expression, expression[:, source]], axis=1),
        tri, kind, *around(tri, welded, kind), smooth_normals(points, tri),
        corner_table(points, tri, uv, along), uv, eyes, basis.astype(np.float32), eye_of,
        model["lm68"].astype(np.int64), np.unique(tri_all[np.isin(model["tri_part"], (0, 1))]),
    )  # fmt: skip


def set_back(head: HeadMesh, kinds: Mapping[int, float]) -> F32:
    """How many centimetres a vertex counts as farther than it is, so that lips hide teeth and lids hide eyes, [V]."""
    back = np.zeros(len(head.mean), np.float32)
    for kind, distance in kinds.items():
        back[np.unique(head.tri[head.kind == kind])] = distance
    back[np.unique(head.tri[head.kind == 0])] = 0
    return back


def around(tri: I64, welded: I64, kind: I64) -> tuple[I64, I64]:
    """The triangles that meet at each vertex (of one kind, seams closed), vertex by vertex, and where each begins."""
    group = welded[tri] * 16 + kind[:, None]
    flat = group.reshape(-1)
    order = np.argsort(flat, kind="stable")
    names, starts, counts = np.unique(flat[order], return_index=True, return_counts=True)
    of_vertex = np.zeros(len(welded), np.int64)
    of_vertex[tri.reshape(-1)] = np.searchsorted(names, flat)
    each = counts[of_vertex]
    begin = np.cumsum(each) - each
    place = np.repeat(starts[of_vertex] - begin, each) + np.arange(each.sum())
    return order[place] // 3, begin


def follow(points: F32, head: HeadMesh) -> tuple[F32, I64]:
    """How points off the skull follow its identity: smoothly, like the skull near by. Also the nearest vertex."""
    skull = head.skull
    distance, near = nearest(points, head.mean[skull], 16)
    weight = 1 / (distance + 0.7) ** 2
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    basis = np.stack([(mode[skull][near] * weight[..., None]).sum(axis=1) for mode in head.identity])
    return basis.astype(np.float32), skull[near[:, 0]]


def hair_mesh(model: Arrays, name: str, head: HeadMesh, loose: bool) -> FittedMesh:
    """A hair mesh with normals that mostly point away from the head, as light goes through hair.

    loose: whether it gets loose hair round its borders, because its own picture has no holes.
    """
    rest = model[f"{name}_v"].astype(np.float32)
    tri = model[f"{name}_tri"].astype(np.int64)
    uv = model[f"{name}_uv"].astype(np.float32)[model[f"{name}_tri_uv"]]
    curls = name.startswith("afro")
    if curls:  # its coordinates are a patchwork; curls need no direction
        flat = rest @ np.array([[0.09, 0.02], [0.01, 0.09], [0.05, -0.04]], np.float32)
        uv = flat[tri]
    out = unit(rest - np.array([0, 2.0, -1.0], np.float32))
    normals = smooth_normals(rest, tri)
    normals *= np.sign((normals * out).sum(axis=1, keepdims=True) + 1e-6)
    along = smoothed(tangents(rest, tri, uv, along_v=True), tri, len(rest))
    normals = unit(0.55 * out + 0.45 * normals)
    thin = np.zeros(tri.shape, np.float32)
    if loose:
        more = strips(rest, normals, tri, uv)
        if curls:
            more = added(more, shells(rest, normals, tri, uv), len(rest))
        rest, along = np.concatenate([rest, more.points]), np.concatenate([along, along[more.parent]])
        normals, tri = np.concatenate([normals, normals[more.parent]]), np.concatenate([tri, more.tri])
        uv, thin = np.concatenate([uv, more.uv]), np.concatenate([thin, more.thin])
    basis, near = follow(rest, head)
    return FittedMesh(rest, basis, normals, near, tri, corner_table(rest, tri, uv, along, thin))


def scalp_share(head: HeadMesh, hair: FittedMesh) -> F32:
    """How much each vertex of the head lies under hair: the scalp shows its colour through gaps."""
    rng = np.random.default_rng(0)
    mix = rng.dirichlet((1, 1, 1), size=(len(hair.tri), 6)).astype(np.float32)
    on_hair = np.concatenate([hair.rest, np.einsum("tsc,tck->tsk", mix, hair.rest[hair.tri]).reshape(-1, 3)])
    distance = nearest(head.mean, on_hair.astype(np.float32), 1)[0][:, 0]
    return np.asarray(np.clip((1.1 - distance) / 0.7, 0, 1) * (head.mean[:, 1] > -9), np.float32)


def occlusion(head: HeadMesh, scalp: F32) -> F32:
    """How much of the surroundings each vertex sees, 0..1, from rays among points of the mean head."""
    rng = np.random.default_rng(1)
    solid = head.tri[(head.kind == 0) | (head.kind == 1) | (head.kind == 4)]
    mix = rng.dirichlet((1, 1, 1), size=(len(solid), 4)).astype(np.float32)
    cloud = np.einsum("tsc,tck->tsk", mix, head.mean[solid]).reshape(-1, 3).astype(np.float32)
    normals = head.normals
    blocked = np.zeros(len(head.mean))
    total = 0.0
    for step in (0.7, 1.4, 2.6):
        # A ball in front of the surface: the more points in it, the less sky.
        distance = nearest(head.mean + np.float32(step) * normals, cloud, 1)[0][:, 0]
        blocked += np.clip(1 - distance / step, 0, 1) * (1.0 if step < 2 else 0.7)
        total += 1.0 if step < 2 else 0.7
    seen = np.clip(1 - 1.15 * blocked / total, 0.15, 1)
    inside = np.ones(len(head.mean), bool)
    inside[head.skull] = False
    seen = np.where(inside, np.minimum(seen, 0.6), seen)
    return np.asarray(seen[None] * (1 - 0.45 * scalp), np.float32)


def _tube(path: F32, radius: float, closed: bool, sides: int = 5) -> tuple[F32, F32, I64]:
    """A tube along a path: points, normals, triangles facing out."""
    before = np.roll(path, 1, axis=0) if closed else np.concatenate([path[:1], path[:-1]])
    after = np.roll(path, -1, axis=0) if closed else np.concatenate([path[1:], path[-1:]])
    along = unit((after - before).astype(np.float32))
    side = unit(np.cross(along, np.array([0.05, 0.1, 1.0], np.float32)).astype(np.float32))
    up = np.cross(side, along)
    angle = np.arange(sides) * 2 * np.pi / sides
    normals = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    points = path[:, None] + radius * normals
    rows = len(path) if closed else len(path) - 1
    i, j = np.meshgrid(np.arange(rows), np.arange(sides), indexing="ij")
    a, b = i * sides + j, i * sides + (j + 1) % sides
    c, d = ((i + 1) % len(path)) * sides + j, ((i + 1) % len(path)) * sides + (j + 1) % sides
    tri = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    normals, points = normals.reshape(-1, 3).astype(np.float32), points.reshape(-1, 3).astype(np.float32)
    p = points[tri]
    face = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    inwards = (face * normals[tri[:, 0]]).sum(axis=1) < 0
    tri[inwards] = tri[inwards][:, ::-1]
    return points, normals, tri.astype(np.int64)


def _lens(rim: F32, side: int) -> tuple[tuple[F32, F32], I64]:
    """A lens within a rim, of the left eye or (side -1) the right one: points and their normals, triangles."""
    middle = rim.mean(axis=0)
    points = np.concatenate([rim, middle[None]])
    bent = np.concatenate([(points - middle)[:, :2] / LENS_CM, np.ones((len(points), 1), np.float32)], axis=1)
    ends = np.arange(len(rim))
    fan = np.stack([ends, np.roll(ends, -1), np.full(len(rim), len(rim))], axis=1)
    flip = np.array([side, 1, 1], np.float32)
    return (points * flip, unit(bent.astype(np.float32)) * flip), fan


def glasses_mesh(kind: str, head: HeadMesh) -> FittedMesh:
    """Two rims, a bridge and two temples, before the mean head's eyes."""
    radius = {"round": 0.12, "square": 0.16, "thin": 0.07}[kind]
    power = {"round": 2.0, "square": 4.0, "thin": 2.6}[kind]
    wide, high = {"round": (2.35, 2.2), "square": (2.62, 1.9), "thin": (2.5, 1.6)}[kind]
    eye = head.eyes[0]
    middle = np.array([eye[0] + 0.3, eye[1] - 0.3, eye[2] + eye[3] + 1.6], np.float32)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    x = wide * np.sign(cos) * np.abs(cos) ** (2 / power)
    y = high * np.sign(sin) * np.abs(sin) ** (2 / power)
    rim = np.stack([middle[0] + x, middle[1] + y, middle[2] - 0.035 * (x + 1.0) ** 2 - 0.06 * y], 1).astype(np.float32)
    nose = middle[0] - wide
    t = np.linspace(-1, 1, 7)
    bridge = np.stack([t * nose, middle[1] + 0.5 + 0.25 * (1 - t * t), middle[2] + 0.1 + 0.35 * (1 - t * t)], 1)
    hinge = np.array([middle[0] + wide, middle[1] + 0.5, middle[2] - 0.4])
    ear = np.array([8.6, middle[1] + 0.2, -1.5])
    s = np.linspace(0, 1, 6)[:, None]
    temple = hinge * (1 - s) + ear * s + np.array([0.5, 0.0, 0.0]) * np.sin(np.pi * s) * 0.6
    flip = np.array([-1, 1, 1], np.float32)
    paths = [(rim, True), (rim * flip, True), (bridge, False), (temple, False), (temple * flip, False)]
    points, normals, tri, count = [], [], [], 0
    for path, closed in paths:
        p, n, t_ = _tube(np.asarray(path, np.float32), radius, closed)
        points.append(p)
        normals.append(n)
        tri.append(t_ + count)
        count += len(p)
    for side in (1, -1):
        glass, fan = _lens(rim, side)
        points.append(glass[0])
        normals.append(glass[1])
        tri.append(fan + count)
        count += len(glass[0])
    rest, all_tri = np.concatenate(points), np.concatenate(tri)
    # The frame is stiff: it follows the head as a whole, by the skull round eyes, nose and ears.
    basis, near = follow(rest, head)
    system = np.c_[rest, np.ones(len(rest))]
    stiff = np.stack([system @ np.linalg.lstsq(system, mode, rcond=None)[0] for mode in basis]).astype(np.float32)
    values = corner_table(rest, all_tri, np.zeros((len(all_tri), 3, 2), np.float32), np.concatenate(normals))
    return FittedMesh(rest, stiff, np.concatenate(normals), near, all_tri, values, 2 * len(rim))
