"""What stands in front of a face: hands, cups, microphones, paper.

Two witnesses. The hand net says where hands are: skin before skin cannot be told by colour. And the person's own look,
learned while nothing is in the way, says where the face looks foreign; what has the person's own skin colour is never
called foreign by it, since where the mask is on, the camera's pixels are shown as they are: a false alarm would show
the real face. A thing must be large, solid and there for two frames; a hand is believed at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engines.face.grid import DARK, GRID_PX, frame_from_grid, grid_colours, grid_from_frame, grid_square, to_grid
from engines.face.hand_mask import hand_mask
from engines.face.hands import HandFinder, Palm, square_of_hand, square_of_palm
from engines.face.landmarks import Square
from engines.face.mediapipe_graph import Packet, image_packet
from engines.face.mesh import face_model, vertex_normals
from engines.face.own_look import HOLE, MOVING, SKIN, OwnLook, alien, learn
from engines.face.rasterise import rasterise
from engines.face.regions import LEFT_LIDS, MOUTH, RIGHT_LIDS
from engines.face.regions_on_grid import components, dilate, erode, grow_alike, mean_of_nine
from engines.types import SKIN_LANDMARKS, Floats, Mask, Occlusion, Rgb, TrackedFace

SURE, LIKELY = 1.0, 0.5  # foreign enough to start a thing; foreign enough to belong to one
LEAST_AREA = 0.015  # of the face: a smaller thing is a glint or a hair
LEAST_SOLID = 0.35  # share of a thing that is surely foreign
ENCLOSED = 5  # cells: lips and eyes this far inside a thing's outline are behind it
BRIDGED = 3  # cells: holes and gaps this wide inside a thing are closed
ALIKE, ALIKE_SPREADS = 0.25, 2.0  # how alike its cells are that lie off the compared skin
GROWN = 24  # cells: how far off the compared skin a thing is followed
SURE_HAND, LIKELY_HAND = 0.75, 0.5  # the hand net's score to take a hand up, and to keep it
MOST_HANDS = 2
REACH = 2.0  # side of the square in which palms are looked for, in grids
DOWN = 0.25  # ... and how far it lies lower, in grids: hands come from below
# Frames between two looks for palms: skin moves near the face, something is known to cover it, neither.
SKIN_MOVES_EVERY, COVERED_EVERY, IDLE_EVERY = 3, 5, 12
MOTION = 8.0  # grey levels: a change of a cell of the surroundings that counts as motion
SKIN_ALIKE = 0.16  # how near a moving cell's colour ratios are to the person's skin, for the cell to be a hand's
CLOSE = np.s_[1:10, 2:10]  # the cells of the surroundings from which a hand is before the face within a few frames
ALERT_S = 0.2  # for how long motion counts
LOST_AFTER = 30  # frames after which a look that nobody collects is thrown away
WARM_UP_STEPS = 14
GONE_S = 1.0  # after a longer pause nothing of the frame before holds


@dataclass(slots=True)
class OcclusionState:
    """What is remembered of one person's face and of the hands about it."""

    look: OwnLook = field(default_factory=OwnLook)
    hands: list[Floats] = field(default_factory=list)  # their landmarks, frame pixels
    asked: Square | None = None  # where palms are being looked for
    covered_GG: Mask = field(default_factory=lambda: np.zeros((GRID_PX, GRID_PX), np.uint8))
    suspect_GG: Mask = field(default_factory=lambda: np.zeros((GRID_PX, GRID_PX), np.uint8))
    surroundings: Floats | None = None
    moved_s: float = -1e9
    since_palms: int = IDLE_EVERY
    stepped_s: float | None = None


