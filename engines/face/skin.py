"""The driver's skin around the face in the tone of the face that is drawn: learned from the stream, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.face.compose import as_byte, kept
from engines.face.mesh import Pose
from engines.face.skin_colour import (
    LEAST_TRUST,
    LEVEL,
    LEVEL_SPREAD,
    RED,
    YELLOW,
    add_samples,
    counted,
    logarithms,
    neck_weights,
    skin_body,
    skin_table,
    softened,
    strange_weights,
)
from engines.face.skin_tone import SkinTone, skin_share, toned
from engines.face.skin_zone import (
    BESIDE,
    COLUMNS,
    CROWN,
    MIDDLE,
    NECK,
    NECK_RAMP,
    ROWS,
    SCALE,
    SHARES_GRID,
    colours_of,
    geometry,
    joined,
    kept_cells,
    levels,
    likeness,
    own_odds,
    shares,
    zone,
)
from engines.jit import inlined, kernel
from engines.types import Floats, Mask, Rgb

FACE_MEMORY_S, NECK_MEMORY_S, SURROUNDINGS_MEMORY_S, CELL_MEMORY_S = 0.5, 0.7, 1.5, 0.15
FORGET_S = 1.0  # whoever was away for longer is learned anew
TABLE_S = 0.15  # how often the table is made: what it is made of changes slowly
SAMPLES = 48  # of the surroundings, along the picture's longer side
LEAST_WEIGHT = 8.0  # landmarks' worth of skin, below which a frame teaches nothing about the face
LEAST_BESIDE = np.float32(0.7)  # of a sample beside the head counts even where it is like skin: only a bald head is
MOST_GAIN = 4.0
TINT_OF_NECK, LEVEL_OF_NECK = 0.6, 0.6  # how far the neck's own tint and greater brightness give way to the face's
MOST_TINT = 0.25  # log units that are made up for
BODY_CM = np.array([[-13.0, -20.0], [13.0, 32.0]], np.float32)  # from the face's middle: head, neck, perhaps bare chest
# Pixels at an edge are part skin and look like none. A pale rim about darkened skin shows, and so does a glowing one
# where a wall beside brightened skin is touched.
DARKENED_EDGE, BRIGHTENED_EDGE = (1.45, 0.0), (1.0, 0.25)  # `wider` and `least` of engines.face.skin_zone.shares
NOTHING_BEFORE = np.zeros((ROWS, COLUMNS), np.float32)


@dataclass(frozen=True, slots=True)
class SkinSample:
    """What one frame shows of the face's skin.

    pose      of the head
    rgb_V3    float32, 0..255, the landmarks' colours; weight_V how far each is plain skin that can be seen
    """

    pose: Pose
    rgb_V3: Floats
    weight_V: Floats


@dataclass(slots=True)
class SkinState:
    """What is remembered of one driver's skin and surroundings."""

    face: Floats | None = None
    neck: Floats | None = None
    trust: float = 0.0  # that the neck's place shows skin
    neck_gain_3: Floats | None = None
    surroundings_RYL: Floats | None = None
    table_RYL: Floats | None = None
    cells_GC: Floats | None = None
    table_s: float = 0.0
    seen_s: float = 0.0


def observe(
    state: SkinState,
    rgb_HW3: Rgb,
    points_px: Floats,
    sample: SkinSample,
    captured_s: float,
    gain_23: Floats,
    keep_MM: Mask,
    keep_from_frame: Floats,
    hairy: bool,
) -> SkinTone | None:
    """Learns from a frame, and gives what its pixels are toned by; None where no skin was seen yet.

    gain_23                   haze and gain of the face, see `gain_above`
    keep_MM, keep_from_frame  what stands in front, see engines.face.compose.lay_face
    hairy                     whether the driver's own hair hangs into the face
    """
    elapsed_s = captured_s - state.seen_s
    if not 0 <= elapsed_s <= FORGET_S:
        state.face = state.neck = state.surroundings_RYL = state.table_RYL = state.cells_GC = None
    state.seen_s = captured_s
    place = geometry(points_px, sample.pose.px_per_cm, sample.pose.rotation_33)
    cells = zone(points_px, place, hairy)
    due = state.table_RYL is None or captured_s - state.table_s >= TABLE_S
    if due and sample.weight_V.sum() > LEAST_WEIGHT:
        _learn(state, rgb_HW3, sample, cells, place, captured_s)
    if state.table_RYL is None or state.face is None or state.neck_gain_3 is None:
        return None
    lowest = float(state.face[LEVEL] - 1.5 * state.face[LEVEL_SPREAD])
    before = NOTHING_BEFORE if state.cells_GC is None else state.cells_GC
    own = own_odds(rgb_HW3, cells, place, state.table_RYL, logarithms(), lowest, before)
    bright = levels(rgb_HW3, place, logarithms())
    now = joined(cells, likeness(own), kept_cells(place, keep_MM, keep_from_frame), bright)
    state.cells_GC = _towards(state.cells_GC, now, elapsed_s, CELL_MEMORY_S)
    gains = np.empty((3, 3), np.float32)
    gains[:2], gains[2] = gain_23, gain_23[1] * state.neck_gain_3
    edge = DARKENED_EDGE if gain_23[1].mean() < 1 else BRIGHTENED_EDGE
    return SkinTone(shares(own, state.cells_GC, cells, *edge), place[SHARES_GRID:NECK_RAMP], gains, place[NECK_RAMP:])


