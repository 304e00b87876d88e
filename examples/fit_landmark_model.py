"""Writes engines/face/landmark_model.safetensors: MediaPipe's 468 skin landmarks as a small shape model.

    python examples/fit_landmark_model.py --data ../shared/data --out engines/face/landmark_model.safetensors

Each landmark is a fixed point on a triangle of the ICT face (MIT, USC Institute for Creative Technologies), so the
ICT model's identities and expressions carry over to MediaPipe's mesh (Apache-2.0, Google). The output is derived data
of both and ships with the project; the inputs do not.

Legend: S = 468 landmarks, K modes, T triangles, 3 axes: x to the picture's right, y down, z away from the camera.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

IDENTITY_MODES = 40
PICTURE_FROM_ICT = np.array([1.0, -1.0, -1.0])  # ICT: y up, z out of the face
MIRROR = np.array([-1.0, 1.0, 1.0])
INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# The outline follows the silhouette, so these do not stay on one place of the skin when the head turns.
SILHOUETTE = (132, 93, 127, 234, 58, 162, 177, 172, 136)
UV_MARGIN = 0.012
REST_JAW_OPEN = 0.35  # the mouth's triangles have no area on a closed mouth
HOLE_WEIGHT = 0.15  # how much the texel density inside eyes and mouth counts against the skin's


@dataclass(frozen=True)
class Source:
    """The ICT model read off at the landmarks, already in the picture's axes, made mirror symmetric."""

    mean_S3: Array
    identity_KS3: Array
    expression_KS3: Array
    expression_names: tuple[str, ...]
    mirror_S: Indices
    spread_S: Array
    triangles_T3: Indices
    eye_left: Indices
    eye_right: Indices
    eye_centres_23: Array
    procrustes_hint_S: Array


def read_source(data: Path) -> Source:
    ict = np.load(data / "ict" / "ict_full_f16.npz")
    mesh = np.load(data / "mediapipe" / "mediapipe_face.npz")
    corners, weights = mesh["ict_tri"], mesh["ict_bary"].astype(np.float64)[..., None]
    mirror_S = mesh["mirror"].astype(np.int64)

    def at_landmarks(field: NDArray[np.generic]) -> Array:
        picked = field[..., corners, :].astype(np.float64)
        return np.asarray((picked * weights).sum(axis=-2) * PICTURE_FROM_ICT, dtype=np.float64)

    mean_S3 = at_landmarks(ict["mean"])
    names = tuple(str(name) for name in ict["exp_names"])
    hint_S = np.zeros(len(mean_S3))
    hint_S[mesh["procrustes_id"]] = mesh["procrustes_w"]
    eyes_23 = np.stack([mesh["ict_eye_centre_left"], mesh["ict_eye_centre_right"]]).astype(np.float64)
    return Source(
        mean_S3=(mean_S3 + mean_S3[mirror_S] * MIRROR) / 2,
        identity_KS3=at_landmarks(ict["id_basis"]),
        expression_KS3=symmetric_expressions(at_landmarks(ict["exp_basis"]), names, mirror_S),
        expression_names=names,
        mirror_S=mirror_S,
        spread_S=mesh["ict_spread_cm"].astype(np.float64),
        triangles_T3=mesh["canonical_tri"].astype(np.int64),
        eye_left=np.unique(mesh["conn_left_eye"]).astype(np.int64),
        eye_right=np.unique(mesh["conn_right_eye"]).astype(np.int64),
        eye_centres_23=eyes_23 * PICTURE_FROM_ICT,
        procrustes_hint_S=hint_S,
    )


def partner(name: str) -> str:
    """The expression on the other side of the face; itself where it has no side."""
    for here, there in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
        if name.endswith(here):
            return name.removesuffix(here) + there
    return name


def symmetric_expressions(expression_KS3: Array, names: tuple[str, ...], mirror_S: Indices) -> Array:
    """Averages every expression with the mirror image of its partner: a network placed the landmarks."""
    partners = [names.index(partner(name)) for name in names]
    return np.asarray((expression_KS3 + expression_KS3[partners][:, mirror_S] * MIRROR) / 2)


