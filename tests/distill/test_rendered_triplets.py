"""What the numbers of a triplet promise holds in its pictures too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.people.assets import Assets, load_assets
from distill.people.render import Render, render
from distill.triplets import RenderedTriplet, render_triplet, triplet

SIZE_PX = 96
pytestmark = pytest.mark.timeout(400)  # reads all that people are made of


@pytest.fixture(scope="module")
def assets(shared_data: Path) -> Assets:
    return load_assets(shared_data)


@pytest.fixture(scope="module")
def rendered(assets: Assets) -> RenderedTriplet:
    return render_triplet(assets, triplet(21, 2, 3, sources=2), SIZE_PX)


def test_truth_and_target_do_not_differ_outside_both_people(rendered: RenderedTriplet) -> None:
    for other in (rendered.truth, rendered.twin):
        nobody = ((rendered.target.alpha_BHW == 0) & (other.alpha_BHW == 0)).numpy()
        assert nobody.mean() > 0.1
        assert np.array_equal(rendered.target.rgb_BHW3.numpy()[nobody], other.rgb_BHW3.numpy()[nobody])
        somebody = (rendered.target.alpha_BHW == 1).numpy()
        assert (rendered.target.rgb_BHW3.numpy()[somebody] != other.rgb_BHW3.numpy()[somebody]).mean() > 0.5


def _turn(render_: Render) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The face's three axes by its landmarks: cheek to cheek, brow to chin. [T, 2, 3], unit vectors."""
    points = render_.landmarks_BN3.numpy().astype(np.float64)
    axes = np.stack([points[:, 454] - points[:, 234], points[:, 152] - points[:, 10]], axis=1)
    return np.asarray(axes / np.linalg.norm(axes, axis=2, keepdims=True))


def test_truth_and_target_hold_their_heads_alike(rendered: RenderedTriplet) -> None:
    for other in (rendered.truth, rendered.twin):
        agreement = (_turn(rendered.target) * _turn(other)).sum(axis=2)
        assert agreement.min() > np.cos(np.radians(14))  # faces differ in shape; their poses do not


def test_the_same_number_gives_the_same_pictures(assets: Assets, rendered: RenderedTriplet) -> None:
    again = render_triplet(assets, triplet(21, 2, 3, sources=2), SIZE_PX)
    for name in ("sources", "target", "truth", "twin"):
        one, other = getattr(rendered, name).rgb_BHW3.numpy(), getattr(again, name).rgb_BHW3.numpy()
        assert one.tobytes() == other.tobytes()


def test_the_worn_truth_has_the_drivers_hair_and_the_whole_truth_has_not(assets: Assets) -> None:
    sample = next(
        one
        for one in (triplet(21, i, 1, sources=1) for i in range(99))
        if one.driver.hair >= 0 and one.identity.hair < 0
    )
    from distill.people.assets import Part

    worn = render(assets, sample.worn, SIZE_PX).parts_BHW.numpy()
    whole = render(assets, sample.truth, SIZE_PX).parts_BHW.numpy()
    assert (worn == int(Part.HAIR)).sum() > 20 > (whole == int(Part.HAIR)).sum()
