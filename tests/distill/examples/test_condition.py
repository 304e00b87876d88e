"""An example of a rendered clip is what the live engine would be given of the same frames, and holds what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.data import Batch, Dataset, DataSettings, Maker
from distill.examples.batches import shown
from distill.examples.condition import FRAME_S, Conditioner, before, enrolled, occlusion_of, settled
from distill.examples.types import Example, Refused
from distill.sources.rendered import RenderedPeople
from engines import Identity, SwapSettings
from engines.face.region import planes, small_picture
from engines.identity_vector import identity_vector
from engines.runtimes.base import Array
from engines.swappers.base import Inputs
from engines.types import Occlusion, Rgb
from tests.engines.swappers.graphs import small_engine

NUMBER = 3  # settles for a few frames
DATA = DataSettings(
    seed=5,
    size_px=192,
    frames=3,
    images_a_batch=1,
    videos_a_batch=1,
    occlude=1,
    aligned=False,
    photo_px=256,
    degrade=None,
    degrade_photos=None,
)


@pytest.fixture(scope="module")
def maker(shared_data: Path) -> Iterator[Maker]:
    with Dataset(DATA, ((RenderedPeople(shared_data, same_person=2), 1.0),)).maker() as opened:
        yield opened


@pytest.fixture(scope="module")
def conditioner() -> Iterator[Conditioner]:
    with Conditioner(64, 32) as opened:
        yield opened


@pytest.fixture(scope="module")
def clip(maker: Maker) -> Batch:
    """Three frames with something before the face."""
    for number in range(1, 12):
        batch = maker.one("video", number)
        if 0.01 < float((batch.covered_BTHW > 128).float().mean()) < 0.25:
            return batch
    raise AssertionError("no such clip")


@pytest.fixture(scope="module")
def example(conditioner: Conditioner, clip: Batch) -> Example:
    return conditioner.example(clip, 0, NUMBER)


def frames_of(batch: Batch) -> list[Rgb]:
    return [np.ascontiguousarray(frame) for frame in batch.target_BTHW3[0].numpy()]


def identity_of(batch: Batch) -> Identity:
    identity = enrolled([np.ascontiguousarray(photo) for photo in batch.sources_BSHW3[0].numpy()])
    assert identity is not None
    return identity


def inputs_of(conditioner: Conditioner, batch: Batch) -> list[Inputs]:
    """What a session would hand to the engine, with what stands in front known."""
    frames = frames_of(batch)
    faces = conditioner.faces(frames, batch.landmarks_BTN3[0].numpy())
    covered = batch.covered_BTHW[0].numpy()
    return [Inputs(frame, face, occlusion_of(face, one), 0.0) for frame, face, one in zip(frames, faces, covered)]


def given_live(identity: Identity, inputs: list[Inputs], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Array]]:
    """What the graph of a learned engine takes, frame by frame, in a call of these frames."""
    engine, taken = small_engine(), []
    run = engine._shared.run

    def watched(place: object, arrays: dict[str, Array], slots: object) -> dict[str, Array]:
        taken.append({name: np.array(array) for name, array in arrays.items()})
        return run(place, arrays, slots)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._shared, "run", watched)
    state = engine.init()
    for at, which in enumerate([*before(len(inputs), settled(NUMBER)), *range(len(inputs))]):
        one = replace(inputs[which], captured_s=at * FRAME_S)
        engine.draw(state, identity, one, SwapSettings(engine="tiny"), one.rgb_HW3.copy())
    engine.close()
    engine._shared.close()
    return taken[-len(inputs) :]


def test_it_is_what_the_live_engine_is_given(
    conditioner: Conditioner, clip: Batch, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To within the rounding of masks to bytes. The attribute is the twin's in training; live it is the driver's."""
    identity = identity_of(clip)
    live = given_live(identity, inputs_of(conditioner, clip), monkeypatch)
    batch = shown("video", [example], [0])
    assert settled(NUMBER) > 0
    for t, arrays in enumerate(live):
        np.testing.assert_allclose(batch.proxy_BT3SS[0, t], arrays["proxy"][0], atol=1e-6)
        np.testing.assert_allclose(batch.mask_BT1SS[0, t], arrays["mask"][0], atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(batch.masked_BT3SS[0, t], arrays["masked"][0], atol=2 / 255)
        assert torch.equal(batch.of_driver("masked"), batch.masked_BT3SS)
        np.testing.assert_allclose(batch.of_driver("whole")[0, t], planes(example.target_TSS3[t])[0], atol=1e-6)
        whole = arrays["mask"][0, 0] == 1
        np.testing.assert_allclose(batch.masked_BT3SS[0, t][:, whole], arrays["masked"][0][:, whole], atol=1e-3)
        np.testing.assert_allclose(planes(small_picture(example.target_TSS3[t], 32)), arrays["attribute"], atol=1e-6)
    np.testing.assert_array_equal(example.identity_I, identity_vector(identity))
    np.testing.assert_array_equal(example.texture_AA3, small_picture(identity.albedo_AA3, 32))


def test_the_truth_is_the_clip_but_for_the_face(example: Example) -> None:
    """Cropped alike: beside the head and before the face, target, proxy and truth are one picture."""
    region = example.mask_TSS > 0
    difference = np.abs(example.truth_TSS3.astype(int) - example.target_TSS3).max(axis=-1)
    alike = np.abs(example.proxy_TSS3.astype(int) - example.target_TSS3).max(axis=-1)
    border = np.zeros_like(region)
    border[:, :8], border[:, :, :4], border[:, :, -4:] = True, True, True
    assert np.median(difference[border]) == 0
    assert np.median(alike[border]) == 0
    assert difference[region].mean() > 4
    assert alike[region].mean() > 4
    assert 0.1 < region.mean() < 0.6
    assert (example.alpha_TSS[~region] == 0).all()


def test_what_stands_in_front_is_no_part_of_the_region(conditioner: Conditioner, clip: Batch, example: Example) -> None:
    """Nor does the proxy draw over it."""
    bare = conditioner.example(replace(clip, covered_BTHW=torch.zeros_like(clip.covered_BTHW)), 0, NUMBER)
    hidden = (bare.mask_TSS == 255) & (example.mask_TSS == 0)
    assert hidden.mean() > 0.005
    untouched = np.abs(example.proxy_TSS3.astype(int) - example.target_TSS3).max(axis=-1)
    drawn_over = np.abs(bare.proxy_TSS3.astype(int) - bare.target_TSS3).max(axis=-1)
    assert untouched[hidden].mean() < 0.35 * drawn_over[hidden].mean()


def test_an_occlusion_is_yes_or_no_in_its_place(conditioner: Conditioner, clip: Batch) -> None:
    """As engines.face.occlusion gives it: 0 or 255 on the grid, and its share of the face."""
    face = conditioner.faces(frames_of(clip), clip.landmarks_BTN3[0].numpy())[0]
    height, width = clip.covered_BTHW.shape[2:]
    left = np.zeros((height, width), np.uint8)
    left[:, : round(float(face.points_px[1, 0]))] = 255  # up to the tip of the nose
    everything, nothing, half = (
        occlusion_of(face, np.full_like(left, 255)),
        occlusion_of(face, np.zeros_like(left)),
        occlusion_of(face, left),
    )
    assert everything.covered_share == 1
    assert isinstance(nothing, Occlusion)
    assert (nothing.covered_share, int(nothing.covered_HW.max())) == (0, 0)
    assert 0.2 < half.covered_share < 0.8
    assert set(np.unique(half.covered_HW)) == {0, 255}
    place = half.mask_from_frame @ np.array([10.0, face.points_px[1, 1], 1.0])
    assert place[0] < half.covered_HW.shape[1] / 2


def test_the_same_photos_are_enrolled_once(
    maker: Maker, conditioner: Conditioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two samples in a row are of one identity; the third is somebody else's."""
    batches = [maker.one("image", number) for number in (0, 1, 2)]
    photos = [batch.sources_BSHW3 for batch in batches]
    assert torch.equal(photos[0], photos[1])
    assert not torch.equal(photos[0], photos[2])
    assert not torch.equal(batches[0].target_BTHW3, batches[1].target_BTHW3)
    calls: list[int] = []
    monkeypatch.setattr("distill.examples.condition.enrolled", lambda photos: calls.append(len(photos)))
    for batch in batches:
        with pytest.raises(Refused, match="enrolment refuses the photos"):
            conditioner.example(batch, 0, 0)
    assert calls == [1, 1]


def test_what_a_call_would_not_draw_is_refused(conditioner: Conditioner, clip: Batch) -> None:
    hidden = replace(clip, covered_BTHW=torch.full_like(clip.covered_BTHW, 255))
    with pytest.raises(Refused, match="the face is hidden"):
        conditioner.example(hidden, 0, 0)
    erased = replace(clip, erased_BTHW=torch.ones_like(clip.erased_BTHW))
    with pytest.raises(Refused, match="the face is hidden"):
        conditioner.example(erased, 0, 0)
    grey = replace(clip, target_BTHW3=torch.full_like(clip.target_BTHW3, 128))
    with pytest.raises(Refused, match="no face is found"):
        conditioner.example(grey, 0, 0)
    elsewhere = replace(clip, landmarks_BTN3=clip.landmarks_BTN3 + 80)
    with pytest.raises(Refused, match="another face is found"):
        conditioner.example(elsewhere, 0, 0)


def test_a_call_goes_to_and_fro_before_a_clip() -> None:
    assert before(3, 7) == [1, 2, 1, 0, 1, 2, 1]
    assert before(1, 3) == [0, 0, 0]
    assert before(4, 0) == []
    assert {settled(number) for number in range(26)} == set(range(13))