def split_triangles(source: Source) -> dict[str, Indices]:
    """Skin, and the triangles that close eyes and mouth, told apart by the ring their corners lie on."""
    triangles_T3 = source.triangles_T3
    rings = {
        "eye_left_triangles_T3": source.eye_left,
        "eye_right_triangles_T3": source.eye_right,
        "mouth_triangles_T3": np.array(INNER_LIP),
    }
    inside = {name: np.isin(triangles_T3, ring).all(axis=1) for name, ring in rings.items()}
    skin_T = ~np.any(list(inside.values()), axis=0)
    return {"triangles_T3": triangles_T3[skin_T]} | {name: triangles_T3[chosen] for name, chosen in inside.items()}


def rigid_weights(source: Source) -> Array:
    """How far each landmark can be trusted to stay put on the skull, sum 1.

    The inverse variance of where it is: expressions at a third of their range, and the landmark's own uncertainty.
    MediaPipe's 33 hand-chosen landmarks count double.
    """
    facial = np.array([not name.startswith("PupilDilate") for name in source.expression_names])
    moved_S = (0.35 * np.linalg.norm(source.expression_KS3[facial], axis=2)) ** 2
    variance_S = moved_S.sum(axis=0) + source.spread_S**2 + 0.15**2
    weight_S = 1.0 / variance_S * np.where(source.procrustes_hint_S > 0, 2.0, 1.0)
    outline = np.array(SILHOUETTE)
    weight_S[np.concatenate([outline, source.mirror_S[outline]])] *= 0.1
    weight_S = (weight_S + weight_S[source.mirror_S]) / 2
    return np.asarray(weight_S / weight_S.sum())


def without_rigid(modes_KS3: Array, mean_S3: Array, weight_S: Array) -> Array:
    """Takes out of each mode the part that a small move or turn of the head explains as well."""
    centred = mean_S3 - (weight_S[:, None] * mean_S3).sum(axis=0)
    moves = [np.broadcast_to(axis, mean_S3.shape) for axis in np.eye(3)]
    turns = [np.cross(axis, centred) for axis in np.eye(3)]
    rigid_D6 = np.stack([motion.ravel() for motion in [*moves, *turns]], axis=1)
    root_D1 = np.sqrt(np.repeat(weight_S, 3))[:, None]
    flat_DK = modes_KS3.reshape(len(modes_KS3), -1).T
    share_6K = np.linalg.lstsq(root_D1 * rigid_D6, root_D1 * flat_DK, rcond=None)[0]
    return np.asarray((flat_DK - rigid_D6 @ share_6K).T.reshape(modes_KS3.shape))


def whitened_identity(source: Source, weight_S: Array) -> tuple[Array, float]:
    """Principal modes of the landmarks over a mirror-symmetric population, each one standard deviation long.

    Returns the modes and the share of all variance they carry.
    """
    mirrored = source.identity_KS3[:, source.mirror_S] * MIRROR
    both = np.concatenate([source.identity_KS3, mirrored]) / np.sqrt(2.0)
    still = without_rigid(both, source.mean_S3, weight_S)
    _, deviation_K, modes_KD = np.linalg.svd(still.reshape(len(still), -1), full_matrices=False)
    kept = deviation_K[:IDENTITY_MODES, None] * modes_KD[:IDENTITY_MODES]
    share = float((deviation_K[:IDENTITY_MODES] ** 2).sum() / (deviation_K**2).sum())
    return kept.reshape(IDENTITY_MODES, -1, 3), share


def flat_rest(points_S3: Array, triangles_T3: Indices) -> tuple[Array, Array]:
    """Lays each triangle flat. Returns the inverse of its edge matrix [T, 2, 2] and its area [T]."""
    a, b, c = (points_S3[triangles_T3[:, corner]] for corner in range(3))
    along = b - a
    length = np.linalg.norm(along, axis=1)
    direction = along / length[:, None]
    other = c - a
    x = (other * direction).sum(axis=1)
    y = np.linalg.norm(other - x[:, None] * direction, axis=1)
    edges = np.stack([np.stack([length, x], axis=1), np.stack([np.zeros_like(x), y], axis=1)], axis=1)
    return np.linalg.inv(edges), length * y / 2


