"""Photos of one person who agreed, in; an identity, out. Says in one line why a photo will not do."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from engines.errors import ConsentMissing, UnsuitablePhoto
from engines.face.appearance import appearance, difference
from engines.face.detect import FaceDetector, overlap
from engines.face.landmarks import FaceMesh, box_of_points, square_of_detection, square_of_points
from engines.face.mediapipe_graph import Packet, image_packet
from engines.face.mesh import FACE_OVAL
from engines.face.retarget import canonical_face
from engines.face.texture import Photo, build_texture
from engines.identity import Identity, Manifest
from engines.identity_list import check_name
from engines.identity_store import PORTRAIT_PX, UNSIGNED
from engines.trust.agreement import Agreement
from engines.types import Box, Floats, Rgb

LARGEST_PX = 2400  # longer photos are scaled down: the texture has 512 texels across the whole face
LEAST_FACE_PX = 80
DETECTION_SCORE = 0.68  # faces, with a border round them, get 0.75 to 0.97; eyeballs and the like up to 0.61
FACE_SCORE = 0.5  # of the landmark net, which is easily sure
SECOND_FACE_SHARE = 0.35  # smaller than this beside the largest face: somebody far behind
BORDER_SHARE = 0.4  # grey border for a second look, since detectors miss faces that fill the picture
MOST_TURNED_DEG = 60.0
FRONTAL_DEG = 45.0
MOST_CUT_OFF = 0.06  # share of landmarks outside the picture
SHARPNESS_PX = 160  # faces are compared at this width
LEAST_SHARPNESS = 0.013
DARKEST_BRIGHT = 40.0  # the 95th percentile of a face's luminance, 0..255; the darkest skins in fair light are above 70
MOST_BURNT = 0.25  # share of the face at the top of the range
OTHER_PERSON = 1.45  # appearance difference to the nearest other photo: one person 1.1 at most, strangers 1.6 to 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One face of a photo. points_px: float32 [478, 3]."""

    points_px: Floats
    box_px: Box
    score: float


class FaceFinder:
    """Finds all faces of a photo: both detectors, then the landmark net on each. Close it after use."""

    def __init__(self) -> None:
        self._detector = FaceDetector()
        self._mesh = FaceMesh()

    def find(self, rgb_HW3: Rgb) -> list[Found]:
        """Largest face first. A picture without one is looked at again with a border round it."""
        faces = self._look(rgb_HW3)
        if faces:
            return faces
        border = round(max(rgb_HW3.shape[:2]) * BORDER_SHARE)
        wide = np.pad(rgb_HW3, ((border, border), (border, border), (0, 0)), constant_values=127)
        moved = np.array([border, border, 0], np.float32)
        back = [(face.points_px - moved, face.score) for face in self._look(wide)]
        return [Found(points_px, box_of_points(points_px), score) for points_px, score in back]

    def _look(self, rgb_HW3: Rgb) -> list[Found]:
        height_px, width_px = rgb_HW3.shape[:2]
        packet = image_packet(np.ascontiguousarray(rgb_HW3))
        self._detector.feed(packet, both=True)
        faces: list[Found] = []
        for detection in self._detector.collect(height_px, width_px):
            if detection.score < DETECTION_SCORE:
                continue
            rough_px, _ = self._mesh.find(packet, square_of_detection(detection), height_px, width_px)
            face = self._land(packet, rough_px, height_px, width_px)
            if face.score >= FACE_SCORE and all(overlap(face.box_px, other.box_px) < 0.5 for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: -face.box_px.width_px)

    def _land(self, packet: Packet, rough_px: Floats, height_px: int, width_px: int) -> Found:
        points_px, score = self._mesh.find(packet, square_of_points(rough_px), height_px, width_px)
        return Found(points_px, box_of_points(points_px), score)

    def close(self) -> None:
        self._detector.close()
        self._mesh.close()


@contextmanager
def face_finder() -> Iterator[FaceFinder]:
    finder = FaceFinder()
    try:
        yield finder
    finally:
        finder.close()


