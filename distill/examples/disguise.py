"""Somebody else for a driver to wear, where driver and identity are one person.

A portrait that moves, and a video, show the person that is also to come out. A network that sees its driver's face
would learn from them that features of a photographed face may be copied, and let a caller's own shine through. So the
driver of such an example wears another face, drawn by the proxy: same pose, mouth, gaze, hair and hands, other
features. The truth stays the photograph (DreamID's triplets, arXiv 2504.14509: the made-up picture goes in, the real
one comes out).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from distill.errors import DataMissing
from distill.examples.types import Refused
from distill.sources.stills import is_held_out
from engines import Identity, SwapSettings, UnsuitablePhoto, enroll
from engines.errors import EngineFault
from engines.face.align import SPAN_CM, crop_from_frame
from engines.face.region import face_region
from engines.identity_vector import identity_vector
from engines.swappers.base import Inputs
from engines.swappers.proxy import Proxy
from engines.types import Rgb

PHOTO_PX = 384
SAME = 0.8  # cosine of identity vectors from which two are taken for one
IN_A_ROW = 3  # examples that wear the same face
REMEMBERED = 8
MOST_TRIES = 8  # portraits in a row of which none will do


class Wardrobe:
    """Faces to wear, of portraits that are not kept apart. One thread at a time; use it in `with`.

    portraits: folder with photos of people who may be shown to a network; looked into when it is needed first
    """

    def __init__(self, portraits: Path) -> None:
        self._folder = portraits
        self._files: list[Path] = []
        self._known: OrderedDict[int, Identity | None] = OrderedDict()
        self._proxy = Proxy()

    def __enter__(self) -> Wardrobe:
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.close()

    def worn(self, inputs: Sequence[Inputs], identity: Identity, number: int) -> list[Inputs]:
        """A call's frames with another face on them, which only the number and the portraits decide; never the
        identity's own. Raises Refused where nothing can be drawn, DataMissing where there are no portraits."""
        other, state = self.other_than(identity, number), self._proxy.init()
        made: list[Inputs] = []
        for one in inputs:
            onto = one.rgb_HW3.copy()
            try:
                plan = self._proxy.plan(state, other, one, SwapSettings())
                self._proxy.lay(
                    state, plan, one.rgb_HW3, onto
                )  # as on a crop: the driver's ears and neck are not toned
            except EngineFault as error:
                raise Refused(f"no other face can be drawn: {error}") from error
            made.append(replace(one, rgb_HW3=_within_region(onto, one)))
        return made

    def other_than(self, identity: Identity, number: int) -> Identity:
        """Whose face is worn. Raises Refused and DataMissing."""
        files = self._all()
        code = hashlib.sha256(f"disguise {number // 2 // IN_A_ROW}".encode()).digest()
        first, own = int.from_bytes(code[:4], "big") % len(files), identity_vector(identity)
        for further in range(min(MOST_TRIES, len(files))):
            found = self._enrolled((first + further) % len(files))
            if found is not None and float(identity_vector(found) @ own) < SAME:
                return found
        raise Refused("no other face was found to wear")

    def _all(self) -> list[Path]:
        if not self._files:
            photos = (path for path in self._folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
            self._files = sorted(path for path in photos if not is_held_out(path.name))
        if not self._files:
            raise DataMissing(f"{self._folder}: no portraits in it for drivers to wear; --no-disguise does without")
        return self._files

    def _enrolled(self, which: int) -> Identity | None:
        if which not in self._known:
            self._known[which] = _identity(self._files[which])
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(which)
        return self._known[which]


def _within_region(worn_HW3: Rgb, one: Inputs) -> Rgb:
    """The drawing where a network will draw, and the camera's own picture around it: neck and hair are its light."""
    height_px, width_px = worn_HW3.shape[:2]
    side_px = max(height_px, width_px)
    there = crop_from_frame(one.face.points_px, side_px).astype(np.float64)
    scale = float(np.sqrt(abs(np.linalg.det(there[:, :2]))))
    region = face_region(one.face.points_px, side_px, px_per_cm=side_px / SPAN_CM / scale)
    inside = region.mask_SS[:height_px, :width_px, None]
    return np.asarray(inside * worn_HW3 + (1 - inside) * one.rgb_HW3 + 0.5, np.uint8)


def _identity(path: Path) -> Identity | None:
    """None where the photo cannot be read or enrolled."""
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (PHOTO_PX, PHOTO_PX))
            small = opened.convert("RGB")
    except OSError:
        return None
    small.thumbnail((PHOTO_PX, PHOTO_PX))
    photo: Rgb = np.array(small, np.uint8)
    try:
        return enroll([photo], "to wear", "of the training data: see there", ["0" * 64])
    except UnsuitablePhoto:
        return None
