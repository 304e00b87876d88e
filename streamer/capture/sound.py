"""Sound of any kind, cut into the 20 ms that are sent."""

from __future__ import annotations

from collections.abc import Iterator

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from streamer.capture.picture import SOUND_RATE_HZ, SOUND_SAMPLES, SOUND_TIME_BASE, CapturedSound


class SoundCutter:
    """Decoded sound in, pieces of 20 ms out (s16, stereo, 48 kHz), each with the moment of its first sample."""

    def __init__(self) -> None:
        self._resampler = AudioResampler("s16", "stereo", SOUND_RATE_HZ, SOUND_SAMPLES)
        self._samples = 0

    def cut(self, frame: AudioFrame, captured_s: float) -> Iterator[CapturedSound]:
        """captured_s: of the frame's first sample. What does not fill a piece waits for the next frame."""
        waiting_s = self._waiting / SOUND_RATE_HZ
        frame.pts = None  # its own clock may jump; the moment is passed beside it
        self._fed += frame.samples * SOUND_RATE_HZ / max(frame.sample_rate, 1)
        for number, piece in enumerate(self._resampler.resample(frame)):
            piece.pts, piece.time_base = self._samples, SOUND_TIME_BASE
            self._samples += piece.samples
            yield CapturedSound(piece, captured_s - waiting_s + number * SOUND_SAMPLES / SOUND_RATE_HZ)

    _fed: float = 0.0

    @property
    def _waiting(self) -> float:
        """Samples that went in and have not come out."""
        return max(self._fed - self._samples, 0.0)
