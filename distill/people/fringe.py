"""Loose hair where a hair mesh would end in an edge: strips along its borders, and shells over curls.

A strip or shell thins out: its corners carry how much of the strands' pattern is left out, 0 none to 1 all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.people.nearest import nearest

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

STRIP_CM = 0.8
STRIP_THIN = (0.12, 1.0)  # at the border, at the tips
SHELLS = ((0.3, 0.5), (0.65, 0.72))  # cm over the mesh, thinness


@dataclass(frozen=True)
class Loose:
    """What is added: points, the vertex each comes from, triangles (of old and new vertices), uv [T, 3, 2], thin."""

    points: F32
    parent: I64
    tri: I64
    uv: F32
    thin: F32


def unit(vectors: F32) -> F32:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), np.float32)


def borders(rest: F32, tri: I64) -> tuple[I64, I64]:
    """Edges that belong to one triangle alone: the triangle, and the place of its first corner in it."""
    _, welded = np.unique(np.round(rest / 2e-3).astype(np.int64), axis=0, return_inverse=True)
    corner = welded.reshape(-1)[tri]
    edge = np.sort(np.stack([corner, np.roll(corner, -1, axis=1)], -1), axis=-1).reshape(-1, 2)
    _, number, count = np.unique(edge, axis=0, return_inverse=True, return_counts=True)
    alone = np.nonzero(count[number.reshape(-1)] == 1)[0]
    return alone // 3, alone % 3


def _free(rest: F32, tri: I64, t: I64, i: I64) -> NDArray[np.bool_]:
    """Borders with no hair before them."""
    mix = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2], [3, 3, 0], [0, 3, 3], [3, 0, 3]], np.float32) / 6
    cloud = np.concatenate([rest, np.einsum("sc,tck->tsk", mix, rest[tri]).reshape(-1, 3)])
    a, b, c = (rest[tri[t, (i + k) % 3]] for k in range(3))
    middle = (a + b) / 2
    out = middle - c
    along = unit(b - a)
    out = unit(out - (out * along).sum(axis=1, keepdims=True) * along)
    return nearest(middle + STRIP_CM * out, cloud, 1)[0][:, 0] > 0.7 * STRIP_CM


def strips(rest: F32, normals: F32, tri: I64, uv: F32) -> Loose:
    """A strip outwards from borders, in the plane of the triangle there, hugging the head a little.

    Only from where the mesh really ends: many borders lie upon more of the same hair.
    """
    t, i = borders(rest, tri)
    t, i = (value[_free(rest, tri, t, i)] for value in (t, i))
    j, k = (i + 1) % 3, (i + 2) % 3
    a, b, c = tri[t, i], tri[t, j], tri[t, k]
    along = unit(rest[b] - rest[a])
    inner = rest[c] - rest[a]
    out = -unit(inner - (inner * along).sum(axis=1, keepdims=True) * along)
    height = np.abs((inner * out).sum(axis=1)).clip(0.05)
    ua, ub, uc = uv[t, i], uv[t, j], uv[t, k]
    share = (inner * along).sum(axis=1) / np.linalg.norm(rest[b] - rest[a], axis=1).clip(1e-6)
    foot = ua + share[:, None] * (ub - ua)
    slope = (foot - uc) / height[:, None]  # of uv per cm outwards
    slope *= np.minimum(1, 0.05 / np.linalg.norm(slope, axis=1).clip(1e-6))[:, None]
    sink = 0.12 * STRIP_CM
    tips = [rest[v] + STRIP_CM * out - sink * normals[v] for v in (a, b)]
    n, edge = len(t), len(rest) + np.arange(len(t))
    faces = [np.stack([b, a, edge], 1), np.stack([b, edge, edge + n], 1)]
    ta, tb = ua + STRIP_CM * slope, ub + STRIP_CM * slope
    root, tip = (np.full(n, value, np.float32) for value in STRIP_THIN)
    return Loose(
        np.concatenate(tips).astype(np.float32),
        np.concatenate([a, b]),
        np.concatenate(faces),
        np.concatenate([np.stack([ub, ua, ta], 1), np.stack([ub, ta, tb], 1)]).astype(np.float32),
        np.concatenate([np.stack([root, root, tip], 1), np.stack([root, tip, tip], 1)]),
    )


def shells(rest: F32, normals: F32, tri: I64, uv: F32) -> Loose:
    """The mesh again, farther out and thinner each time: curls have no surface."""
    points, parts, count = [], [], len(rest)
    for number, (height, thin) in enumerate(SHELLS):
        points.append(rest + height * normals)
        moved = uv + np.float32(0.37 * (number + 1))  # other strands than below
        parts.append((tri + count, moved, np.full(tri.shape, thin, np.float32)))
        count += len(rest)
    return Loose(
        np.concatenate(points).astype(np.float32),
        np.tile(np.arange(len(rest)), len(SHELLS)),
        *(np.concatenate(column) for column in zip(*parts, strict=True)),
    )


def added(one: Loose, other: Loose, base: int) -> Loose:
    """Both, over a mesh of `base` vertices."""
    later = np.where(other.tri >= base, other.tri + len(one.points), other.tri)
    return Loose(
        np.concatenate([one.points, other.points]),
        np.concatenate([one.parent, other.parent]),
        np.concatenate([one.tri, later]),
        np.concatenate([one.uv, other.uv]),
        np.concatenate([one.thin, other.thin]),
    )
