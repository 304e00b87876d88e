"""The identity as a swapper wants it: an embedding of the portrait, or the portrait itself.

The portrait in an identity file is a photo of the person, 256 px with hair and neck: large enough for recognisers,
which look at 112 px. Its embedding is nearly the photo's own; that of a frontal rendering is not
(docs/decisions/010-own-swappers.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engines.enrolment import face_finder
from engines.errors import EngineFault
from engines.face.align import crop
from engines.face.five_points import Template, template_crop
from engines.identity import Identity
from engines.runtimes.base import Array
from engines.swappers.onnx.contracts import WIDTH, Contract
from engines.types import Floats, Rgb

Run = Callable[[Array], Floats]  # a graph with one input and one output, both with a batch of 1


def source_of(
    identity: Identity, contract: Contract, emap: Floats | None, embed: Run | None, convert: Run | None
) -> Floats:
    """What goes into the swapper, float32 [1, 512] or [1, 3, S, S].

    embed, convert: the person's own recogniser and converter, where the contract needs them.
    Raises EngineFault where no face is found in the portrait, or a graph gives something that cannot be used.
    """
    if contract.source == "picture_112":
        return picture(portrait_face(identity, "arcface_112_v2", 112), 0.0, 1.0)
    if contract.source == "picture_256":
        return picture(portrait_face(identity, "ffhq_512", 256), 0.0, 1.0)
    if embed is None:
        raise EngineFault("no embedder was opened")
    if contract.source == "two_recognisers":
        face = picture(portrait_face(identity, "ffhq_512", 112), 0.5, 0.5)
        return unit(embed(face)) + unit(_known(convert)(face))
    embedding = embed(picture(portrait_face(identity, "arcface_112_v2", 112), 0.5, 0.5))
    if contract.source == "mapped":
        assert emap is not None
        return unit(unit(embedding) @ emap)
    if contract.source == "unit":
        return unit(embedding)
    converted = _known(convert)(embedding)
    return unit(converted) if contract.source == "converted_unit" else converted


def _known(convert: Run | None) -> Run:
    if convert is None:
        raise EngineFault("no converter was opened")
    return convert


def portrait_face(identity: Identity, template: Template, side_px: int) -> Rgb:
    """The face of the portrait, uint8 [S, S, 3]. Raises EngineFault where there is none."""
    with face_finder() as finder:
        faces = finder.find(identity.portrait_PP3)
    if not faces:
        raise EngineFault(f'identity "{identity.name}": no face is found in its portrait: enrol it again')
    return crop(identity.portrait_PP3, template_crop(faces[0].points_px, template, side_px), side_px)


def picture(rgb_SS3: Rgb, mean: float, std: float) -> Floats:
    """uint8 [S, S, 3] -> float32 [1, 3, S, S], (x / 255 - mean) / std."""
    return np.ascontiguousarray((rgb_SS3.transpose(2, 0, 1)[None].astype(np.float32) / 255 - mean) / std, np.float32)


def unit(embedding: Floats) -> Floats:
    """The same direction, length 1, float32 [1, 512]. Raises EngineFault where it has none."""
    length = float(np.linalg.norm(embedding))
    if embedding.shape != (1, WIDTH) or not 1e-6 < length < float("inf"):
        raise EngineFault("the embedding of this identity cannot be used: it is zero, or no numbers")
    return np.asarray(embedding / length, np.float32)
