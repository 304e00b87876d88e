"""Reading photo files: upright RGB pictures, with the hash of the file they came from."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engines import Rgb, UnsuitablePhoto

MOST_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as it lies on disk and as it is seen: uint8 [H, W, 3], turned upright."""

    rgb_HW3: Rgb
    sha256: str


def read_photo(path: Path) -> Photo:
    """Raises UnsuitablePhoto, in one line, for a file that is missing, too large, broken or no picture."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnsuitablePhoto(f"{path}: larger than {MOST_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise UnsuitablePhoto(f"{path}: {error.strerror or error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                upright = _as_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnsuitablePhoto(f"{path}: more pixels than any photo of a face needs") from error
    except UnidentifiedImageError as error:
        raise UnsuitablePhoto(f"{path}: not a picture that can be read here; JPEG, PNG and WebP can") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files, by format
        raise UnsuitablePhoto(f"{path}: damaged: {error}") from error
    return Photo(np.array(upright), hashlib.sha256(data).hexdigest())


def _as_rgb(image: Image.Image) -> Image.Image:
    """Pillow would clip 16-bit greys to white, and show colours that transparency hides."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, np.float64).clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (127, 127, 127, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
