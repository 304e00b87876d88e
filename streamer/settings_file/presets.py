"""Named sets of values, below the file: for what a call is to be good at. Figures: docs/settings.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """Values by the section of the file that they could stand in."""

    what: str
    values: Mapping[str, Mapping[str, object]]


PRESETS: Mapping[str, Preset] = {
    "low-latency": Preset(
        "a picture is worked on for the least time; for the same look the line carries more",
        {
            "encoding": {"h264_preset": "ultrafast", "vp8_speed": 16, "start_kbps": 1500},
            "camera": {"size": "640x480"},
        },
    ),
    "quality": Preset(
        "the best look, where there is time and a good line",
        {"encoding": {"h264_preset": "veryfast", "vp8_speed": 8, "max_kbps": 8000, "start_kbps": 1500}},
    ),
    "laptop": Preset(
        "the least processor time: two cores that other programs need too",
        {
            "encoding": {"h264_preset": "ultrafast", "vp8_speed": 16, "encoder_threads": 1, "max_kbps": 1500},
            "camera": {"size": "640x480"},
        },
    ),
}


def preset_value(preset: str | None, sections: Sequence[str], name: str) -> object:
    """What the preset says of the setting in one of its sections; None: nothing."""
    values = PRESETS[preset].values if preset else {}
    return next((values[one][name] for one in sections if one in values and name in values[one]), None)