def stretch(uv_S2: Array, triangles_T3: Indices, inverse_T22: Array, weight_T: Array) -> tuple[float, Array]:
    """The symmetric Dirichlet energy of a flattening (Smith and Schaefer 2015) and its slope.

    Infinite as soon as one triangle folds over, least where every triangle keeps its shape and size.
    """
    a, b, c = (uv_S2[triangles_T3[:, corner]] for corner in range(3))
    jacobian = np.stack([b - a, c - a], axis=2) @ inverse_T22
    det = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
    if det.min() <= 1e-9:
        return float("inf"), np.zeros_like(uv_S2)
    squares = (jacobian**2).sum(axis=(1, 2))
    energy = float((weight_T * squares * (1 + det**-2)).sum())
    cofactor = np.stack(
        [
            np.stack([jacobian[:, 1, 1], -jacobian[:, 1, 0]], axis=1),
            np.stack([-jacobian[:, 0, 1], jacobian[:, 0, 0]], axis=1),
        ],
        axis=1,
    )
    pull = 2 * jacobian * (1 + det**-2)[:, None, None] - 2 * (squares * det**-3)[:, None, None] * cofactor
    edge = (weight_T[:, None, None] * pull) @ inverse_T22.transpose(0, 2, 1)
    slope = np.zeros_like(uv_S2)
    np.add.at(slope, triangles_T3[:, 1], edge[:, :, 0])
    np.add.at(slope, triangles_T3[:, 2], edge[:, :, 1])
    np.add.at(slope, triangles_T3[:, 0], -edge.sum(axis=2))
    return energy, slope


def graph_laplacian(triangles_T3: Indices, count: int) -> coo_matrix:
    starts, ends = triangles_T3.ravel(), np.roll(triangles_T3, -1, axis=1).ravel()
    rows, columns = np.concatenate([starts, ends]), np.concatenate([ends, starts])
    joined = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count)).tocsr()
    joined.data[:] = 1.0
    degree = np.asarray(joined.sum(axis=1)).ravel()
    diagonal = coo_matrix((degree, (np.arange(count), np.arange(count))), shape=(count, count))
    return (diagonal - joined).tocoo()


def outline_ring(triangles_T3: Indices) -> list[int]:
    """The mesh's outer edge as a closed ring of landmarks, in the triangles' own direction."""
    directed = {(int(t[i]), int(t[(i + 1) % 3])) for t in triangles_T3 for i in range(3)}
    follows = {start: end for start, end in directed if (end, start) not in directed}
    ring = [min(follows)]
    while (after := follows[ring[-1]]) != ring[0]:
        ring.append(after)
    return ring


def tutte(points_S3: Array, triangles_T3: Indices) -> Array:
    """A first flattening without folds (Tutte 1963): the outline on an ellipse, all else at its neighbours' mean."""
    ring = outline_ring(triangles_T3)
    centred = points_S3[ring, :2] - points_S3[ring, :2].mean(axis=0)
    angle = np.arctan2(centred[:, 1], centred[:, 0])
    fixed_S2 = np.zeros((len(points_S3), 2))
    fixed_S2[ring] = 9.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    laplacian = graph_laplacian(triangles_T3, len(points_S3)).tocsc()
    free = np.setdiff1d(np.arange(len(points_S3)), ring)
    solved = splu(laplacian[free][:, free]).solve(-(laplacian[free][:, ring] @ fixed_S2[ring]))
    fixed_S2[free] = solved
    return fixed_S2


def symmetric(uv_S2: Array, mirror_S: Indices) -> Array:
    return np.asarray((uv_S2 + uv_S2[mirror_S] * MIRROR[:2]) / 2)


