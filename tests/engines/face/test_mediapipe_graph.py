"""MediaPipe's graphs without `import mediapipe`: alone, beside the real package, and where it is missing."""

from __future__ import annotations

import struct
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import EngineFault, EngineUnavailable
from engines.face import mediapipe_graph
from engines.face.mediapipe_graph import Graph, image_packet, parse_landmarks, wire_fields

DETECT = """
import numpy as np
from engines.face.detect import FaceDetector
from engines.face.mediapipe_graph import image_packet
detector = FaceDetector()
detector.feed(image_packet(np.zeros((96, 96, 3), np.uint8)), both=True)
assert detector.collect(96, 96) == []
detector.close()
"""
REAL = """
import sys, types
for name in ("cv2", "matplotlib", "matplotlib.pyplot", "jax", "sounddevice"):
    sys.modules[name] = types.ModuleType(name)  # what the real package imports and a bare server lacks
import mediapipe.python as real
from mediapipe.framework.formats import rect_pb2
packet = real.packet_creator.create_proto(rect_pb2.Rect(x_center=1, y_center=2, height=3, width=4))
assert real.packet_getter.get_proto(packet).width == 4
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_of_the_real_package_is_imported() -> None:
    unwanted = ("cv2", "jax", "matplotlib", "sounddevice", "mediapipe", "mediapipe.python")
    done = run(DETECT + f"import sys; print([name for name in {unwanted} if name in sys.modules])")
    assert done.stdout.strip() == "[]"


def test_starting_graphs_prints_nothing() -> None:
    assert run(DETECT).stderr == ""


def test_what_others_write_to_stderr_meanwhile_is_passed_on() -> None:
    code = """
import os
from engines.face.mediapipe_graph import _quiet_stderr
with _quiet_stderr():
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\nsomething else\\n")
"""
    assert run(code).stderr == "something else\n"


def _real_framework() -> str:
    """The real package's own Python layer; its top level also imports OpenCV and others, which is not wanted here."""
    return (
        """
import importlib.util, sys, types
root = importlib.util.find_spec("mediapipe").submodule_search_locations
package = types.ModuleType("mediapipe")
package.__path__ = list(root)
sys.modules["mediapipe"] = package
"""
        + REAL
    )


def test_the_real_package_can_be_imported_later() -> None:
    run(DETECT + _real_framework() + DETECT)


def test_the_real_package_can_have_been_imported_before() -> None:
    run(_real_framework() + DETECT)


@pytest.mark.parametrize("version", [None, "0.10.35"])
def test_a_missing_or_other_version_says_what_to_run(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def lookup(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.delitem(sys.modules, mediapipe_graph.BINDINGS, raising=False)
    monkeypatch.setattr(metadata, "version", lookup)
    with pytest.raises(EngineUnavailable, match=r"pip install mediapipe==0\.10\.21"):
        mediapipe_graph.bindings()


def test_a_broken_graph_is_an_error_of_ours() -> None:
    with pytest.raises(EngineUnavailable, match="NoSuchCalculator"):
        Graph('node { calculator: "NoSuchCalculator" }', ())


def test_a_fault_inside_a_graph_is_an_error_of_ours() -> None:
    graph = Graph(
        'input_stream: "image" output_stream: "out" node { calculator: "FaceDetectionShortRangeCpu" '
        'input_stream: "IMAGE:image" output_stream: "DETECTIONS:out" }',
        ("out",),
    )
    wrong = mediapipe_graph.bindings()._packet_creator.create_int(5)
    with pytest.raises(EngineFault, match="face graph"):
        graph.run({"image": wrong})
    with pytest.raises(EngineFault, match="face graph"):
        graph.run({"image": image_packet(np.zeros((9, 9, 3), np.uint8))})
    graph.close()
    graph.close()


@given(st.lists(st.tuples(*[st.floats(-2, 2, width=32)] * 3), min_size=1, max_size=20), st.booleans())
def test_landmarks_are_read_as_protobuf_wrote_them(points: list[tuple[float, float, float]], visible: bool) -> None:
    more = struct.pack("<Bf", 4 << 3 | 5, 0.5) if visible else b""
    entries = [struct.pack("<BfBfBf", 0x0D, x, 0x15, y, 0x1D, z) + more for x, y, z in points]
    message = b"".join(struct.pack("<BB", 0x0A, len(entry)) + entry for entry in entries)
    assert parse_landmarks(message).tolist() == [list(point) for point in points]


def test_an_unknown_layout_of_landmarks_is_refused() -> None:
    with pytest.raises(EngineFault, match="layout"):
        parse_landmarks(b"\x0a\x05\x0d\x00\x00\x00\x00" * 3)


@given(st.integers(1, 15), st.integers(0, 2**40), st.binary(max_size=300), st.floats(width=32, allow_nan=False))
def test_the_wire_format_is_read(number: int, value: int, content: bytes, real: float) -> None:
    def varint(rest: int) -> bytes:
        out = b""
        while rest > 0x7F:
            out, rest = out + bytes([rest & 0x7F | 0x80]), rest >> 7
        return out + bytes([rest])

    message = bytes([number << 3]) + varint(value)
    message += bytes([number << 3 | 2]) + varint(len(content)) + content
    message += struct.pack("<Bf", number << 3 | 5, real)
    assert list(wire_fields(message)) == [(number, value), (number, content), (number, real)]
