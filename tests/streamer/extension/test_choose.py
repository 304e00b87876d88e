"""Which camera a page gets for what it asks: the code of the extension, run by Node.js where it is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from streamer.extension.writer import SOURCE

ON = {"on": True, "hide": False, "id": "ours", "group": "our-group"}
HIDING = {**ON, "hide": True}
REAL = ["real", "real-2", "real-group"]

OURS = {"camera": "ours"}
THEIRS = {"camera": "theirs", "real": True}
BROWSERS = {"camera": "theirs", "real": False}

CASES: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (True, ON, OURS),
    (True, {**ON, "on": False}, BROWSERS),
    ({"width": 1280}, ON, OURS),
    ({"deviceId": {"exact": "ours"}}, ON, OURS),
    ({"deviceId": {"exact": "real"}}, ON, THEIRS),
    ({"deviceId": {"exact": ["real", "ours"]}}, ON, OURS),
    ({"deviceId": {"exact": "real"}}, HIDING, {"camera": "none", "constraint": "deviceId"}),
    ({"deviceId": {"exact": ""}}, ON, OURS),
    ({"deviceId": "real"}, ON, THEIRS),
    ({"deviceId": "real"}, HIDING, OURS),
    ({"deviceId": ["gone", "ours", "real"]}, ON, OURS),
    ({"deviceId": "gone"}, ON, OURS),
    ({"deviceId": {"ideal": "gone"}}, ON, OURS),
    ({"deviceId": {"ideal": ["real"]}}, ON, THEIRS),
    ({"groupId": {"exact": "our-group"}}, ON, OURS),
    ({"groupId": {"exact": "real-group"}}, HIDING, {"camera": "none", "constraint": "groupId"}),
    ({"advanced": [{"deviceId": "real"}]}, ON, THEIRS),
    ({"advanced": [{"width": 640}]}, ON, OURS),
    ({"facingMode": "environment"}, ON, OURS),
    ({"facingMode": {"exact": "environment"}}, ON, {"camera": "none", "constraint": "facingMode"}),
    ({"facingMode": {"exact": "user"}}, ON, OURS),
    ({"mandatory": {"sourceId": "real"}}, ON, THEIRS),
    ({"optional": [{"sourceId": "real"}]}, HIDING, OURS),
    ({"mandatory": {"chromeMediaSource": "desktop", "chromeMediaSourceId": "x"}}, HIDING, BROWSERS),
    ({"mediaSource": "screen"}, ON, BROWSERS),
]
SIZES: list[tuple[Any, Any]] = [
    (True, True),
    ({"deviceId": {"exact": "ours"}, "width": {"ideal": 1280}}, {"width": {"ideal": 1280}}),
    ({"mandatory": {"sourceId": "ours", "minWidth": 640, "maxWidth": 900}}, {"width": {"min": 640, "max": 900}}),
    ({"optional": [{"minHeight": 720}], "facingMode": "user"}, {"height": {"ideal": 720}}),
    ({"advanced": [{"deviceId": "x", "width": 640}]}, {"advanced": [{"width": 640}]}),
]  # fmt: skip


def node(script: str) -> Any:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    text = (SOURCE / "choose.js").read_text(encoding="utf-8") + script
    done = subprocess.run([program, "--input-type=module", "-"], input=text, text=True, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_only_who_names_a_real_camera_gets_it() -> None:
    asked = json.dumps([[video, settings] for video, settings, _ in CASES])
    found = node(
        f"console.log(JSON.stringify({asked}.map(([video, camera]) => choose(video, camera, {json.dumps(REAL)}))))"
    )
    assert dict(zip(map(str, CASES), found, strict=True)) == {str(case): case[2] for case in CASES}


def test_sizes_stay_and_names_go() -> None:
    found = node(f"console.log(JSON.stringify({json.dumps([video for video, _ in SIZES])}.map(sizesOf)))")
    assert found == [sizes for _, sizes in SIZES]