def unwrap(rest_S3: Array, triangles_T3: Indices, weight_T: Array, mirror_S: Indices, steps: int = 3000) -> Array:
    """Flattens the whole face, symmetric about x = 0, in the rest shape's centimetres.

    Steepest descent in the mesh's Laplacian metric with Nesterov's momentum (Kovalsky and others 2016).
    """
    inverse_T22, area_T = flat_rest(rest_S3, triangles_T3)
    scale_T = weight_T * area_T
    count = len(rest_S3)
    pinned = graph_laplacian(triangles_T3, count) + 1e-4 * coo_matrix(np.eye(count))
    metric = splu(pinned.tocsc())
    y_up = np.array([1.0, -1.0])  # flattened triangles turn the other way round where y points down
    uv_S2 = previous = symmetric(tutte(rest_S3, triangles_T3), mirror_S) * y_up
    energy, _ = stretch(uv_S2, triangles_T3, inverse_T22, scale_T)
    step = 1.0
    for _ in range(steps):
        ahead = uv_S2 + 0.9 * (uv_S2 - previous)
        if stretch(ahead, triangles_T3, inverse_T22, scale_T)[0] > energy:
            ahead = uv_S2
        start, slope = stretch(ahead, triangles_T3, inverse_T22, scale_T)
        down = symmetric(metric.solve(-slope), mirror_S)
        step = min(step * 2.5, 10.0)
        reached, trial = float("inf"), ahead
        while reached > start + 0.1 * step * float((slope * down).sum()) and step > 1e-12:
            step *= 0.6
            trial = ahead + step * down
            reached = stretch(trial, triangles_T3, inverse_T22, scale_T)[0]
        if energy - reached < 1e-9 * energy:
            break
        previous, uv_S2, energy = uv_S2, trial, reached
    return np.asarray(uv_S2 * y_up)


def to_unit_square(flat_S2: Array) -> Array:
    """Centimetres to 0..1 with one scale for both axes; x = 0 becomes u = 0.5."""
    half = np.abs(flat_S2[:, 0]).max()
    top, bottom = flat_S2[:, 1].min(), flat_S2[:, 1].max()
    scale = (0.5 - UV_MARGIN) / max(half, (bottom - top) / 2)
    return np.stack([0.5 + flat_S2[:, 0] * scale, 0.5 + (flat_S2[:, 1] - (top + bottom) / 2) * scale], axis=1)


def build(data: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    source = read_source(data)
    groups = split_triangles(source)
    weight_S = rigid_weights(source)
    identity_KS3, share = whitened_identity(source, weight_S)
    every_T3 = np.concatenate(list(groups.values()))
    density_T = np.full(len(every_T3), HOLE_WEIGHT)
    density_T[: len(groups["triangles_T3"])] = 1.0
    rest_S3 = source.mean_S3 + REST_JAW_OPEN * source.expression_KS3[source.expression_names.index("jawOpen")]
    uv_S2 = to_unit_square(unwrap(rest_S3, every_T3, density_T, source.mirror_S))
    tensors: dict[str, NDArray[np.generic]] = {
        "mean_S3": source.mean_S3.astype(np.float32),
        "identity_KS3": identity_KS3.astype(np.float16),
        "expression_KS3": source.expression_KS3.astype(np.float16),
        "uv_S2": uv_S2.astype(np.float32),
        "mirror_S": source.mirror_S.astype(np.int32),
        "procrustes_weight_S": weight_S.astype(np.float32),
        "spread_cm_S": source.spread_S.astype(np.float32),
        "eye_centres_23": source.eye_centres_23.astype(np.float32),
    }
    tensors |= {name: triangles.astype(np.int32) for name, triangles in groups.items()}
    metadata = {
        "format": "1",
        "axes": "centimetres; x to the picture's right (the person's left), y down, z away from the camera",
        "winding": "a triangle that faces the camera has (b - a) x (c - a) < 0 in x and y; so has every one in uv_S2",
        "uv": "u to the picture's right, v down, 0..1; the mirror image of the texture is u -> 1 - u",
        "eye_centres": "left, right (the person's)",
        "identity": f"{IDENTITY_MODES} modes, one standard deviation each, {share:.4f} of the variance",
        "expression_names": ",".join(source.expression_names),
        "licence": "derived from ICT-FaceKit (MIT, USC Institute for Creative Technologies) and MediaPipe (Apache-2.0)",
    }
    return tensors, metadata


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("engines/face/landmark_model.safetensors"))
    arguments = parser.parse_args()
    tensors, metadata = build(arguments.data)
    # safetensors writes an array's memory as it lies, so a transposed one would come back scrambled.
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, arguments.out, metadata)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes; {metadata['identity']}")


if __name__ == "__main__":
    main()
