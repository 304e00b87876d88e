"""What the invisible mark says: 40 bits, and the code that carries them through damage.

40 bits: version (4), day (12), instance (24). A CRC-24 follows (that of OpenPGP, RFC 4880 section 6), then a
convolutional code of rate 1/3 and constraint length 9 (polynomials 557, 663, 711 octal, the usual ones of that length),
ended with zeros and read by soft Viterbi. The CRC is long because it is evidence: noise passes it once in 16,777,216.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from engines.types import Floats

VERSION = 1
VERSION_BITS, DAY_BITS, INSTANCE_BITS = 4, 12, 24
PAYLOAD_BITS = VERSION_BITS + DAY_BITS + INSTANCE_BITS
CRC_BITS = 24
FIRST_DAY = date(2026, 1, 1)

_MEMORY = 8
_STATES = 1 << _MEMORY
_POLYNOMIALS = (0o557, 0o663, 0o711)
_STEPS = PAYLOAD_BITS + CRC_BITS + _MEMORY
CODED_BITS = _STEPS * len(_POLYNOMIALS)


@dataclass(frozen=True, slots=True)
class Payload:
    """Who marked a picture, and when.

    instance  0 to 2**24 - 1, the installation
    day       0 to 4095, days since 2026-01-01
    version   0 to 15, of the mark

    Raises ValueError where a number does not fit.
    """

    instance: int
    day: int
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, bits in (("instance", INSTANCE_BITS), ("day", DAY_BITS), ("version", VERSION_BITS)):
            value = getattr(self, name)
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} {value} does not fit into {bits} bits")

    @classmethod
    def of(cls, instance: int, day: date) -> Payload:
        """The payload of an installation on a day; days outside of 2026 to 2037 are clamped."""
        return cls(instance, min(max((day - FIRST_DAY).days, 0), (1 << DAY_BITS) - 1))

    @property
    def date(self) -> date:
        return FIRST_DAY + timedelta(days=self.day)

    @property
    def instance_hex(self) -> str:
        return f"{self.instance:06x}"

    def pack(self) -> int:
        """The 40 bits as a number."""
        return (self.version << DAY_BITS | self.day) << INSTANCE_BITS | self.instance

    @classmethod
    def unpack(cls, bits: int) -> Payload:
        instance = bits & ((1 << INSTANCE_BITS) - 1)
        day = bits >> INSTANCE_BITS & ((1 << DAY_BITS) - 1)
        return cls(instance, day, bits >> (INSTANCE_BITS + DAY_BITS))


def crc24(value: int, bits: int) -> int:
    """CRC-24/OPENPGP over the lowest `bits` of a number, highest first."""
    crc = 0xB704CE
    for i in range(bits - 1, -1, -1):
        top = crc >> 23 ^ (value >> i & 1)
        crc = (crc << 1 & 0xFFFFFF) ^ (0x864CFB if top else 0)
    return crc


def _parity(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    bits = np.zeros_like(values)
    for shift in range(_MEMORY + 1):
        bits ^= values >> shift & 1
    return bits


def _outputs() -> Floats:
    """What the encoder says, +-1, in each state for each input: float32 [2, states, 3]."""
    states = np.arange(_STATES)
    words = np.stack([states | bit << _MEMORY for bit in (0, 1)])
    signs = [1 - 2 * _parity((words & polynomial).ravel()).reshape(words.shape) for polynomial in _POLYNOMIALS]
    return np.asarray(np.stack(signs, axis=2), np.float32)


def encode(payload: Payload) -> Floats:
    """The coded bits as +-1, float32 [CODED_BITS]."""
    data = payload.pack()
    word = data << CRC_BITS | crc24(data, PAYLOAD_BITS)
    outputs, state, coded = _outputs(), 0, []
    for i in range(PAYLOAD_BITS + CRC_BITS - 1, -1 - _MEMORY, -1):
        bit = word >> i & 1 if i >= 0 else 0
        coded.append(outputs[bit, state])
        state = (bit << _MEMORY | state) >> 1
    return np.asarray(np.concatenate(coded), np.float32)


def decode(soft: Floats) -> Payload | None:
    """The most likely payload behind `soft`, float32 [CODED_BITS], positive where +1 is likelier; None where the CRC
    says that it was not read right. By chance, one of 16,777,216 noises passes.
    """
    return decode_all(soft[None])[0]


def decode_all(soft_NB: Floats) -> list[Payload | None]:
    """As `decode`, of several at once: float32 [N, CODED_BITS]."""
    outputs, count = _outputs(), len(soft_NB)
    gains = np.einsum("bso,nto->tnbs", outputs, soft_NB.reshape(count, _STEPS, -1))  # [steps, N, bit, state]
    after = np.arange(_STATES)
    bit = after >> (_MEMORY - 1)
    before = np.stack([(after << 1 & (_STATES - 1)) | low for low in (0, 1)])  # the two states that lead to each
    metric = np.full((count, _STATES), -np.inf)
    metric[:, 0] = 0.0
    came_from = np.empty((_STEPS, count, _STATES), np.int16)
    for t in range(_STEPS):
        one, other = (metric[:, states] + gains[t][:, bit, states] for states in before)
        came_from[t] = np.where(other > one, before[1], before[0])
        metric = np.maximum(one, other)
    each, state = np.arange(count), np.zeros(count, np.int64)
    words = [0] * count
    for t in range(_STEPS - 1, -1, -1):
        if t < _STEPS - _MEMORY:
            words = [word | int(one) << (_STEPS - _MEMORY - 1 - t) for word, one in zip(words, bit[state])]
        state = came_from[t, each, state].astype(np.int64)
    return [_checked(word) for word in words]


def _checked(word: int) -> Payload | None:
    data, crc = word >> CRC_BITS, word & ((1 << CRC_BITS) - 1)
    return Payload.unpack(data) if crc == crc24(data, PAYLOAD_BITS) else None