def enroll(
    images: Sequence[Rgb],
    name: str,
    consent: str | Agreement,
    images_sha256: Sequence[str],
    synthetic: bool = False,
    created: datetime | None = None,
    called: Sequence[str] = (),
) -> Identity:
    """Makes the identity of one person from one or several photos. Nothing is written.

    images: uint8 [H, W, 3] each, upright. consent: an Agreement, which an IdentityStore wants of everybody who exists,
    or words. images_sha256: of the photos' files, in the same order. synthetic: the person does not exist. created:
    now, if not given. called: what each photo is called in messages, its file say; if not given, its number.
    Raises ConsentMissing, UnsuitablePhoto (which says which photo), IdentityError for an impossible name.
    """
    words = consent.sentence() if isinstance(consent, Agreement) else consent.strip()
    if not words:
        raise ConsentMissing("nobody is enrolled without consent: say who agreed, when, and for what")
    composed = check_name(name)
    if not images:
        raise UnsuitablePhoto("at least one photo is needed")
    if len(images) != len(images_sha256):
        raise ValueError(f"{len(images)} images and {len(images_sha256)} hashes")
    called = called or [_place(i, len(images)) for i in range(len(images))]
    with face_finder() as finder:
        photos = [_checked(finder, image, place) for image, place in zip(images, called, strict=True)]
    turned = [abs(canonical_face(photo.points_px)[0].yaw_deg) for photo in photos]
    if min(turned) > FRONTAL_DEG:
        raise UnsuitablePhoto(f"every photo shows the face from a side ({min(turned):.0f} degrees): add a frontal one")
    _warn_of_strangers(photos, called)
    texture = build_texture(photos)
    when = created or datetime.now(UTC)
    return Identity(
        manifest=Manifest(
            format=UNSIGNED,
            name=composed,
            created=when.isoformat(timespec="seconds"),
            consent=words,
            images_sha256=tuple(images_sha256),
            made_by=f"vividstream {_own_version()}",
            synthetic=synthetic,
            agreement=consent if isinstance(consent, Agreement) else None,
        ),
        albedo_AA3=texture.albedo_AA3,
        confidence_AA=texture.confidence_AA,
        shape_S3=texture.shape_S3,
        iris_rgb=texture.iris_rgb,
        portrait_PP3=portrait(photos[int(np.argmin(turned))]),
    )


def _own_version() -> str:
    try:
        return version("vividstream")
    except PackageNotFoundError:
        return "from a checkout"


def _place(index: int, count: int) -> str:
    return "the photo" if count == 1 else f"photo {index + 1} of {count}"


def _checked(finder: FaceFinder, image: Rgb, place: str) -> Photo:
    """The photo and its only face, or UnsuitablePhoto."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UnsuitablePhoto(f"{place}: uint8 [H, W, 3] expected, not {image.dtype} {list(image.shape)}")
    if min(image.shape[:2]) < 16:
        raise UnsuitablePhoto(f"{place}: {image.shape[1]}x{image.shape[0]} pixels are too few for a face")
    rgb_HW3 = scaled_down(image)
    faces = finder.find(rgb_HW3)
    if not faces:
        raise UnsuitablePhoto(f"{place}: no face found")
    face = faces[0]
    beside = [one for one in faces if one.box_px.width_px >= SECOND_FACE_SHARE * face.box_px.width_px]
    if len(beside) > 1:
        raise UnsuitablePhoto(f"{place}: {len(beside)} faces found; cut out the one to enrol")
    photo = Photo(rgb_HW3, face.points_px)
    _check_size_and_place(photo, face.box_px, place)
    _check_light(photo, place)
    _check_sharpness(photo, place)
    return photo


def scaled_down(image: Rgb) -> Rgb:
    """At most LARGEST_PX on the longer side."""
    longest = max(image.shape[:2])
    if longest <= LARGEST_PX:
        return np.ascontiguousarray(image)
    scale = LARGEST_PX / longest
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def _check_size_and_place(photo: Photo, box: Box, place: str) -> None:
    width_px = box.width_px
    if width_px < LEAST_FACE_PX:
        raise UnsuitablePhoto(f"{place}: the face is {width_px:.0f} px wide; {LEAST_FACE_PX} px are needed")
    height, width = photo.rgb_HW3.shape[:2]
    x, y = photo.points_px[:, 0], photo.points_px[:, 1]
    outside = float(np.mean((x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)))
    if outside > MOST_CUT_OFF:
        raise UnsuitablePhoto(f"{place}: the picture's edge cuts off {outside:.0%} of the face")
    yaw_deg = canonical_face(photo.points_px)[0].yaw_deg
    if abs(yaw_deg) > MOST_TURNED_DEG:
        most = f"{MOST_TURNED_DEG:.0f} at most"
        raise UnsuitablePhoto(f"{place}: the face is turned to the side by {abs(yaw_deg):.0f} degrees; {most}")


def face_luminance(photo: Photo) -> tuple[Floats, NDArray[np.bool_]]:
    """The face's luminance 0..255 on an upright grid SHARPNESS_PX wide (never enlarged), and where the face is."""
    box = box_of_points(photo.points_px)
    height, width = photo.rgb_HW3.shape[:2]
    left, top = max(0, int(box.left_px)), max(0, int(box.top_px))
    right, bottom = min(width, int(box.right_px) + 1), min(height, int(box.bottom_px) + 1)
    crop = Image.fromarray(photo.rgb_HW3[top:bottom, left:right]).convert("L")
    scale = min(1.0, SHARPNESS_PX / box.width_px)
    size = (max(8, round(crop.width * scale)), max(8, round(crop.height * scale)))
    grey = np.asarray(crop.resize(size, Image.Resampling.BOX), np.float32)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    outline = (photo.points_px[FACE_OVAL, :2] - [left, top]) * scale
    centre = outline.mean(axis=0)
    angles = np.arctan2(outline[:, 1] - centre[1], outline[:, 0] - centre[0])
    reach = np.hypot(outline[:, 0] - centre[0], outline[:, 1] - centre[1])
    order = np.argsort(angles)
    here = np.arctan2(rows - centre[1], columns - centre[0])
    limit = np.interp(here.ravel(), angles[order], reach[order], period=2 * np.pi).reshape(here.shape)
    return grey, np.hypot(columns - centre[0], rows - centre[1]) < 0.92 * limit


