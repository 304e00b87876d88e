"""Parts of the face in the atlas: where they must be, and what must not overlap."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from engines.face.mesh import face_model
from engines.face.zones import zones
from engines.identity import ATLAS_PX


def at(landmark: int) -> tuple[int, int]:
    """Row and column of a landmark's texel."""
    u, v = np.round(face_model().uv_S2[landmark] * (ATLAS_PX - 1)).astype(int)
    return int(v), int(u)


def test_landmarks_that_everybody_knows_lie_in_their_zone() -> None:
    places = zones()
    for cheek in (50, 280, 205, 425):
        assert places.cheeks[at(cheek)]
        assert places.plain[at(cheek)]
        assert not places.features[at(cheek)]
    for brow in (105, 334):
        assert places.features[at(brow)]
        assert not places.plain[at(brow)]
    for lip in (0, 17):
        assert places.red[at(lip)]
        assert places.features[at(lip)]
    assert places.beard[at(199)], "chin"
    assert not places.beard[at(9)], "between the brows"
    for rim in (103, 332, 67, 297):
        assert places.hairy[at(rim)]
    assert not places.hairy[at(4)], "the nose's tip"


def test_plain_skin_holds_no_feature_and_everything_lies_within_the_outline() -> None:
    places = zones()
    for part in (places.inside, places.plain, places.cheeks, places.hairy, places.beard):
        assert part.dtype == bool
        assert part.shape == (ATLAS_PX, ATLAS_PX)
        assert not (part & ~places.oval).any()
    assert not (places.cheeks & ~places.plain).any()
    assert not (places.cheeks & places.red).any()
    assert places.plain.mean() > 0.1
    assert ndimage.label(places.oval)[1] == 1


def test_both_sides_are_alike() -> None:
    """The mesh is symmetric, so the zones are, but for the texels on their edges."""
    places = zones()
    for part in (places.inside, places.plain, places.cheeks, places.features, places.red, places.hairy, places.oval):
        assert (part != part[:, ::-1]).mean() < 0.02


def test_they_are_made_once() -> None:
    assert zones() is zones()
