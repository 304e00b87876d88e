"""An example as bytes: small, without loss, damage noticed. Any stretch of frames can be read alone.

Proxy and truth are the driver's crop almost everywhere but in the face, so what is kept of them is the difference, and
all pictures of a frame lie side by side in one lossless WebP: target, proxy - target, truth - target, and (mask, alpha,
nothing) as a colour picture. At 256 px a frame takes 130 to 160 kB (of 720) and 4 ms to read; PNG took 190 kB and 6 ms,
zlib 210 kB and 3 ms. A member of a shard is safetensors: the pictures' bytes one behind the other, where each ends, and
CRC32s, of which WebP has none.
"""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from distill.examples.types import Example
from engines.types import Floats, Rgb

PANELS = 4
QUALITY, EFFORT = 0, 0  # of 100 and 6: more takes five times as long and saves a tenth


class Damaged(ValueError):
    """Bytes that are no example, or not all of one."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed example that was not decoded yet: T frames of S x S.

    frames_T, attributes_T, texture  WebP files
    """

    frames_T: tuple[bytes, ...]
    attributes_T: tuple[bytes, ...]
    texture: bytes
    identity_I: Floats
    number: int

    def __len__(self) -> int:
        return len(self.frames_T)


def pack(example: Example) -> bytes:
    """One example as a file of safetensors."""
    pictures = [_side_by_side(example, t) for t in range(len(example.mask_TSS))]
    files = [_file(picture) for picture in (*pictures, *example.attribute_TAA3, example.texture_AA3)]
    identity, number = np.ascontiguousarray(example.identity_I, np.float32), np.array([example.number], np.int64)
    parts = [*files, identity.tobytes() + number.tobytes()]
    arrays: dict[str, NDArray[Any]] = {
        "pictures": np.frombuffer(b"".join(files), np.uint8),
        "ends": np.cumsum([len(file) for file in files], dtype=np.int64),
        "crcs": np.array([zlib.crc32(part) for part in parts], np.uint32),
        "identity_I": identity,
        "number": number,
    }
    return save(arrays)


def unpack(content: bytes) -> Packed:
    """Finds the parts; nothing is decoded. Raises Damaged."""
    try:
        arrays = load(content)
        ends, crcs = arrays["ends"].tolist(), arrays["crcs"].tolist()
        pictures = arrays["pictures"].tobytes()
        files = tuple(pictures[start:end] for start, end in zip([0, *ends], ends))
        frames = (len(files) - 1) // 2
        parts = (*files, arrays["identity_I"].tobytes() + arrays["number"].tobytes())
        if [zlib.crc32(part) for part in parts] != crcs or len(files) != 2 * frames + 1 or frames < 1:
            raise Damaged("its bytes are not those that were written")
        return Packed(files[:frames], files[frames:-1], files[-1], arrays["identity_I"], int(arrays["number"][0]))
    except (SafetensorError, KeyError, IndexError, json.JSONDecodeError) as error:
        raise Damaged(f"it is no example: {error}") from error


def decoded(packed: Packed, start: int = 0, stop: int | None = None) -> Example:
    """Frames start .. stop of an example. Raises Damaged."""
    chosen = slice(start, stop)
    panels = np.stack([_picture(file) for file in packed.frames_T[chosen]])
    side = panels.shape[1]
    if panels.shape[2] != PANELS * side:
        raise Damaged(f"a frame's picture is {panels.shape[2]}x{side}")
    target, proxy, truth, solid = (panels[:, :, n * side : (n + 1) * side] for n in range(PANELS))
    return Example(
        target_TSS3=np.ascontiguousarray(target),
        truth_TSS3=truth + target,  # modulo 256
        proxy_TSS3=proxy + target,
        mask_TSS=np.ascontiguousarray(solid[..., 0]),
        alpha_TSS=np.ascontiguousarray(solid[..., 1]),
        attribute_TAA3=np.stack([_picture(file) for file in packed.attributes_T[chosen]]),
        texture_AA3=_picture(packed.texture),
        identity_I=packed.identity_I,
        number=packed.number,
    )


def _side_by_side(example: Example, t: int) -> Rgb:
    target, mask, alpha = example.target_TSS3[t], example.mask_TSS[t], example.alpha_TSS[t]
    solid = np.stack([mask, alpha, np.zeros_like(mask)], axis=2)
    return np.concatenate([target, example.proxy_TSS3[t] - target, example.truth_TSS3[t] - target, solid], axis=1)


def _file(picture: Rgb) -> bytes:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "WEBP", lossless=True, quality=QUALITY, method=EFFORT)
    return held.getvalue()


def _picture(file: bytes) -> Rgb:
    try:
        return np.array(Image.open(io.BytesIO(file)).convert("RGB"))
    except OSError as error:
        raise Damaged(f"a picture cannot be read: {error}") from error
