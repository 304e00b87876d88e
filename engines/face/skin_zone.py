"""Where around a face the driver's own skin can be: rim of the face, ears, neck down to the collar bones.

A small grid over head and neck, whose cells are CELL_CM a side and which moves with the face. Each cell holds what
geometry alone says (`zone`), and, remembered over a moment, what the colours of the cells about it add (`reached`):
what is not joined to the face by skin is not toned, however like skin it looks.

Lengths are centimetres of the head, from the middle of its outline; "down" is the head's own, in the picture's plane.
Legend: G rows and C columns of cells; every cell has PLANES numbers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.face.mesh import FACE_OVAL
from engines.face.region import Reach, hull_sides
from engines.face.skin_colour import MOST, odds
from engines.jit import inlined, kernel
from engines.types import SKIN_LANDMARKS, Floats, Mask, Rgb

CELL_CM, ROWS, COLUMNS = 0.72, 58, 48
TOP_CM = 15.0  # of the grid above the face's middle
# A cell's planes: log odds for skin, most share of the tone, how much darker than the face skin may be, what it is for.
LEAN, SHARE, DARKER, ROLE = range(4)
PLANES = 4
# Roles. Beside the head there is hair or background; above the forehead, too, but where skin goes on.
NOTHING, FACE, NECK, BESIDE, CROWN, CHEST = (np.float32(role) for role in range(6))
CROWN_FROM_CM, CROWN_TO_CM, CROWN_HALF_CM, BESIDE_FROM_CM = 2.8, 5.5, 4.5, 3.0
FOREHEAD_CM = 1.8  # above the face's hull, before hair is as likely
CHIN, NOSE, RIGHT_JAW, LEFT_JAW = 152, 4, 234, 454  # landmarks; the jaw's points are where the ears begin
EAR_BACK_CM, EAR_OUT_CM = 4.0, 0.6  # from those points to behind the ears, backwards and outwards
EAR_CM, FARTHEST_EAR_CM = 2.8, 10.0
NECK_BACK_CM, NECK_UP_CM = 7.0, 1.0  # from the chin to the middle of the neck
NECK_HALF_CM, SHOULDER_FROM_CM, SHOULDER_SLOPE = 6.3, 4.0, 0.9
NECK_UPRIGHT = 0.6  # how far the neck stands upright where the head is tilted
WIDEST_CM = 22.0
CHEST_FROM_CM, COLLAR = 3.5, np.float32(0.25)  # from there on a step of so many log units of brightness is a collar
HIDDEN_CM = 1.9  # inside of the face's hull from here on the drawn face is opaque, and lies on no other pixel
FADE_FROM_CM, FADE_TO_CM = 7.0, 16.0  # along the neck, from below the chin
SHADOW_BELOW, SHADOW_AT_EAR, SHADOW_ABOVE = 1.2, 0.9, 0.5  # log units that skin may be darker than the face
NOT_JOINED = np.float32(-4.0)  # log odds of a cell that no skin joins to the face
CONTEXT = np.float32(0.45)  # what the colours about a cell add to its log odds
NO_SKIN = np.float32(-2.5)  # log odds below which a cell is not looked at closely
FINE = 3  # pixels are looked at so many times a cell's side
OWN = np.float32(0.8)  # what a pixel's own colour counts beside what its cell says
UNSURE, SURE = (
    np.float32(-0.6),
    np.float32(1.6),
)  # log odds up to which a pixel keeps its tone, and from which it is skin
LEAST_OWN = np.float32(-3.9)  # below which nothing that a cell says makes a pixel skin
OWN_SKIN, THING = np.uint8(1), np.uint8(2)  # whose skin a cell shows
HULL = Reach(0.0, 0.0)
# What `geometry` gives, by place in its array; points and directions take two.
CORNER, SCALE, MIDDLE, DOWN, EARS, NECK_AT, ALONG, NOSE_LEVEL, CHIN_LEVEL = 0, 2, 3, 5, 7, 15, 17, 19, 20
SHARES_GRID, NECK_RAMP, GEOMETRY = 21, 24, 27  # as engines.face.skin_tone.SkinTone has them
NECK_ABOVE_CHIN_CM, NECK_RAMP_CM = 1.5, 3.0  # where the neck's own gain begins, and over what length


@kernel
def geometry(points_px: Floats, scale: float, turn_33: Floats) -> Floats:
    """Everything that `zone` must know of a head, float32 [27]: pixels, unit vectors, levels in centimetres.

    scale, turn_33: pixels a centimetre and rotation of the head's pose (engines.face.mesh.Pose)
    """
    out = np.zeros(GEOMETRY, np.float32)
    out[SCALE] = scale
    for landmark in FACE_OVAL:
        out[MIDDLE] += points_px[landmark, 0] / FACE_OVAL.shape[0]
        out[MIDDLE + 1] += points_px[landmark, 1] / FACE_OVAL.shape[0]
    length = max(np.sqrt(turn_33[0, 1] ** 2 + turn_33[1, 1] ** 2), np.float32(0.2))
    out[DOWN], out[DOWN + 1] = turn_33[0, 1] / length, turn_33[1, 1] / length
    for axis in range(2):
        for ear in range(2):
            begins = points_px[RIGHT_JAW if ear == 0 else LEFT_JAW, axis]
            side = np.float32(2 * ear - 1) * np.float32(EAR_OUT_CM)
            back = side * turn_33[axis, 0] + np.float32(EAR_BACK_CM) * turn_33[axis, 2]
            out[EARS + 4 * ear + axis], out[EARS + 4 * ear + 2 + axis] = begins, begins + np.float32(scale) * back
        behind = np.float32(NECK_BACK_CM) * turn_33[axis, 2] - np.float32(NECK_UP_CM) * turn_33[axis, 1]
        out[NECK_AT + axis] = points_px[CHIN, axis] + np.float32(scale) * behind
    along_x, along_y = (1 - NECK_UPRIGHT) * out[DOWN], NECK_UPRIGHT + (1 - NECK_UPRIGHT) * out[DOWN + 1]
    length = max(np.sqrt(along_x**2 + along_y**2), 0.2)
    out[ALONG], out[ALONG + 1] = along_x / length, along_y / length
    for level in range(2):
        point = points_px[NOSE if level == 0 else CHIN]
        off_x, off_y = point[0] - out[MIDDLE], point[1] - out[MIDDLE + 1]
        out[NOSE_LEVEL + level] = (off_x * out[DOWN] + off_y * out[DOWN + 1]) / np.float32(scale)
    out[CORNER] = out[MIDDLE] - np.float32(scale * CELL_CM * (COLUMNS - 1) / 2)
    out[CORNER + 1] = out[MIDDLE + 1] - np.float32(scale * TOP_CM)
    pitch = np.float32(scale * CELL_CM / FINE)
    out[SHARES_GRID], out[SHARES_GRID + 1] = out[CORNER] - (FINE // 2) * pitch, out[CORNER + 1] - (FINE // 2) * pitch
    out[SHARES_GRID + 2] = np.float32(1) / pitch
    ramp_px = np.float32(scale * NECK_RAMP_CM)
    out[NECK_RAMP], out[NECK_RAMP + 1] = out[DOWN] / ramp_px, out[DOWN + 1] / ramp_px
    begins = (out[CHIN_LEVEL] - np.float32(NECK_ABOVE_CHIN_CM)) / np.float32(NECK_RAMP_CM)
    out[NECK_RAMP + 2] = -out[NECK_RAMP] * out[MIDDLE] - out[NECK_RAMP + 1] * out[MIDDLE + 1] - begins
    return out


def zone(points_px: Floats, place: Floats, hairy: bool) -> Floats:
    """What geometry says of each cell: float32 [G, C, 4].

    place: `geometry`. hairy: whether the driver's hair hangs into the face, so that what is drawn there is not opaque.
    """
    sides = hull_sides(points_px[_hull_points()], 1, HULL, 1.0)
    found: Floats = planes(sides, place, hairy)
    return found


@lru_cache(maxsize=1)
def _hull_points() -> NDArray[np.int64]:
    """Landmarks whose hull is that of them all, as good as: sorting fewer is faster."""
    return np.union1d(FACE_OVAL, np.arange(0, SKIN_LANDMARKS, 6))


@kernel
def from_hull(sides_K3: Floats, place: Floats) -> Floats:
    """How far outside of the hull each cell lies, centimetres, float32 [G, C]; negative inside.

    Reckoned for every other cell of every other row, and between them in proportion: but at corners it is even.
    """
    out = np.empty((ROWS, COLUMNS), np.float32)
    scale, cell = place[SCALE], np.float32(CELL_CM) * place[SCALE]
    for row in range(0, ROWS, 2):
        y = place[CORNER + 1] + np.float32(row) * cell
        for column in range(0, COLUMNS, 2):
            x = place[CORNER] + np.float32(column) * cell
            inside = np.float32(1e9)
            for side in range(sides_K3.shape[0]):
                inside = min(inside, sides_K3[side, 2] + x * sides_K3[side, 0] + y * sides_K3[side, 1])
            out[row, column] = -inside / scale
        for column in range(1, COLUMNS - 1, 2):
            out[row, column] = np.float32(0.5) * (out[row, column - 1] + out[row, column + 1])
        out[row, COLUMNS - 1] = np.float32(2) * out[row, COLUMNS - 2] - out[row, COLUMNS - 3]
    for row in range(1, ROWS - 1, 2):
        out[row] = np.float32(0.5) * (out[row - 1] + out[row + 1])
    out[ROWS - 1] = np.float32(2) * out[ROWS - 2] - out[ROWS - 3]
    return out


@kernel
def planes(sides_K3: Floats, place: Floats, hairy: bool) -> Floats:
    out, away_GC = np.empty((ROWS, COLUMNS, PLANES), np.float32), from_hull(sides_K3, place)
    scale, cell = place[SCALE], np.float32(CELL_CM) * place[SCALE]
    for row in range(ROWS):
        y = place[CORNER + 1] + np.float32(row) * cell
        for column in range(COLUMNS):
            x = place[CORNER] + np.float32(column) * cell
            away = away_GC[row, column]
            down = ((x - place[MIDDLE]) * place[DOWN] + (y - place[MIDDLE + 1]) * place[DOWN + 1]) / scale
            below = ramp(down, place[NOSE_LEVEL], place[CHIN_LEVEL])
            lean, share = rim(away, below)
            darker = np.float32(SHADOW_ABOVE)
            at_ears, to_side = (
                np.float32(0),
                abs((x - place[MIDDLE]) * place[DOWN + 1] - (y - place[MIDDLE + 1]) * place[DOWN]),
            )
            if 0 < away < FARTHEST_EAR_CM:
                for ear in range(2):
                    off = from_line(x, y, place, EARS + 4 * ear)
                    ear_lean, ear_share = at_ear(off / scale)
                    if ear_lean > lean:
                        lean, darker = ear_lean, max(darker, np.float32(SHADOW_AT_EAR))
                    share, at_ears = max(share, ear_share), max(at_ears, ear_share)
            right, down_neck = x - place[NECK_AT], y - place[NECK_AT + 1]
            along = (right * place[ALONG] + down_neck * place[ALONG + 1]) / scale
            across = abs(right * place[ALONG + 1] - down_neck * place[ALONG]) / scale
            neck_lean, neck_share, core = np.float32(-4), np.float32(0), False
            if -9 < along < FADE_TO_CM and across < WIDEST_CM:
                neck_lean, neck_share, core = on_neck(along, across)
            shadow = SHADOW_ABOVE + min(below, neck_share) * (SHADOW_BELOW - SHADOW_ABOVE)
            out[row, column, LEAN] = max(lean, neck_lean)
            hidden = away < -HIDDEN_CM and not hairy
            out[row, column, SHARE] = np.float32(0) if hidden else max(share, neck_share)
            out[row, column, DARKER] = max(darker, shadow)
            role = NOTHING
            if away < 0:
                role = FACE
            elif core:
                role = NECK
            elif along > CHEST_FROM_CM and neck_share > 0:
                role = CHEST
            elif CROWN_FROM_CM < away < CROWN_TO_CM and to_side < CROWN_HALF_CM * scale and down < 0:
                role = CROWN
            elif away > BESIDE_FROM_CM and below < 0.5 and at_ears < 0.1:
                role = BESIDE
            out[row, column, ROLE] = role
    return out


@inlined
def ramp(value: np.float32, start: np.float32, end: np.float32) -> np.float32:
    """0 up to start, 1 from end on, smooth between."""
    part = min(max((value - start) / (end - start), np.float32(0)), np.float32(1))
    return np.float32(part * part * (np.float32(3) - np.float32(2) * part))


@inlined
def rim(away_cm: np.float32, below: np.float32) -> tuple[np.float32, np.float32]:
    """Log odds and share of what surrounds the face's hull; hair is likely above, so only clear skin is taken there."""
    out = max(away_cm, np.float32(0))
    above = np.float32(0.9) - np.float32(1.3) * max(out - np.float32(FOREHEAD_CM), np.float32(0))
    lean = above + below * (np.float32(0.8) - np.float32(0.8) * out - above)
    farthest = np.float32(6.5) - np.float32(3.5) * below
    return max(lean, np.float32(-3.2)), np.float32(1) - ramp(out, farthest - np.float32(2), farthest)


