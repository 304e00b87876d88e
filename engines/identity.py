"""A person's identity as engines use it: texture, shape and eyes, with the consent under which it may be worn.

One file per identity: safetensors for the arrays, and in its header a JSON manifest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from engines.settings import StrictModel
from engines.trust.agreement import Agreement
from engines.trust.records import canonical
from engines.types import Floats, Mask, Rgb

ATLAS_PX = 512


class Manifest(StrictModel):
    """Who this is and who agreed to it. Stored as JSON in the identity file's header.

    format     1: unsigned, of before; 2: signed. `IdentityStore.save` writes 2
    consent    in words, one line
    agreement  the same in its parts; None of people who do not exist, and in format 1
    signed_by  public key of the installation that signed the file
    """

    format: int
    name: str
    created: str  # ISO 8601 with time zone
    consent: str
    images_sha256: tuple[str, ...]
    made_by: str  # "vividstream 0.1.0"
    synthetic: bool = False  # a person who does not exist
    agreement: Agreement | None = None
    signed_by: str = ""

    @property
    def origin_sha256(self) -> str:
        """Of what stays the same however often its consent is renewed: when it was made, from which photos."""
        return hashlib.sha256(canonical([self.created, list(self.images_sha256)])).hexdigest()

    @property
    def consent_sha256(self) -> str:
        """Names this consent without telling whose it is: what swapped files carry."""
        agreement = None if self.agreement is None else self.agreement.model_dump(mode="json")
        parts = [self.name, self.created, self.consent, list(self.images_sha256), self.synthetic, agreement]
        return hashlib.sha256(canonical(parts)).hexdigest()


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