def _neck_gain(face: Floats, neck: Floats | None, trust: float) -> Floats:
    """What takes the neck's colour towards the face's, float32 [3]: a red face stays no redder than its neck.

    The tint in part; brightness only where the neck is brighter than the face, since shadow is no tone of skin.
    """
    if neck is None or trust <= LEAST_TRUST:
        return np.ones(3, np.float32)
    off = face - neck
    red, yellow = TINT_OF_NECK * np.clip(off[[RED, YELLOW]], -MOST_TINT, MOST_TINT)
    level = LEVEL_OF_NECK * float(np.clip(off[LEVEL], -MOST_TINT, 0))
    green = level - (red - yellow) / 3  # so that the mean over the channels is the level's
    gain: Floats = np.exp(min(2 * trust, 1.0) * np.array([green + red, green, green - yellow])).astype(np.float32)
    return gain


def _towards(before: Floats | None, now: Floats, elapsed_s: float, memory_s: float) -> Floats:
    if before is None:
        return now
    mixed: Floats = before + np.float32(1 - np.exp(-elapsed_s / memory_s)) * (now - before)
    return mixed


def _learn(
    state: SkinState, rgb_HW3: Rgb, sample: SkinSample, cells_GCP: Floats, place: Floats, captured_s: float
) -> None:
    """Face, neck, surroundings and the table that is made of them all."""
    elapsed_s, fresh = captured_s - state.table_s, state.table_RYL is None
    face = _towards(state.face, skin_body(sample.rgb_V3, sample.weight_V), elapsed_s, FACE_MEMORY_S)
    neck = colours_of(rgb_HW3, cells_GCP, place, float(NECK))
    weights = neck_weights(neck, face)
    share = float(weights.mean()) if len(weights) else 0.0
    if share > LEAST_TRUST:
        state.neck = _towards(state.neck, skin_body(neck, weights), elapsed_s, NECK_MEMORY_S)
    state.trust += (1.0 if fresh else 1 - math.exp(-elapsed_s / NECK_MEMORY_S)) * (share - state.trust)
    step_px = max(max(rgb_HW3.shape[:2]) // SAMPLES, 1)
    counts = counted(rgb_HW3, logarithms(), step_px, place[MIDDLE : MIDDLE + 2] + place[SCALE] * BODY_CM)
    crown, beside = (colours_of(rgb_HW3, cells_GCP, place, float(role)) for role in (CROWN, BESIDE))
    add_samples(counts, crown, strange_weights(crown, face))
    add_samples(counts, beside, np.maximum(strange_weights(beside, face), LEAST_BESIDE))
    state.surroundings_RYL = _towards(state.surroundings_RYL, softened(counts), elapsed_s, SURROUNDINGS_MEMORY_S)
    neck_body = face if state.neck is None else state.neck
    state.table_RYL = skin_table(face, neck_body, min(2 * state.trust, 1.0), state.surroundings_RYL)
    state.face, state.neck_gain_3 = face, _neck_gain(face, state.neck, state.trust)
    state.table_s = captured_s


def gain_above(haze: float, mean_3: Floats, gain_3: Floats) -> Floats:
    """Haze and gain, float32 [2, 3], so that skin of the mean colour (0..255) is multiplied by `gain` as a whole."""
    black = np.minimum(np.float32(haze), 0.5 * np.minimum(mean_3, mean_3 * gain_3))
    above = np.clip((mean_3 * gain_3 - black) / np.maximum(mean_3 - black, 1.0), 1 / MOST_GAIN, MOST_GAIN)
    gain: Floats = np.stack([black, above]).astype(np.float32)
    return gain


@kernel
def tone_beside(
    onto_HW3: Rgb,
    frame_HW3: Rgb,
    skin: SkinTone,
    done_hw: Mask,
    at_4: NDArray[np.int64],
    keep_MM: Mask,
    keep_from_frame: Floats,
) -> None:
    """Tones the driver's skin in `onto` where the proxy's drawing is not.

    done_hw: uint8, not 0 where the drawing is
    at_4: where its upper left pixel lies in the frame, x and y; the first row to be toned and the first that is not
    keep_MM, keep_from_frame: see engines.face.compose.lay_face
    """
    covered, spans, line = keep_MM.max() > 0, open_spans(skin), np.empty(skin.share_FF.shape[1], np.float32)
    for y in range(max(at_4[2], 0), min(at_4[3], frame_HW3.shape[0])):
        left, right = open_columns(skin, spans, np.float32(y), frame_HW3.shape[1])
        if left >= right:
            continue
        share_line(skin, np.float32(y), line)
        row = y - at_4[1]
        drawn = 0 <= row < done_hw.shape[0]
        for x in range(left, right):
            column = x - at_4[0]
            if drawn and 0 <= column < done_hw.shape[1] and done_hw[row, column]:
                continue
            across = (np.float32(x) - skin.grid_3[0]) * skin.grid_3[2]
            if not 0 <= across < np.float32(line.shape[0] - 1):
                continue
            cell = np.uint32(np.int32(across))
            share = line[cell] + (across - np.float32(cell)) * (line[cell + np.uint32(1)] - line[cell])
            if share > 0 and covered:
                share *= np.float32(1) - kept(keep_MM, keep_from_frame, np.float32(x), np.float32(y))
            if share > 0:
                tone_pixel(onto_HW3, frame_HW3, x, y, share, skin)


@inlined
def share_line(skin: SkinTone, y: np.float32, line: Floats) -> None:
    """The shares along a row of the frame, at their own places across; written into `line`."""
    at = (y - skin.grid_3[1]) * skin.grid_3[2]
    row = np.uint32(np.int32(at))
    down = at - np.float32(row)
    for column in range(line.shape[0]):
        upper, lower = np.float32(skin.share_FF[row, column]), np.float32(skin.share_FF[row + np.uint32(1), column])
        line[column] = (upper + down * (lower - upper)) * np.float32(1 / 255)


@kernel
def tone_around(
    onto_HW3: Rgb,
    frame_HW3: Rgb,
    skin: SkinTone,
    alpha_SS: Floats,
    crop_from_frame: Floats,
    keep_MM: Mask,
    keep_from_frame: Floats,
) -> None:
    """Tones the driver's skin in `onto` around a crop that was pasted into it.

    alpha_SS, crop_from_frame: how solid the crop lies, 0..1, and where
    keep_MM, keep_from_frame: see engines.face.compose.lay_face
    """
    covered, spans, size = keep_MM.max() > 0, open_spans(skin), np.float32(alpha_SS.shape[0] - 1)
    a = crop_from_frame
    for y in range(frame_HW3.shape[0]):
        left, right = open_columns(skin, spans, np.float32(y), frame_HW3.shape[1])
        for x in range(left, right):
            share = skin_share(np.float32(x), np.float32(y), skin)
            if share > 0 and covered:
                share *= np.float32(1) - kept(keep_MM, keep_from_frame, np.float32(x), np.float32(y))
            across = a[0, 0] * np.float32(x) + a[0, 1] * np.float32(y) + a[0, 2]
            down = a[1, 0] * np.float32(x) + a[1, 1] * np.float32(y) + a[1, 2]
            if share > 0 and 0 <= across <= size and 0 <= down <= size:
                share *= np.float32(1) - alpha_SS[int(down + np.float32(0.5)), int(across + np.float32(0.5))]
            if share > 0:
                tone_pixel(onto_HW3, frame_HW3, x, y, share, skin)


@kernel
def open_spans(skin: SkinTone) -> NDArray[np.int32]:
    """The first place of each row of the shares in which skin may be toned, and the last: int32 [rows, 2]."""
    rows, columns = skin.share_FF.shape
    out = np.empty((rows, 2), np.int32)
    for row in range(rows):
        first, last = columns, -1
        for column in range(columns):
            if skin.share_FF[row, column] > 0:
                first, last = min(first, column), column
        out[row, 0], out[row, 1] = first, last
    return out


@inlined
def open_columns(skin: SkinTone, spans: NDArray[np.int32], y: np.float32, width_px: int) -> tuple[int, int]:
    """The first column of a row of the frame in which skin may be toned, and the first after them all."""
    at = (y - skin.grid_3[1]) * skin.grid_3[2]
    if not 0 <= at < np.float32(spans.shape[0] - 1):
        return 0, 0
    row, pitch = int(at), np.float32(1) / skin.grid_3[2]
    first, last = min(spans[row, 0], spans[row + 1, 0]), max(spans[row, 1], spans[row + 1, 1])
    left, right = int(skin.grid_3[0] + (first - 1) * pitch), int(skin.grid_3[0] + (last + 1) * pitch) + 2
    return max(left, 0), min(right, width_px) if last >= 0 else 0


@inlined
def tone_pixel(onto_HW3: Rgb, frame_HW3: Rgb, x: int, y: int, share: np.float32, skin: SkinTone) -> None:
    """Adds what the tone changes of the camera's pixel to what lies in `onto`."""
    own = np.float32(frame_HW3[y, x, 0]), np.float32(frame_HW3[y, x, 1]), np.float32(frame_HW3[y, x, 2])
    new = toned(own[0], own[1], own[2], np.float32(x), np.float32(y), share, skin)
    onto_HW3[y, x, 0] = as_byte(np.float32(onto_HW3[y, x, 0]) + new[0] - own[0])
    onto_HW3[y, x, 1] = as_byte(np.float32(onto_HW3[y, x, 1]) + new[1] - own[1])
    onto_HW3[y, x, 2] = as_byte(np.float32(onto_HW3[y, x, 2]) + new[2] - own[2])
