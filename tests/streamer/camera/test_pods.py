"""Pods are held against bytes that libpipewire's own builder (0.3.65) wrote."""

from __future__ import annotations

import pytest

from streamer.camera import pods

# spa_pod_builder_add_object(SPA_TYPE_OBJECT_Format, SPA_PARAM_EnumFormat, ...) in C: I420, YUY2 or NV12, 640x480, 30/1
THEIRS = bytes.fromhex(
    "980000000f00000003000400030000000100000000000000040000000300000002000000000000000200000000000000040000000300000001"
    "000000000000000100020000000000200000001300000003000000000000000400000003000000020000000200000004000000170000000300"
    "020000000000080000000a00000080020000e00100000400020000000000080000000b0000001e00000001000000"
)


def test_a_format_is_written_as_the_library_writes_it() -> None:
    assert pods.offered_format(["I420", "YUY2", "NV12"], 640, 480, 30) == THEIRS


def test_a_format_is_read_back() -> None:
    assert pods.size_of(THEIRS) == len(THEIRS)
    assert pods.read_format(THEIRS) == pods.VideoFormat("I420", 640, 480)
    assert pods.read_format(pods.offered_format(["NV12"], 1280, 720, 25)) == pods.VideoFormat("NV12", 1280, 720)


@pytest.mark.parametrize("length", range(0, len(THEIRS), 8))
def test_a_cut_pod_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"not an? "):
        pods.read_format(THEIRS[:length])


def test_a_pixel_format_that_was_not_offered_is_refused() -> None:
    other = THEIRS.replace(b"\x02\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x17", b"\x63\x00\x00\x00" * 3 + b"\x63")
    with pytest.raises(ValueError, match="not a format that was offered"):
        pods.read_format(other)
