"""Faces that are not swapped: where they are between two looks of the detector. Pure geometry, time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

from engines.face.appearance import Appearance
from engines.face.detect import SAME_FACE_OVERLAP, overlap
from engines.types import Box

# Boxes are hidden, so they err on the large side: the detector's box ends at brows, ears and chin.
SIDES, ABOVE, BELOW = 0.30, 0.45, 0.25  # added, in shares of the box's longer side
PROMPT = 0.5  # share of the latest movement in what is known of a bystander's speed: two looks may be 33 ms apart
UNSEEN_S = 0.5  # how long a bystander whom the detector does not see any more stays hidden
WEAK_S = 0.11  # the same for what only may be a face, for every time that it was seen


@dataclass(slots=True)
class Bystander:
    """One face that is not swapped, and how its box's centre moves."""

    box_px: Box
    seen_s: float
    x_px_s: float = 0.0
    y_px_s: float = 0.0
    looks: Appearance | None = None
    looked_at: int = 0  # how often the landmark net tried
    sure: bool = True  # a detector was sure, once; else it is only hidden
    times: int = 1  # how often it was seen

    @property
    def kept_s(self) -> float:
        """How long it stays hidden unseen. What was taken for a face once, and weakly, is soon forgotten."""
        return UNSEEN_S if self.sure else min(UNSEEN_S, WEAK_S * self.times)

    def see(self, box_px: Box, now_s: float) -> None:
        elapsed_s = now_s - self.seen_s
        if elapsed_s > 0:
            (x, y), (old_x, old_y) = centre(box_px), centre(self.box_px)
            self.x_px_s += PROMPT * ((x - old_x) / elapsed_s - self.x_px_s)
            self.y_px_s += PROMPT * ((y - old_y) / elapsed_s - self.y_px_s)
        self.box_px, self.seen_s, self.times = box_px, now_s, self.times + 1

    def hidden_px(self, now_s: float) -> Box:
        """What to hide now: the face with its surroundings, stretched to where it may have moved meanwhile."""
        elapsed_s = min(max(now_s - self.seen_s, 0.0), UNSEEN_S)
        return reach(widen(self.box_px), self.x_px_s * elapsed_s, self.y_px_s * elapsed_s)


@dataclass(slots=True)
class Bystanders:
    """All of them. Bounded by what a detector finds, and by time."""

    known: list[Bystander] = field(default_factory=list)

    def scan(self, boxes_px: list[Box], now_s: float, sure: bool = True) -> None:
        """Takes what a detector found, without the faces that are drawn; with `sure` off, what only may be a face."""
        free = list(self.known)
        for box in boxes_px:
            nearest = max(free, key=lambda one: overlap(one.box_px, box), default=None)
            if nearest is not None and overlap(nearest.box_px, box) >= SAME_FACE_OVERLAP:
                nearest.see(box, now_s)
                nearest.sure |= sure
                free.remove(nearest)
            else:
                self.known.append(Bystander(box, now_s, sure=sure))

    def forget(self, now_s: float) -> None:
        """Drops those unseen for too long, and those of a clock that ran backwards."""
        self.known = [one for one in self.known if 0.0 <= now_s - one.seen_s <= one.kept_s]

    def release(self, face_px: Box) -> None:
        """Drops who turned out to be the face that is drawn now."""
        self.known = [one for one in self.known if not same_place(one.box_px, face_px)]

    def near(self, face_px: Box) -> list[Bystander]:
        """Those so close to this face that the two could be mistaken for each other."""
        return [one for one in self.known if one.sure and overlap(one.hidden_px(one.seen_s), widen(face_px)) > 0.0]


def centre(box_px: Box) -> tuple[float, float]:
    return (box_px.left_px + box_px.right_px) / 2, (box_px.top_px + box_px.bottom_px) / 2


def same_place(a: Box, b: Box) -> bool:
    """Whether two boxes show one face: each holds the other's centre, and their sizes are alike."""
    return _holds(a, centre(b)) and _holds(b, centre(a)) and 0.4 < a.width_px / max(b.width_px, 1e-6) < 2.5


def _holds(box_px: Box, point_px: tuple[float, float]) -> bool:
    x, y = point_px
    return box_px.left_px <= x < box_px.right_px and box_px.top_px <= y < box_px.bottom_px


def widen(box_px: Box) -> Box:
    side = max(box_px.width_px, box_px.height_px)
    return Box(
        box_px.left_px - SIDES * side,
        box_px.top_px - ABOVE * side,
        box_px.right_px + SIDES * side,
        box_px.bottom_px + BELOW * side,
    )


def reach(box_px: Box, x_px: float, y_px: float) -> Box:
    """The box that holds this one and this one moved by x, y."""
    return Box(
        box_px.left_px + min(x_px, 0.0),
        box_px.top_px + min(y_px, 0.0),
        box_px.right_px + max(x_px, 0.0),
        box_px.bottom_px + max(y_px, 0.0),
    )
