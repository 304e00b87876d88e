"""What the server and a decoder process say to each other: headers of fixed size, and slots of shared memory.

To the process goes one `Job` for each coded picture, followed by its payload. Back come, for each job, its pictures
(none or one, with the pixels in a slot) and then an answer that ends it. Numbers from the process are checked by
whoever reads them: a decoder that was taken over may write anything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

SLOTS = 6  # one being written, one in the mailbox, one at the worker, one at the encoder, two to spare
MOST_PIXELS = 1920 * 1088
SLOT_BYTES = MOST_PIXELS * 3 // 2
MEMORY_BYTES = SLOTS * SLOT_BYTES
MOST_CODED_BYTES = 2 << 20  # of one picture; a 1920x1080 key frame has some 300 kB
CODECS = ("VP8", "H264")

_JOB = struct.Struct("<IIBB2x")
_ANSWER = struct.Struct("<BBHHBBII")
JOB_BYTES = _JOB.size
ANSWER_BYTES = _ANSWER.size
HELD_FAST = 3
HELLO = b"decoder"  # a decoder process to the server, with its handle
FORK = b"fork"  # the server to the nursery, with the socket and the memory of the new process


class Kind(IntEnum):
    """What an answer says."""

    PICTURE = 1
    DONE = 2
    REFUSED = 3  # done, and the picture could not be decoded
    NO_SLOT = 4  # done, and the picture was dropped: every slot is in somebody's hands
    HELD = 5  # the process has given up what it does not need; `slot` says how far, HELD_FAST: as far as it should


@dataclass(frozen=True, slots=True)
class Job:
    """A coded picture is to be decoded: `freed` is a bit mask of the slots that may be written again."""

    number: int  # modulo 2^32; comes back in the answer
    size: int  # bytes of payload that follow
    codec: int  # index into CODECS
    freed: int

    def pack(self) -> bytes:
        return _JOB.pack(self.number, self.size, self.codec, self.freed)

    @classmethod
    def unpack(cls, data: bytes) -> Job:
        return cls(*_JOB.unpack(data))


@dataclass(frozen=True, slots=True)
class Answer:
    """`slot`, sizes and colours only mean something in a PICTURE; sizes are even. `took_us` only in the last answer."""

    kind: Kind
    number: int
    slot: int = 0
    width_px: int = 0
    height_px: int = 0
    colorspace: int = 2  # FFmpeg's numbers; 2: unspecified
    color_range: int = 0
    took_us: int = 0

    def pack(self) -> bytes:
        return _ANSWER.pack(
            self.kind, self.slot, self.width_px, self.height_px, self.colorspace, self.color_range, self.number,
            self.took_us,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Answer:
        """Raises ValueError for what no decoder of ours would write."""
        kind, slot, width_px, height_px, colorspace, color_range, number, took_us = _ANSWER.unpack(data)
        answer = cls(Kind(kind), number, slot, width_px, height_px, colorspace, color_range, took_us)
        if answer.kind is Kind.PICTURE:
            whole = width_px > 0 and height_px > 0 and width_px % 2 == 0 and height_px % 2 == 0
            if slot >= SLOTS or not whole or width_px * height_px > MOST_PIXELS:
                raise ValueError(f"a decoder answered with a picture that cannot be: {answer}")
        return answer


def next_number(number: int) -> int:
    """The number after this one."""
    return (number + 1) % (1 << 32)
