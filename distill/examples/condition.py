"""From a sample to an example, with the live engine's own code: what training shows the networks is what calls show.

The sample's frames (whole ones: `DataSettings.aligned` is off) go the way of a camera's frames: the tracker finds and
filters the landmarks, the photos are enrolled, the proxy draws, and crop, region and small pictures are cut as
engines.swappers.latent cuts them. Two things are known here and not guessed: what stands in front of the face, and what
is to come out. Legend: T frames of H x W, S side of the crop, A side of the face encoder's pictures.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.data import Batch
from distill.examples.disguise import Wardrobe
from distill.examples.types import Example, Refused
from distill.sources.base import ONE_PERSON
from engines import Identity, SwapSettings, UnsuitablePhoto, enroll
from engines.errors import EngineFault
from engines.face.align import crop, crop_from_frame, inside_share, moved
from engines.face.grid import GRID_PX, frame_from_grid, grid_from_frame, grid_square
from engines.face.occlusion import face_on_grid
from engines.face.region import covered_on_crop, face_region, small_picture
from engines.face.track import FaceTracker
from engines.identity_vector import identity_vector
from engines.session import MOST_COVERED
from engines.swappers.base import EngineState, Inputs
from engines.swappers.latent import rough_crop
from engines.swappers.proxy import Proxy
from engines.types import SKIN_LANDMARKS, Floats, Mask, Occlusion, Rgb, TrackedFace

FRAME_S = 1 / 25
OTHER_FACE = 0.25  # of the face's width: landmarks further off than that are of somebody in the background
LEAST_INSIDE = 0.65  # of the crop: the rest would be repeated edge, of which calls have little
MOST_SETTLED = 12  # frames that the proxy may have seen before the first that is kept
REMEMBERED = 4  # identities
LEFT_CHEEK, RIGHT_CHEEK = 454, 234


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a learned engine would be given of some frames, as engines.swappers.latent has it.

    own_TSS3, rough_TSS3  uint8, the driver's crop and the proxy's
    mask_TSS, alpha_TSS   float32 0..1
    there_T23             crop_from_frame of every frame
    """

    own_TSS3: Rgb
    rough_TSS3: Rgb
    mask_TSS: Floats
    alpha_TSS: Floats
    there_T23: Floats


class Conditioner:
    """Makes examples; holds the nets for it. One thread at a time; use it in `with`.

    size_px, picture_px: side of the crops and of the face encoder's pictures
    wardrobe: what drivers wear who are the identity themselves; None: such drivers are shown as they are
    """

    def __init__(self, size_px: int, picture_px: int, wardrobe: Wardrobe | None = None) -> None:
        self._size_px, self._picture_px = size_px, picture_px
        self._wardrobe = wardrobe
        self._tracker = FaceTracker(max_faces=1, follow="one")
        self._proxy = Proxy()
        self._known: OrderedDict[str, Identity | None] = OrderedDict()

    def __enter__(self) -> Conditioner:
        return self

    def __exit__(self, *_: object) -> None:
        self._tracker.close()
        self._proxy.close()
        if self._wardrobe is not None:
            self._wardrobe.__exit__()

    def example(self, batch: Batch, row: int, number: int) -> Example:
        """One sample of a batch of whole frames, as its own number. Raises Refused."""
        frames = [np.ascontiguousarray(frame) for frame in batch.target_BTHW3[row].cpu().numpy()]
        identity = self._identity(batch.sources_BSHW3[row].cpu().numpy())
        faces = self.faces(frames, batch.landmarks_BTN3[row].cpu().numpy())
        hidden = np.maximum(batch.covered_BTHW[row].cpu().numpy(), 255 * batch.erased_BTHW[row].cpu().numpy())
        inputs = [
            Inputs(frame, face, occlusion_of(face, covered), 0.0)
            for frame, face, covered in zip(frames, faces, hidden.astype(np.uint8))
        ]
        if max(one.occlusion.covered_share for one in inputs if one.occlusion) > MOST_COVERED:
            raise Refused("the face is hidden")  # a session draws nothing either
        disguised = self._wardrobe is not None and batch.origins[row][0] in ONE_PERSON
        if self._wardrobe is not None and disguised:
            inputs = self._wardrobe.worn(inputs, identity, number)
        drawn = drawn_by(self._proxy, identity, inputs, self._size_px, settled(number))
        height_px, width_px = frames[0].shape[:2]
        if min(inside_share(there, self._size_px, height_px, width_px) for there in drawn.there_T23) < LEAST_INSIDE:
            raise Refused("the face is at the picture's edge")
        truth, twin = (
            np.stack(
                [crop(frame, there, self._size_px) for frame, there in zip(clip[row].cpu().numpy(), drawn.there_T23)]
            )
            for clip in (batch.truth_BTHW3, batch.twin_BTHW3)
        )
        twin = drawn.own_TSS3 if disguised else twin
        return Example(
            target_TSS3=drawn.own_TSS3,
            truth_TSS3=truth,
            proxy_TSS3=drawn.rough_TSS3,
            mask_TSS=_bytes(drawn.mask_TSS),
            alpha_TSS=_bytes(drawn.alpha_TSS),
            attribute_TAA3=np.stack([small_picture(picture, self._picture_px) for picture in twin]),
            texture_AA3=small_picture(identity.albedo_AA3, self._picture_px),
            identity_I=identity_vector(identity),
            number=number,
        )

    def faces(self, frames: Sequence[Rgb], landmarks_TN3: Floats) -> list[TrackedFace]:
        """The sample's face in every frame, as the tracker sees it in a call that begins here. Raises Refused."""
        state = self._tracker.init()
        found = []
        for number, (frame, landmarks) in enumerate(zip(frames, landmarks_TN3)):
            faces = self._tracker.step(state, frame, number * FRAME_S).faces
            if not faces:
                raise Refused("no face is found in a frame")
            width_px = float(np.linalg.norm(landmarks[LEFT_CHEEK] - landmarks[RIGHT_CHEEK]))
            off_px = np.linalg.norm(faces[0].raw_px[:SKIN_LANDMARKS, :2] - landmarks[:SKIN_LANDMARKS, :2], axis=1)
            if float(np.median(off_px)) > OTHER_FACE * width_px:
                raise Refused("another face is found")
            found.append(faces[0])
        return found

    def _identity(self, photos_SHW3: Rgb) -> Identity:
        """Enrolled from those photos that enrolment takes. The same photos are enrolled once. Raises Refused."""
        key = hashlib.sha256(photos_SHW3.tobytes()).hexdigest()
        if key not in self._known:
            self._known[key] = enrolled([np.ascontiguousarray(photo) for photo in photos_SHW3])
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        identity = self._known[key]
        if identity is None:
            raise Refused("enrolment refuses the photos")
        return identity


