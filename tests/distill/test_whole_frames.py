"""Samples as whole frames, with photos of their own size; samples in a row of one person; people kept apart."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distill.data import Dataset, DataSettings
from distill.shards import write_shard
from distill.sources.base import SourceSpec
from distill.sources.shards import PreparedShards
from distill.sources.stills import MovingStills

STORED_PX = 128
WHOLE = DataSettings(
    size_px=96, frames=2, sources=2, occlude=0, degrade=None, degrade_photos=None, aligned=False, photo_px=80
)


def samples(source: SourceSpec, size_px: int, *numbers: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Frames, photos and landmarks of clips by number."""
    with Dataset(WHOLE.model_copy(update={"size_px": size_px}), ((source, 1.0),)).maker() as maker:
        batches = [maker.one("video", number) for number in numbers]
    return [(batch.target_BTHW3[0], batch.sources_BSHW3[0], batch.landmarks_BTN3[0]) for batch in batches]


def face_share(frames: torch.Tensor, landmarks: torch.Tensor) -> float:
    """Width of the face in shares of the frame's."""
    return float((landmarks[0, 454] - landmarks[0, 234]).norm()) / frames.shape[1]


def test_stills_that_move_share_a_person_and_the_photos(shared_data: Path) -> None:
    source = MovingStills(shared_data, shared_data / "synth_faces", same_person=2)
    first, second, third = samples(source, 96, 0, 1, 2)
    assert first[0].shape == (2, 96, 96, 3)
    assert first[1].shape == (2, 80, 80, 3)
    assert 0.2 < face_share(first[0], first[2]) < 0.5, "not cropped: in crops the face takes more"
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[1], third[1])


def test_portraits_kept_apart_are_others(shared_data: Path) -> None:
    folder = shared_data / "synth_faces"
    everything, train, apart = (
        MovingStills(shared_data, folder, split=split).files() for split in ("all", "train", "held_out")
    )
    assert sorted([*train, *apart]) == everything
    assert 0.03 < len(apart) / len(everything) < 0.2


def test_stored_crops_come_no_larger_than_they_are(tmp_path: Path) -> None:
    """Enlarging them would invent nothing; landmarks stay where they are on them."""
    members: dict[str, bytes] = {}
    for frame in range(3):
        held = io.BytesIO()
        Image.fromarray(np.full((STORED_PX, STORED_PX, 3), 40 * frame, np.uint8)).save(held, "JPEG")
        members[f"{frame:03}.jpg"] = held.getvalue()
    points = np.random.default_rng(0).uniform(20, 100, (3, 478, 3)).astype(np.float32)
    held = io.BytesIO()
    np.save(held, points)
    members |= {"landmarks.npy": held.getvalue(), "json": json.dumps({"person": "a"}).encode()}
    write_shard(tmp_path / "0.tar", [("clip", members)])
    for asked_px, given_px in ((96, 96), (300, STORED_PX)):
        frames, photos, landmarks = samples(PreparedShards(tmp_path), asked_px, 0)[0]
        assert frames.shape == (2, given_px, given_px, 3)
        assert photos.shape == (2, 80, 80, 3)
        scale = given_px / STORED_PX
        starts = [
            np.abs((points[k : k + 2, :468] + 0.5) * scale - 0.5 - landmarks.numpy())[..., :2].max() for k in (0, 1)
        ]
        assert min(starts) < 1e-3
