"""Sound in pieces of 20 ms, each with its moment; a microphone that is not there."""

from __future__ import annotations

import av
import numpy as np
import pytest

from engines import MediaError
from streamer.capture.microphone import Microphone
from streamer.capture.picture import SOUND_RATE_HZ, SOUND_SAMPLES
from streamer.capture.sound import SoundCutter
from streamer.capture.source import open_source
from streamer.mailbox import Latest


@pytest.mark.parametrize(
    ("rate_hz", "samples", "layout"), [(44_100, 1024, "stereo"), (48_000, 480, "mono"), (16_000, 333, "mono")]
)
def test_pieces_keep_the_moment_at_which_they_were_heard(rate_hz: int, samples: int, layout: str) -> None:
    """A click at 0.5 s is in the piece of that moment, whatever rate and length it came in."""
    cutter, heard = SoundCutter(), []
    for number in range(rate_hz // samples + 1):
        times_s = (number * samples + np.arange(samples)) / rate_hz
        wave = np.where(np.abs(times_s - 0.5) < 0.002, 20_000, 0).astype(np.int16)
        packed = np.repeat(wave, 2) if layout == "stereo" else wave
        frame = av.AudioFrame.from_ndarray(packed[None], format="s16", layout=layout)
        frame.sample_rate = rate_hz
        heard += list(cutter.cut(frame, 100.0 + times_s[0]))
    assert {one.frame.samples for one in heard} == {SOUND_SAMPLES}
    assert {one.frame.sample_rate for one in heard} == {SOUND_RATE_HZ}
    assert [one.frame.pts for one in heard] == [number * SOUND_SAMPLES for number in range(len(heard))]
    loud = [one for one in heard if np.abs(one.frame.to_ndarray().astype(np.int32)).max() > 5_000]
    assert loud
    first = loud[0].frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.int32)
    onset_s = loud[0].captured_s + float(np.argmax(np.abs(first) > 5_000)) / SOUND_RATE_HZ
    assert onset_s == pytest.approx(100.498, abs=0.004)


def test_a_microphone_that_is_not_there_is_refused_with_where_to_look() -> None:
    with pytest.raises(MediaError, match=r'microphone "hw:77" cannot be opened.*`arecord -L`'):
        Microphone("hw:77").start(lambda _: None)


def test_a_camera_with_a_microphone_that_is_not_there_is_refused_whole() -> None:
    source = open_source("no such webcam", microphone="hw:77")
    with pytest.raises(MediaError, match="hw:77"):
        source.start(Latest(), patient=True)
    assert source.close()
