"""Kept examples come back to the bit, in any stretch of frames, or not at all."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from distill.examples.pack import Damaged, decoded, pack, unpack
from distill.examples.types import Example
from tests.distill.examples.folders import numbered


def assert_same(one: Example, other: Example, frames: slice = slice(None)) -> None:
    for field in fields(Example):
        here, there = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(here, there[frames] if "_T" in field.name else there, err_msg=field.name)


@pytest.mark.parametrize(("frames", "side"), [(1, 16), (5, 24)])
def test_an_example_comes_back_to_the_bit(frames: int, side: int) -> None:
    example = numbered(300, frames, side)
    assert_same(decoded(unpack(pack(example))), example)


def test_a_stretch_is_the_same_frames() -> None:
    example = numbered(7, 6)
    assert_same(decoded(unpack(pack(example)), 2, 5), example, slice(2, 5))


def test_what_hardly_differs_is_small() -> None:
    """Proxy and truth differ from the driver's crop in the face alone: they cost no more than that."""
    example = numbered(1, 1, 64)
    alike = Example(
        example.target_TSS3,
        example.target_TSS3,
        example.target_TSS3,
        np.zeros_like(example.mask_TSS),
        np.zeros_like(example.mask_TSS),
        example.attribute_TAA3,
        example.texture_AA3,
        example.identity_I,
        1,
    )
    assert len(pack(alike)) < 1.2 * example.target_TSS3.nbytes
    assert len(pack(example)) > 3 * example.target_TSS3.nbytes


@pytest.mark.parametrize("at", [4, 60, 400, 2000, -30])
def test_every_changed_byte_is_noticed(at: int) -> None:
    """In the header, among the arrays' ends, in the pictures: WebP itself would decode some of these."""
    content = bytearray(pack(numbered(3, 2)))
    content[at] ^= 0x10
    example = numbered(3, 2)
    try:
        read = decoded(unpack(bytes(content)))
    except Damaged:
        return
    assert_same(read, example)


def test_a_cut_or_foreign_file_is_named_damaged() -> None:
    content = pack(numbered(3, 2))
    for bad in (content[:-1], content[: len(content) // 2], b"", b"nothing of the kind" * 10):
        with pytest.raises(Damaged):
            decoded(unpack(bad))
