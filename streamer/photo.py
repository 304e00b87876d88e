"""Reading photo files: upright RGB pictures, with the hash of the file they came from."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engines import Rgb, UnsuitablePhoto

MOST_BYTES = 100_000_000
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")  # brands of ISO files with HEVC stills
GREY = 2.0  # of 255: mean distance between a picture's colours where it has none; a JPEG's noise is below

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as it lies on disk and as it is seen: uint8 [H, W, 3], turned upright, in sRGB."""

    rgb_HW3: Rgb
    sha256: str

    @property
    def is_grey(self) -> bool:
        few = self.rgb_HW3[::4, ::4].astype(np.int16)
        return float((few.max(axis=2) - few.min(axis=2)).mean()) < GREY


def read_photo(path: Path) -> Photo:
    """Raises UnsuitablePhoto, in one line, for a file that is missing, too large, broken or no picture."""
    try:
        if path.is_dir():
            raise UnsuitablePhoto(f"{path}: is a folder, not a photo")
        if path.stat().st_size > MOST_BYTES:
            raise UnsuitablePhoto(f"{path}: larger than {MOST_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise UnsuitablePhoto(f"{path}: {error.strerror or error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                upright = _as_rgb(_as_srgb(ImageOps.exif_transpose(image), path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnsuitablePhoto(f"{path}: more pixels than any photo of a face needs") from error
    except UnidentifiedImageError as error:
        raise UnsuitablePhoto(f"{path}: {_no_picture(data)}") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files, by format
        raise UnsuitablePhoto(f"{path}: damaged: {error}") from error
    return Photo(np.array(upright), hashlib.sha256(data).hexdigest())


def _no_picture(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in HEIC:
        return "HEIC cannot be read here: let the phone or its photo program save it as JPEG"
    return "not a picture that can be read here; JPEG, PNG and WebP can"


def _as_srgb(image: Image.Image, path: Path) -> Image.Image:
    """Phones write Display P3: taken for sRGB, everybody's skin would be paler than it is."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    from PIL import ImageCms

    try:
        of_file = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(of_file).startswith("sRGB"):
            return image
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        colours = image.convert("RGB") if alpha is not None else image
        converted = ImageCms.profileToProfile(colours, of_file, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        log.warning("%s: its colour profile cannot be used, so colours may be off: %s", path, error)
        return image
    assert converted is not None  # it is made anew where it is not to be changed in place
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _as_rgb(image: Image.Image) -> Image.Image:
    """Pillow would clip 16-bit greys to white, and show colours that transparency hides."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, np.float64).clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (127, 127, 127, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