@inlined
def at_ear(away_cm: np.float32) -> tuple[np.float32, np.float32]:
    part = away_cm / np.float32(EAR_CM)
    return np.float32(0.6) - part * part, np.float32(1) - ramp(part, np.float32(1), np.float32(1.4))


@inlined
def on_neck(along_cm: np.float32, across_cm: np.float32) -> tuple[np.float32, np.float32, bool]:
    """Log odds, share, and whether this is surely the neck's place."""
    half = np.float32(NECK_HALF_CM) + np.float32(SHOULDER_SLOPE) * max(
        along_cm - np.float32(SHOULDER_FROM_CM), np.float32(0)
    )
    part = across_cm / half
    low = max(along_cm - np.float32(CHEST_FROM_CM), np.float32(0))
    lean = np.float32(1.4) - np.float32(1.8) * part * part - np.float32(0.2) * low
    share = np.float32(1) - ramp(part, np.float32(0.9), np.float32(1.3))
    share *= np.float32(1) - ramp(along_cm, np.float32(FADE_FROM_CM), np.float32(FADE_TO_CM))
    share *= ramp(along_cm, np.float32(-9), np.float32(-5))
    core = bool(-4 < along_cm < 5 and part < 0.6)
    return lean * min(share * np.float32(4), np.float32(1)), share, core


