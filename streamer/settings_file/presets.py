"""Named sets of values, below the file: for what a call is to be good at. Figures: docs/settings.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """Values by the shared section that they belong to (settings_file.tree.SHARED)."""

    what: str
    values: Mapping[str, Mapping[str, object]]


PRESETS: Mapping[str, Preset] = {
    "low-latency": Preset(
        "a picture is coded in the least time; the line carries more for the same look",
        {"encoding": {"h264_preset": "ultrafast", "vp8_speed": 16, "start_kbps": 1500}},
    ),
    "quality": Preset(
        "the best look, where there is time and a good line",
        {"encoding": {"h264_preset": "veryfast", "vp8_speed": 8, "max_kbps": 8000, "start_kbps": 1500}},
    ),
    "laptop": Preset(
        "the least processor time: two cores that other programs need too",
        {"encoding": {"h264_preset": "ultrafast", "vp8_speed": 16, "encoder_threads": 1, "max_kbps": 1500}},
    ),
}
