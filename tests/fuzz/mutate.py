"""Changes real messages a little, fast: the inputs between what is right and what is rubbish, where parsers break."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

BYTES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 191, 192, 200, 201, 205, 206, 254, 255)
NUMBERS = (0, 1, 2, 3, 4, 127, 128, 255, 256, 32_767, 32_768, 65_534, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    "0", "-1", "1", "99999999999999999999", "65536", "2147483648", "4294967295", "1e9", "0x10", "\u2603", "\x00", "",
    " ", "*", "localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "a.local", "udp", "tcp", "typ",
)  # fmt: skip
SIGNS = (0, 9, 11, 13, 32, 47, 58, 61, 127, 133, 0x2028, 0xD800, 0x1F600)
MOST_BYTES = 1_450


class Mutator:
    """An endless source of changed messages; the same `seed` gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def packet(self, corpus: Sequence[bytes]) -> bytes:
        """A changed packet."""
        chance = self._random
        data = bytearray(chance.choice(corpus))
        changes: tuple[Callable[[bytearray, Sequence[bytes]], None], ...] = (
            self._bit, self._byte, self._number, self._cut, self._insert, self._double, self._splice,
        )  # fmt: skip
        for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
            chance.choice(changes)(data, corpus)
        return bytes(data[:MOST_BYTES])

    def text(self, corpus: Sequence[str]) -> str:
        """A changed text of lines."""
        chance = self._random
        lines = chance.choice(corpus).split("\r\n")
        for _ in range(chance.choice((1, 1, 2, 3, 6))):
            at = chance.randrange(len(lines))
            what = chance.randrange(7)
            if what == 0:
                lines[at : at + 1] = [lines[at]] * chance.choice((2, 3, 20, 70))
            elif what == 1 and len(lines) > 1:
                del lines[at]
            elif what == 2:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            elif what == 3:
                lines.insert(at, chance.choice(chance.choice(corpus).split("\r\n")))
            else:
                lines[at] = self._line(lines[at], what)
        return chance.choice(("\r\n", "\r\n", "\r\n", "\n")).join(lines)

    def line(self, corpus: Sequence[str]) -> str:
        """One changed line."""
        line = self._random.choice(corpus)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            line = self._line(line, self._random.randrange(4, 7))
        return line

    def _line(self, line: str, what: int) -> str:
        chance = self._random
        if what == 4:
            words = line.split(" ")
            words[chance.randrange(len(words))] = chance.choice(WORDS)
            return " ".join(words)
        if what == 5:
            at = chance.randrange(len(line) + 1)
            return line[:at] + chance.choice(WORDS) + line[at + chance.randrange(3) :]
        at = chance.randrange(len(line) + 1)
        return (
            line[:at]
            + chr(chance.choice((0, 9, 11, 13, 32, 47, 58, 61, 127, 133, 0x2028, 0xD800, 0x1F600)))
            + line[at:]
        )

    def _bit(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _byte(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        if data:
            data[self._at(data)] = self._random.choice(BYTES)

    def _number(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        size = self._random.choice((2, 4))
        if len(data) >= size:
            at = min(self._at(data), len(data) - size)
            data[at : at + size] = (self._random.choice(NUMBERS) % 256**size).to_bytes(size, "big")

    def _cut(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        del data[self._at(data) if data else 0 :]

    def _insert(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        at = self._at(data) if data else 0
        data[at:at] = bytes(self._random.choice(BYTES) for _ in range(self._random.choice((1, 2, 4, 8))))

    def _double(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        if data:
            at = self._random.randrange(len(data))
            data[at:at] = data[at : at + self._random.choice((1, 2, 4, 16, 64))]

    def _splice(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        other = self._random.choice(corpus)
        if data and other:
            data[self._random.randrange(len(data)) :] = other[self._random.randrange(len(other)) :]

    def _at(self, data: bytearray) -> int:
        """Anywhere, but mostly where the headers are."""
        return self._random.randrange(min(len(data), self._random.choice((4, 16, 64, 2_000))))
