"""`vividstream file` with a real engine on real clips: every frame is drawn, and the raw face is in none of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engines import IdentityStore, Rgb, SwapSettings
from streamer.config import FileConfig
from streamer.file import run_file
from streamer.file_report import FileReport
from tests.streamer.clips import play
from tests.streamer.faces import RAW, RawFace, clip_pictures, face_box, photo_identity

MOST_FRAMES = 36


@pytest.fixture(scope="module")
def identities(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one enrolled identity; its name is the only one in there that is not built in."""
    folder = tmp_path_factory.mktemp("identities")
    IdentityStore(folder).save(photo_identity(shared_data / "synth_faces" / "t0260_schnell.jpg"))
    return folder


def swapped(source: Path, target: Path, identities: Path) -> FileReport:
    (enrolled,) = identities.glob("*.safetensors")
    config = FileConfig(
        input=source,
        output=target,
        identity=enrolled.stem,
        identities_dir=identities,
        swap=SwapSettings(engine="proxy"),
    )
    return run_file(config, io.StringIO())


def lay_on_its_side(pictures: Sequence[Rgb], path: Path) -> Path:
    """As a phone stores an upright film: turned by a quarter, and a display matrix that says so."""
    with av.open(str(path), "w") as container:
        height_px, width_px = pictures[0].shape[:2]
        video = container.add_stream("libx264", rate=30, width=height_px, height=width_px, time_base=Fraction(1, 30))
        video.set_display_rotation(-90)  # degrees counter-clockwise that bring it upright
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def test_a_webcam_clip_is_drawn_from_its_first_frame_to_its_last(
    tmp_path: Path, shared_data: Path, identities: Path
) -> None:
    source = shared_data / "clips" / "single_face.mp4"
    report = swapped(source, tmp_path / "out.mp4", identities)
    assert (report.outcome, report.engine, report.sounds) == ("complete", "proxy", ("mp3, copied",))
    assert report.frames.drawn == report.frames.stepped == 72
    assert report.faces.frames_with_faces == 72
    assert {"decode", "track", "draw", "label", "encode"} <= set(report.stages)
    shown = play(tmp_path / "out.mp4")
    assert shown.times_s == play(source).times_s
    pictures = clip_pictures(source)
    raw = RawFace.of(pictures, face_box(pictures))
    assert raw.likeness(pictures[0]) > 0.99
    assert max(raw.likeness(picture) for picture in shown.pictures) < RAW


def test_a_film_that_was_stored_on_its_side_is_swapped_upright(
    tmp_path: Path, shared_data: Path, identities: Path
) -> None:
    pictures = clip_pictures(shared_data / "clips" / "single_face.mp4", most=MOST_FRAMES)
    report = swapped(lay_on_its_side(pictures, tmp_path / "in.mp4"), tmp_path / "out.mp4", identities)
    assert report.picture.turned_upright
    assert report.frames.drawn == MOST_FRAMES
    shown = play(tmp_path / "out.mp4")
    assert shown.pictures[0].shape == pictures[0].shape
    background = np.s_[:, : pictures[0].shape[1] // 5]
    assert np.abs(shown.pictures[0][background].astype(int) - pictures[0][background]).mean() < 4