def _check_light(photo: Photo, place: str) -> None:
    grey, inside = face_luminance(photo)
    bright = float(np.percentile(grey[inside], 95))
    if bright < DARKEST_BRIGHT:
        raise UnsuitablePhoto(f"{place}: too dark: the face's brightest parts reach {bright:.0f} of 255")
    burnt = float(np.mean(grey[inside] > 250))
    if burnt > MOST_BURNT:
        raise UnsuitablePhoto(f"{place}: overexposed: {burnt:.0%} of the face is plain white")


def sharpness(photo: Photo) -> float:
    """Variance of the Laplacian over the face, per variance of its luminance: 0.03 and more for a sharp face.

    Measured at one width for all faces, so that the size does not count; divided by contrast, so that light does not.
    """
    grey, inside = face_luminance(photo)
    edges = ndimage.laplace(grey)
    return float(edges[inside].var() / max(float(grey[inside].var()), 25.0))


def _check_sharpness(photo: Photo, place: str) -> None:
    sharp = sharpness(photo)
    if sharp < LEAST_SHARPNESS:
        raise UnsuitablePhoto(f"{place}: blurred (sharpness {sharp:.3f}; {LEAST_SHARPNESS} is needed)")


def _warn_of_strangers(photos: Sequence[Photo], called: Sequence[str]) -> None:
    looks = [appearance(photo.rgb_HW3, photo.points_px) for photo in photos]
    for i in range(1, len(looks)):
        apart = [difference(looks[i], looks[k]) for k in range(len(looks)) if k != i]
        known = [value for value in apart if value is not None]
        if known and min(known) > OTHER_PERSON:
            log.warning("%s may show another person than the others", called[i])


def portrait(photo: Photo) -> Rgb:
    """The face with its hair and neck, uint8 [256, 256, 3]; what lies outside of the photo is its edge, repeated."""
    box = box_of_points(photo.points_px)
    side = 1.6 * max(box.width_px, box.height_px)
    x, y = (box.left_px + box.right_px) / 2, (box.top_px + box.bottom_px) / 2 - 0.06 * side
    pad = int(side) + 1
    wide = np.pad(photo.rgb_HW3, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    left, top = round(x - side / 2) + pad, round(y - side / 2) + pad
    crop = wide[max(top, 0) : top + round(side), max(left, 0) : left + round(side)]
    return np.array(Image.fromarray(crop).resize((PORTRAIT_PX, PORTRAIT_PX), Image.Resampling.LANCZOS))
