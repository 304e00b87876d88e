"""A clip for measuring: a real face, and a flash and a beep at the beginning of every second."""

from __future__ import annotations

from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np

from benchmarks.burnt_ids import burn
from benchmarks.packet_caller import BEEP_HZ, BEEP_LEVEL, FLASH_PART, SOUND_CLOCK, SOUND_SAMPLES, pictures

FPS = 30
FLASH_PICTURES = 6
BEEP_S = 0.1


def write_flash_clip(path: Path, face: Path, seconds: int = 10, height_px: int = 480, width_px: int = 640) -> Path:
    """Writes it (Matroska, H.264, PCM), so that it can be played round and round. Returns its path."""
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = width_px, height_px, "yuv420p"
        video.options = {"preset": "superfast", "crf": "16", "g": "30", "bf": "0"}
        sound = container.add_stream("pcm_s16le", rate=SOUND_CLOCK)
        sound.codec_context.layout = "stereo"
        rgbs = islice(cycle(pictures(face, height_px, width_px)), seconds * FPS)
        sounds = seconds * SOUND_CLOCK // SOUND_SAMPLES
        made = 0
        for number, rgb in enumerate(rgbs):
            marked = rgb.copy()
            burn(marked, number)
            marked[-height_px // FLASH_PART :] = 255 if number % FPS < FLASH_PICTURES else 0
            frame = av.VideoFrame.from_ndarray(marked, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
            while made < sounds and made * SOUND_SAMPLES / SOUND_CLOCK <= number / FPS:
                container.mux(sound.encode(_sound(made)))
                made += 1
        while made < sounds:
            container.mux(sound.encode(_sound(made)))
            made += 1
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def _sound(number: int) -> av.AudioFrame:
    times_s = (np.arange(SOUND_SAMPLES) + number * SOUND_SAMPLES) / SOUND_CLOCK
    wave = BEEP_LEVEL * np.sin(2 * np.pi * BEEP_HZ * times_s) * (times_s % 1.0 < BEEP_S)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave.astype(np.int16), 2)[None, :], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_CLOCK, number * SOUND_SAMPLES, Fraction(1, SOUND_CLOCK)
    return frame
