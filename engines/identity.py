"""A person's identity as engines use it: texture, shape and eyes, with the consent under which it may be worn.

One file per identity: safetensors for the arrays, and in its header a JSON manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.settings import StrictModel
from engines.types import Floats, Mask, Rgb

ATLAS_PX = 512


class Manifest(StrictModel):
    """Who this is and who agreed to it. Stored as JSON in the identity file's header."""

    format: int
    name: str
    created: str  # ISO 8601 with time zone
    consent: str
    images_sha256: tuple[str, ...]
    made_by: str  # "vividstream 0.1.0"
    synthetic: bool = False  # a person who does not exist


@dataclass(frozen=True, slots=True)
class Identity:
    """What an engine needs to draw this person.

    albedo_AA3      uint8 [A, A, 3], skin texture in the mesh's UV square, light taken out, no holes
    confidence_AA   uint8 [A, A], 255 where the photos saw the skin well, 0 where it was filled in
    shape_S3        float32 [468, 3], neutral face, centimetres, x to the picture's right, y down, z backwards
    iris_rgb        float32 [3], mean colour of the iris, 0..255
    portrait_PP3    uint8 [256, 256, 3], for people to recognise the identity in a list
    """

    manifest: Manifest
    albedo_AA3: Rgb
    confidence_AA: Mask
    shape_S3: Floats
    iris_rgb: Floats
    portrait_PP3: Rgb

    @property
    def name(self) -> str:
        return self.manifest.name