@inlined
def from_line(x: np.float32, y: np.float32, place: Floats, at: int) -> np.float32:
    """Distance of a place from the line between two points, which lie one after the other from `at` on."""
    ax, ay = place[at], place[at + 1]
    along_x, along_y = place[at + 2] - ax, place[at + 3] - ay
    length = max(along_x * along_x + along_y * along_y, np.float32(1e-6))
    part = min(max(((x - ax) * along_x + (y - ay) * along_y) / length, np.float32(0)), np.float32(1))
    return np.float32(np.sqrt((x - ax - part * along_x) ** 2 + (y - ay - part * along_y) ** 2))


@kernel
def colours_of(rgb_HW3: Rgb, zone_GCP: Floats, place: Floats, role: float) -> Floats:
    """The pixels in the middle of all cells of one role that are in the picture, float32 [V, 3], 0..255."""
    out, count = np.empty((ROWS * COLUMNS, 3), np.float32), 0
    cell = np.float32(CELL_CM) * place[SCALE]
    for row in range(ROWS):
        y = int(place[CORNER + 1] + np.float32(row) * cell + np.float32(0.5))
        for column in range(COLUMNS):
            x = int(place[CORNER] + np.float32(column) * cell + np.float32(0.5))
            if zone_GCP[row, column, ROLE] == role and 0 <= y < rgb_HW3.shape[0] and 0 <= x < rgb_HW3.shape[1]:
                for c in range(3):
                    out[count, c] = rgb_HW3[y, x, c]
                count += 1
    return out[:count].copy()


