"""What goes over the socket comes back as it was, and what no decoder of ours writes is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.decoding.wire import ANSWER_BYTES, JOB_BYTES, MOST_PIXELS, SLOTS, Answer, Job, Kind

PICTURE = Answer(Kind.PICTURE, 2**32 - 1, 3, 1280, 720, 1, 2, 1_400)


def test_there_and_back() -> None:
    job = Job(2**32 - 1, 300_000, 1, 0b101010)
    assert Job.unpack(job.pack()) == job
    assert Answer.unpack(PICTURE.pack()) == PICTURE
    assert (len(job.pack()), len(PICTURE.pack())) == (JOB_BYTES, ANSWER_BYTES)


@pytest.mark.parametrize(
    "change",
    [{"slot": SLOTS}, {"width_px": 0}, {"height_px": 721}, {"width_px": 65_534, "height_px": 65_534}],
    ids=lambda change: str(change),
)
def test_a_picture_that_cannot_be_is_refused(change: dict[str, int]) -> None:
    fields = {name: getattr(PICTURE, name) for name in PICTURE.__slots__}
    with pytest.raises(ValueError, match="cannot be"):
        Answer.unpack(Answer(**{**fields, **change}).pack())


@given(st.binary(min_size=ANSWER_BYTES, max_size=ANSWER_BYTES))
def test_any_bytes_are_an_answer_within_bounds_or_refused(data: bytes) -> None:
    try:
        answer = Answer.unpack(data)
    except ValueError:
        return
    assert answer.kind is not Kind.PICTURE or (
        answer.slot < SLOTS and 0 < answer.width_px * answer.height_px <= MOST_PIXELS
    )
