"""A signature over every byte of an identity file but its own digits.

The digits stand in the file's header as zeros while it is signed, so the law does not depend on how a library orders
or spaces what it writes, and no byte of the file is left out.
"""

from __future__ import annotations

import hashlib
import re

from engines.trust.key import SIGNATURE_BYTES, LocalKey, is_signed

PURPOSE = "identity file"
BLANK = "0" * (2 * SIGNATURE_BYTES)
# Inside the manifest, which is JSON within JSON, every quotation mark has a backslash before it.
_PLACE = re.compile(rb'(?<!\\)"signature":"([0-9a-f]{%d})"' % len(BLANK))


def seal(data: bytes, key: LocalKey) -> bytes:
    """The file with its signature, in place of the zeros."""
    begin, end = _place(data)
    return data[:begin] + key.sign(PURPOSE, hashlib.sha256(data).digest()).encode("ascii") + data[end:]


def is_whole(data: bytes, public: str) -> bool:
    """Whether this key sealed exactly these bytes."""
    try:
        begin, end = _place(data)
    except ValueError:
        return False
    blank = data[:begin] + BLANK.encode("ascii") + data[end:]
    return is_signed(public, PURPOSE, hashlib.sha256(blank).digest(), data[begin:end].decode("ascii"))


def _place(data: bytes) -> tuple[int, int]:
    header_bytes = 8 + int.from_bytes(data[:8], "little")
    found = list(_PLACE.finditer(data, 8, min(header_bytes, len(data))))
    if len(found) != 1:
        raise ValueError(f"{len(found)} places for a signature")
    return found[0].span(1)