@kernel
def own_odds(
    rgb_HW3: Rgb,
    zone_GCP: Floats,
    place: Floats,
    table_RYL: Floats,
    logs: Floats,
    lowest: float,
    before_GC: Floats,
) -> Floats:
    """How like skin the picture is, by colour alone: log odds, float32 [FINE G, FINE C] within -MOST..MOST.

    before_GC: `joined` of a moment ago. Where no skin was and the middle of a cell shows none, the rest is not looked
    at.
    """
    out = np.full((FINE * ROWS, FINE * COLUMNS), -MOST)
    pitch, half = np.float32(CELL_CM / FINE) * place[SCALE], FINE // 2
    for row in range(ROWS):
        for column in range(COLUMNS):
            if zone_GCP[row, column, SHARE] <= 0:
                continue
            least = np.float32(lowest) - zone_GCP[row, column, DARKER]
            for step in range(FINE * FINE):  # from the middle on
                at = (step + FINE * FINE // 2) % (FINE * FINE)
                r, c = FINE * row + at // FINE, FINE * column + at % FINE
                y = int(np.floor(place[CORNER + 1] + np.float32(r - half) * pitch + np.float32(0.5)))
                x = int(np.floor(place[CORNER] + np.float32(c - half) * pitch + np.float32(0.5)))
                if 0 <= y < rgb_HW3.shape[0] and 0 <= x < rgb_HW3.shape[1]:
                    out[r, c] = odds(table_RYL, logs, rgb_HW3[y, x, 0], rgb_HW3[y, x, 1], rgb_HW3[y, x, 2], least)
                if step == 0 and before_GC[row, column] < NO_SKIN and out[r, c] < NO_SKIN:
                    out[FINE * row : FINE * row + FINE, FINE * column : FINE * column + FINE] = out[r, c]
                    break
    return out


@kernel
def levels(rgb_HW3: Rgb, place: Floats, logs: Floats) -> Floats:
    """Brightness in the middle of each cell, mean log level, float32 [G, C]."""
    out = np.zeros((ROWS, COLUMNS), np.float32)
    cell = np.float32(CELL_CM) * place[SCALE]
    for row in range(ROWS):
        y = min(max(int(place[CORNER + 1] + np.float32(row) * cell + np.float32(0.5)), 0), rgb_HW3.shape[0] - 1)
        for column in range(COLUMNS):
            x = min(max(int(place[CORNER] + np.float32(column) * cell + np.float32(0.5)), 0), rgb_HW3.shape[1] - 1)
            total = logs[rgb_HW3[y, x, 0]] + logs[rgb_HW3[y, x, 1]] + logs[rgb_HW3[y, x, 2]]
            out[row, column] = total * np.float32(1 / 3)
    return out


@kernel
def likeness(own_FF: Floats) -> Floats:
    """The mean over each cell, float32 [G, C]."""
    out = np.zeros((ROWS, COLUMNS), np.float32)
    for row in range(FINE * ROWS):
        for column in range(FINE * COLUMNS):
            out[row // FINE, column // FINE] += own_FF[row, column] * np.float32(1 / FINE**2)
    return out


@kernel
def shares(own_FF: Floats, odds_GC: Floats, zone_GCP: Floats, wider: float, least: float) -> Mask:
    """How far each place takes the face's tone, uint8 [FINE G, FINE C]; soft at edges, where pixels are mixed.

    The soft edge is cut off below `least`, and what is above raised by the factor `wider`.
    """
    sharp = np.zeros(own_FF.shape, np.float32)
    for row in range(FINE, FINE * (ROWS - 1)):
        for column in range(FINE, FINE * (COLUMNS - 1)):
            if zone_GCP[row // FINE, column // FINE, SHARE] <= 0 or own_FF[row, column] < LEAST_OWN:
                continue
            down, over = (row - FINE // 2) / np.float32(FINE), (column - FINE // 2) / np.float32(FINE)
            r, c = int(down), int(over)
            down, over = np.float32(down - r), np.float32(over - c)
            upper = odds_GC[r, c] + over * (odds_GC[r, c + 1] - odds_GC[r, c])
            lower = odds_GC[r + 1, c] + over * (odds_GC[r + 1, c + 1] - odds_GC[r + 1, c])
            part = ramp(upper + down * (lower - upper) + OWN * own_FF[row, column], UNSURE, SURE)
            if part > 0:
                above = zone_GCP[r, c, SHARE] + over * (zone_GCP[r, c + 1, SHARE] - zone_GCP[r, c, SHARE])
                beneath = zone_GCP[r + 1, c, SHARE] + over * (zone_GCP[r + 1, c + 1, SHARE] - zone_GCP[r + 1, c, SHARE])
                sharp[row, column] = part * (above + down * (beneath - above))
    soft = blurred(sharp)
    out = np.empty(own_FF.shape, np.uint8)
    for row in range(FINE * ROWS):
        for column in range(FINE * COLUMNS):
            out[row, column] = np.uint8(
                min(
                    max(soft[row, column] - np.float32(least), np.float32(0)) * np.float32(wider / (1 - least)),
                    np.float32(1),
                )
                * np.float32(255)
                + np.float32(0.5)
            )
    return out


@kernel
def kept_cells(place: Floats, keep_MM: Mask, keep_from_frame: Floats) -> Mask:
    """What stands in front of the face on the grid, uint8 [G, C]: 0 free, 1 covered, 2 not looked at."""
    out = np.empty((ROWS, COLUMNS), np.uint8)
    cell = np.float32(CELL_CM) * place[SCALE]
    for row in range(ROWS):
        y = place[CORNER + 1] + np.float32(row) * cell
        for column in range(COLUMNS):
            x = place[CORNER] + np.float32(column) * cell
            across = int(keep_from_frame[0, 0] * x + keep_from_frame[0, 1] * y + keep_from_frame[0, 2] + 0.5)
            down = int(keep_from_frame[1, 0] * x + keep_from_frame[1, 1] * y + keep_from_frame[1, 2] + 0.5)
            out[row, column] = 2
            if 1 <= across < keep_MM.shape[1] - 1 and 1 <= down < keep_MM.shape[0] - 1:
                out[row, column] = keep_MM[down, across] > 127
    return out


@kernel
def joined(zone_GCP: Floats, like_GC: Floats, kept_GC: Mask, levels_GC: Floats) -> Floats:
    """Log odds of each cell, float32 [G, C]: geometry and colours together where skin joins a cell to the face.

    levels_GC: brightness of the cells, log units. A step of it below the neck is a collar, and no skin joins across.
    Skin that is joined sooner to what stands in front of the face belongs to that: a hand's arm below the chin.
    """
    about = blurred(like_GC)
    out = np.full((ROWS, COLUMNS), NOT_JOINED)
    owner = np.zeros((ROWS, COLUMNS), np.uint8)
    queue, first, last = np.empty(ROWS * COLUMNS, np.int32), 0, 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            role = zone_GCP[row, column, ROLE]
            if kept_GC[row, column] == 1:
                owner[row, column] = THING
            elif role == FACE or (role == NECK and about[row, column] > 1 and kept_GC[row, column] == 0):
                owner[row, column] = OWN_SKIN
            if owner[row, column]:
                queue[last] = row * COLUMNS + column
                last += 1
    while first < last:
        row, column = queue[first] // COLUMNS, queue[first] % COLUMNS
        first += 1
        if owner[row, column] == OWN_SKIN and zone_GCP[row, column, SHARE] > 0:
            out[row, column] = zone_GCP[row, column, LEAN] + CONTEXT * about[row, column]
        for side in range(4):
            r, c = row + (side == 0) - (side == 1), column + (side == 2) - (side == 3)
            if not (0 <= r < ROWS and 0 <= c < COLUMNS) or owner[r, c]:
                continue
            if zone_GCP[r, c, ROLE] == CHEST and abs(levels_GC[r, c] - levels_GC[row, column]) > COLLAR:
                continue
            if zone_GCP[r, c, LEAN] + about[r, c] < 0 or (owner[row, column] == THING and kept_GC[r, c] == 0):
                continue
            owner[r, c] = owner[row, column]
            queue[last] = r * COLUMNS + c
            last += 1
    return out


@kernel
def blurred(plane_GC: Floats) -> Floats:
    """1 2 1 along both axes; the outermost cells are repeated. Plain loops over rows, which are vectorised."""
    rows, columns = plane_GC.shape
    across, out = np.empty_like(plane_GC), np.empty_like(plane_GC)
    quarter, half = np.float32(0.25), np.float32(0.5)
    for row in range(rows):
        for column in range(1, columns - 1):
            sides = plane_GC[row, column - 1] + plane_GC[row, column + 1]
            across[row, column] = quarter * sides + half * plane_GC[row, column]
        across[row, 0], across[row, columns - 1] = across[row, 1], across[row, columns - 2]
    for row in range(1, rows - 1):
        for column in range(columns):
            sides = across[row - 1, column] + across[row + 1, column]
            out[row, column] = quarter * sides + half * across[row, column]
    out[0], out[rows - 1] = out[1], out[rows - 2]
    return out