def enrolled(photos: Sequence[Rgb]) -> Identity | None:
    """The identity of all photos, or else of those that can be enrolled alone; None where there is none."""
    everything = _enrolled(photos)
    if everything is not None or len(photos) == 1:
        return everything
    usable = [photo for photo in photos if _enrolled([photo]) is not None]
    return _enrolled(usable) if usable else None


def _enrolled(photos: Sequence[Rgb]) -> Identity | None:
    hashes = [hashlib.sha256(photo.tobytes()).hexdigest() for photo in photos]
    try:
        return enroll(photos, "training data", "of the training data: see there", hashes)
    except UnsuitablePhoto:
        return None


def occlusion_of(face: TrackedFace, covered_HW: Mask) -> Occlusion:
    """What stands in front of a face, as the live path has it: yes or no on its grid. covered_HW: uint8, 255 wholly."""
    square = grid_square(face.points_px)
    into_grid = grid_from_frame(square)
    if not covered_HW.any():
        side = _on_grid(covered_HW, frame_from_grid(square))
        return Occlusion(np.zeros_like(side), into_grid, 0.0)
    covered = _on_grid(covered_HW, frame_from_grid(square))
    on_face = face_on_grid(face.points_px, into_grid)[1] > 0
    share = float(covered[on_face].mean()) / 255 if on_face.any() else 0.0
    return Occlusion(covered, into_grid, share)


def _on_grid(covered_HW: Mask, frame_from_grid_23: Floats) -> Mask:
    """255 where most of 3x3 samples of a cell are covered. uint8 [G, G]."""
    ticks = (np.arange(3 * GRID_PX, dtype=np.float32) - 1) / 3
    x, y = np.meshgrid(ticks, ticks)
    height, width = covered_HW.shape
    a = frame_from_grid_23
    column = np.clip(np.round(a[0, 0] * x + a[0, 1] * y + a[0, 2]), 0, width - 1).astype(np.intp)
    row = np.clip(np.round(a[1, 0] * x + a[1, 1] * y + a[1, 2]), 0, height - 1).astype(np.intp)
    share = covered_HW[row, column].reshape(GRID_PX, 3, GRID_PX, 3).mean(axis=(1, 3))
    return np.where(share > 127.5, np.uint8(255), np.uint8(0))


def settled(number: int) -> int:
    """How many frames of the call the proxy saw before an example: none to MOST_SETTLED, evenly, by its number."""
    return (number * 7919) % (MOST_SETTLED + 1)


def before(frames: int, count: int) -> list[int]:
    """The `count` frames that a call went through before a clip: the clip itself to and fro, up to its start."""
    if frames == 1:
        return [0] * count
    period = 2 * (frames - 1)
    return [min(back % period, period - back % period) for back in range(count, 0, -1)]


def drawn_by(
    proxy: Proxy,
    identity: Identity,
    inputs: Sequence[Inputs],
    size_px: int,
    settle: int = 0,
    state: EngineState | None = None,
) -> Drawn:
    """Steps the proxy through a call and cuts what the networks see; see engines.swappers.latent.Latent.

    The inputs' times do not count: frames come evenly. Raises Refused.
    """
    state = proxy.init() if state is None else state
    order = [*before(len(inputs), settle), *range(len(inputs))]
    own, rough, masks, alphas, places = [], [], [], [], []
    for at, which in enumerate(order):
        one = Inputs(inputs[which].rgb_HW3, inputs[which].face, inputs[which].occlusion, at * FRAME_S)
        there = crop_from_frame(one.face.points_px, size_px)
        cropped = crop(one.rgb_HW3, there, size_px)
        try:
            plan = proxy.plan(state, identity, one, SwapSettings())
            picture = rough_crop(proxy, state, plan, there, cropped)  # also where it is not kept: the state learns
        except EngineFault as error:
            raise Refused(f"the proxy cannot be drawn: {error}") from error
        if at < settle:
            continue
        covered = covered_on_crop(one.occlusion, there, size_px)
        region = face_region(moved(one.face.points_px, there), size_px, covered)
        own.append(cropped)
        rough.append(picture)
        masks.append(region.mask_SS)
        alphas.append(region.alpha_SS)
        places.append(there)
    return Drawn(np.stack(own), np.stack(rough), np.stack(masks), np.stack(alphas), np.stack(places))


def _bytes(shares: Floats) -> Mask:
    return np.asarray(np.round(shares * 255), np.uint8)