class Occluder:
    """The hand nets. One thread at a time; what is remembered is in the OcclusionState that the caller holds.

    The palm detector is slow (10 ms), so it works while the caller does: what it found is taken up in the same
    person's next step. It serves one person at a time.
    """

    def __init__(self) -> None:
        self._hands = HandFinder()
        self._asking: OcclusionState | None = None
        self._asked_for = 0  # steps since

    def init(self) -> OcclusionState:
        return OcclusionState()

    def warm_up(self, face: TrackedFace, side_px: int) -> None:
        """Compiles the kernels and runs the nets once: a face is learned, and then a thing comes before it.

        `face` is any face in a square picture of that side.
        """
        state, skin = self.init(), np.full((side_px, side_px, 3), (190, 140, 120), np.uint8)
        thing = skin.copy()
        thing[side_px // 2 :, side_px // 3 :] = (20, 40, 160)
        for step in range(WARM_UP_STEPS):
            self.step(state, skin if step < WARM_UP_STEPS - 3 else thing, face, step / 30)
        square = grid_square(face.points_px)
        hand = self._hands.hand(image_packet(skin), square, side_px, side_px)
        hand_mask(to_grid(hand.points_px, grid_from_frame(square)), GRID_PX)
        self._collect(state)

    def close(self) -> None:
        """Stops the nets."""
        self._hands.close()

    def step(self, state: OcclusionState, rgb_HW3: Rgb, face: TrackedFace, captured_s: float) -> Occlusion:
        """One face of one frame. uint8 [H, W, 3]; `face` must be this person's, in this frame."""
        elapsed_s = 0.0 if state.stepped_s is None else captured_s - state.stepped_s
        if not 0.0 <= elapsed_s <= GONE_S:
            state.hands, state.suspect_GG[:], state.covered_GG[:] = [], 0, 0
        state.stepped_s = captured_s
        square = grid_square(face.points_px)
        into_grid = grid_from_frame(square)
        hand = self._hand_mask(state, rgb_HW3, square, into_grid, captured_s)
        colours = grid_colours(np.ascontiguousarray(rgb_HW3), frame_from_grid(square), GRID_PX)
        uv, part = face_on_grid(face.points_px, into_grid)
        thing = _thing(state, alien(state.look, colours, uv, part), part, hand)
        thing = _whole(thing, colours, part)
        covered = np.maximum(hand, thing)
        state.covered_GG = covered
        if face.score > 0.9:
            only_thing = np.where(hand > 0, np.uint8(0), thing)
            learn(state.look, colours, uv, part, dilate(covered, BRIDGED), only_thing, elapsed_s)
        on_face = part > 0
        share = float(covered[on_face].mean()) / 255 if on_face.any() else 0.0
        return Occlusion(covered, into_grid, share)

    def _hand_mask(self, state: OcclusionState, rgb_HW3: Rgb, square: Square, into_grid: Floats, now_s: float) -> Mask:
        """Follows the hands that are near the face, looks for new ones, and says what they cover."""
        height, width = rgb_HW3.shape[:2]
        found = self._collect(state)
        self._notice_motion(state, rgb_HW3, square, now_s)
        state.since_palms += 1
        asking = self._asking is None and state.since_palms >= _palms_every(state, now_s)
        image = image_packet(rgb_HW3) if asking or found or state.hands else None
        if asking:
            self._ask(state, image, square, height, width)
        masks: list[Mask] = []
        followed: list[Floats] = []
        for place, least in _places(state.hands, [palm for palm in found if _may_touch(palm, square)]):
            if len(followed) == MOST_HANDS or any(_same_hand(place, points) for points in followed):
                continue
            hand = self._hands.hand(image, place, height, width)
            mask = hand_mask(to_grid(hand.points_px, into_grid), GRID_PX)
            if hand.score >= least and not any(_same_hand(square_of_hand(hand.points_px), one) for one in followed):
                if _near(hand.points_px, square):
                    followed.append(hand.points_px)
                masks.append(mask)
        state.hands = followed
        covered = np.zeros((GRID_PX, GRID_PX), np.uint8)
        for mask in masks:
            np.maximum(covered, mask, out=covered)
        return covered

    def _ask(self, state: OcclusionState, image: Packet, square: Square, height_px: int, width_px: int) -> None:
        state.asked = Square(square.x_px, square.y_px + DOWN * square.size_px, REACH * square.size_px, 0.0)
        self._hands.feed_palms(image, state.asked, height_px, width_px)
        self._asking, self._asked_for, state.since_palms = state, 0, 0

    def _collect(self, state: OcclusionState) -> list[Palm]:
        if self._asking is state and state.asked is not None:
            self._asking = None
            return self._hands.collect_palms(state.asked)
        self._asked_for += 1
        if self._asking is not None and self._asked_for > LOST_AFTER:
            self._asking = None  # that person left
        return []

    def _notice_motion(self, state: OcclusionState, rgb_HW3: Rgb, square: Square, now_s: float) -> None:
        """Whether anything of the skin's colour moves about the face: then a hand may be coming."""
        now = surroundings(rgb_HW3, square)
        if state.surroundings is not None:
            moved = np.abs(now - state.surroundings)[..., 1] > MOTION
            if state.look.skin_3 is not None:
                tints = np.log((now[..., ::2] + DARK) / (now[..., 1:2] + DARK)) - state.look.skin_3[1:]
                moved &= np.abs(tints).max(axis=-1) < SKIN_ALIKE
            if moved[CLOSE].any():
                state.moved_s = now_s
        state.surroundings = now


def _palms_every(state: OcclusionState, now_s: float) -> int:
    if now_s - state.moved_s < ALERT_S:
        return SKIN_MOVES_EVERY
    return COVERED_EVERY if state.hands or state.covered_GG.any() else IDLE_EVERY


def surroundings(rgb_HW3: Rgb, square: Square) -> Floats:
    """Colours of 12x12 cells about the face, on places that only move when the head does by a good deal."""
    step = max(square.size_px / 6, 1.0)
    height, width = rgb_HW3.shape[:2]
    left, top = round(square.x_px / step) * step, round((square.y_px + DOWN * square.size_px) / step) * step
    offsets = (np.arange(36) - 17.5) * step * REACH / 6
    x = np.clip(left + offsets, 0, width - 1).astype(np.intp)
    y = np.clip(top + offsets, 0, height - 1).astype(np.intp)
    cells: Floats = rgb_HW3[y[:, None], x[None, :]].reshape(12, 3, 12, 3, 3).mean(axis=(1, 3)).astype(np.float32)
    return cells


def face_on_grid(points_px: Floats, into_grid: Floats) -> tuple[Floats, Mask]:
    """The face's mesh drawn on the grid: u, v and facing of every cell, float32 [G, G, 3], and its part, uint8."""
    model = face_model()
    skin = points_px[:SKIN_LANDMARKS]
    facing = -vertex_normals(np.ascontiguousarray(skin), model.triangles_T3)[:, 2:3]
    scale = float(np.hypot(into_grid[0, 0], into_grid[0, 1]))
    on_grid = np.concatenate((to_grid(skin[:, :2], into_grid), skin[:, 2:3] * np.float32(scale)), axis=1)
    values = np.concatenate((model.uv_S2, facing), axis=1).astype(np.float32)
    triangles = np.concatenate((model.triangles_T3, model.eye_triangles_T3, model.mouth_triangles_T3))
    drawn, part = rasterise(on_grid.astype(np.float32), triangles, _parts(), values, 1e5, GRID_PX, GRID_PX)
    return drawn, part


def _parts() -> Mask:
    """Part numbers of the mesh's triangles, then those of the eyes and the mouth."""
    model = face_model()
    moving = np.zeros(SKIN_LANDMARKS, bool)
    moving[np.concatenate((LEFT_LIDS, RIGHT_LIDS, MOUTH[MOUTH < SKIN_LANDMARKS]))] = True
    skin = np.where(moving[model.triangles_T3].all(axis=1), MOVING, SKIN)
    holes = np.full(len(model.eye_triangles_T3) + len(model.mouth_triangles_T3), HOLE)
    parts: Mask = np.concatenate((skin, holes)).astype(np.uint8)
    return parts


def _thing(state: OcclusionState, foreign: Floats, part: Mask, hand: Mask) -> Mask:
    """The solid foreign areas on the face. Those that touch no area of the frame before have to wait for a frame."""
    foreign = mean_of_nine(foreign)
    before = dilate(state.covered_GG, 2)
    likely = (foreign > LIKELY) & ((foreign > SURE) | (before > 0) | (dilate(hand, 2) > 0))
    labels, count = components(erode(dilate(likely.astype(np.uint8), BRIDGED), BRIDGED))
    thing, suspect = np.zeros_like(part), np.zeros_like(part)
    face_cells = int((part > 0).sum())
    for number in range(1, count + 1):
        area = labels == number
        known = area & (part == SKIN)
        solid = float((foreign[known] > SURE).mean()) if known.any() else 0.0
        if known.sum() < LEAST_AREA * face_cells or solid < LEAST_SOLID:
            continue
        suspect[area] = 255
        if (before[area] > 0).any() or (dilate(state.suspect_GG, 2)[area] > 0).any() or (hand[area] > 0).any():
            thing[area] = 255
    state.suspect_GG = suspect
    return thing


def _whole(thing: Mask, colours: Floats, part: Mask) -> Mask:
    """Carries a thing on to where nothing is compared: lids, lips, eyes and mouth that it encloses, the grid beside the
    face, and whatever of these looks like it."""
    if not thing.any():
        return thing
    grown = grow_alike(thing, colours, (part != SKIN).astype(np.uint8), ALIKE, ALIKE_SPREADS, GROWN)
    unknown = (part == MOVING) | (part == HOLE)
    closed = erode(dilate(thing, ENCLOSED), ENCLOSED)
    whole: Mask = np.where(unknown & (closed > 0), np.uint8(255), grown)
    return whole


def _places(hands: list[Floats], palms: list[Palm]) -> list[tuple[Square, float]]:
    """Where to look for hands, those that are followed first, and the score each place needs."""
    places = [(square_of_hand(points), LIKELY_HAND) for points in hands]
    return places + [(square_of_palm(palm), SURE_HAND) for palm in sorted(palms, key=lambda one: -one.score)]


def _same_hand(place: Square, points_px: Floats) -> bool:
    other = square_of_hand(points_px)
    apart = np.hypot(place.x_px - other.x_px, place.y_px - other.y_px)
    return bool(apart < 0.25 * min(place.size_px, other.size_px))


def _may_touch(palm: Palm, square: Square) -> bool:
    """Whether the fingers of a palm can be on the grid."""
    hand = square_of_palm(palm)
    away = max(abs(hand.x_px - square.x_px), abs(hand.y_px - square.y_px))
    return away < (hand.size_px + square.size_px) / 2


def _near(points_px: Floats, square: Square) -> bool:
    """Whether a hand touches the grid, or nearly."""
    away = np.abs(points_px - np.array([square.x_px, square.y_px], np.float32)).max(axis=1)
    return bool(away.min() < 0.6 * square.size_px)
