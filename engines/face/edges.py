"""Faces that come in over the left or right edge, seen before a whole face is in view.

Detectors know whole faces: at 640x480 they first see a newcomer when 80 to 100 % of the face is in view. Faces are
symmetric, though: a piece of the picture that is continued beyond the edge by its own mirror image shows a whole, if
narrow, face from a third of it on, and the piece is closer, too. What is found so is good enough for hiding only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from engines.face.detect import Detection, detections, detector_graph, overlap
from engines.face.mediapipe_graph import Graph, Packet, image_packet
from engines.face.motion import COLUMNS, ROWS, Cells
from engines.types import Box, Rgb

Edge = Literal["left", "right"]

EDGE_SCORE = 0.45  # of the short-range detector in a window: hands and background reach it often
CONFIRMED = 0.35  # of the full-range detector in the same window: background never, hands rarely
BAND = 0.1  # of the picture's width: what moves here may come in
MIRRORED = 1 / 3  # of a window's side, beyond the edge
HEADROOM = 0.2  # of a window's side, above what moves: it moved before as well
LEAST_SIDE_PX = 60
LEAST_CELLS = 3
BEYOND = 0.2  # of a face's width: a face whose middle is further outside is the mirror's


@dataclass(frozen=True, slots=True)
class Window:
    """A square at an edge of the picture."""

    edge: Edge
    top_px: int
    side_px: int

    @property
    def margin_px(self) -> int:
        return round(self.side_px * MIRRORED)

    @property
    def shape_px(self) -> tuple[int, int]:
        """Height and width with what is mirrored."""
        return self.side_px, self.side_px + self.margin_px


class EdgeDetector:
    """The short-range detector in windows at the edges; what it finds must convince the full-range one as well.

    `feed` starts the first, `collect` waits for it and asks the second where there is something to ask.
    """

    def __init__(self) -> None:
        self._graphs = [detector_graph("ShortRange", EDGE_SCORE) for _ in range(2 * len(get_args(Edge)))]
        self._second = detector_graph("FullRange", CONFIRMED)
        self._fed: list[tuple[Graph, Window, Packet]] = []

    def feed(self, rgb_HW3: Rgb, moving: Cells) -> None:
        """Starts looking at the edges where something moves."""
        height_px, width_px = rgb_HW3.shape[:2]
        self._fed = []
        chosen = [one for edge in get_args(Edge) for one in windows(moving, height_px, width_px, edge)]
        for graph, window in zip(self._graphs, chosen):
            image = image_packet(cut_out(rgb_HW3, window))
            graph.feed({"image": image})
            self._fed.append((graph, window, image))

    def collect(self, width_px: int, worth: Callable[[Box], bool]) -> list[Detection]:
        """What may be a face at an edge, in the picture's coordinates; the same face may be there twice.

        worth   whether a face at this place would be news
        """
        found: list[Detection] = []
        for graph, window, image in self._fed:
            seen = detections(graph, *window.shape_px)
            placed = [(one, put_back(one, window, width_px)) for one in seen]
            news = [(one, there) for one, there in placed if there is not None and worth(there.box_px)]
            if news:
                self._second.feed({"image": image})
                others = detections(self._second, *window.shape_px)
                found += [there for one, there in news if any(alike(one.box_px, other.box_px) for other in others)]
        self._fed = []
        return found

    def close(self) -> None:
        for graph in (*self._graphs, self._second):
            graph.close()


def alike(a: Box, b: Box) -> bool:
    """Whether two detectors mean the same face, be it that one of them sees it half as large."""
    return overlap(a, b) > 0.5 and 0.5 < a.width_px / max(b.width_px, 1e-6) < 2.0


def in_band(box_px: Box, width_px: int) -> bool:
    """Whether a box touches what is near the left or right edge."""
    return box_px.left_px < BAND * width_px or box_px.right_px > (1 - BAND) * width_px


def windows(moving: Cells, height_px: int, width_px: int, edge: Edge) -> tuple[Window, ...]:
    """Where to look closely at one edge: the upper end of what moves there, and all of it. Nowhere if all is still.

    A large window sees large faces, a small one small ones; heads are on top of what walks in.
    """
    band = max(round(BAND * COLUMNS), 1)
    rows = (moving[:, :band] if edge == "left" else moving[:, -band:]).any(axis=1)
    large_px = min(height_px, width_px * 3 // 4)
    if int(rows.sum()) < LEAST_CELLS or large_px < LEAST_SIDE_PX:
        return ()
    first_px = int(np.argmax(rows)) * height_px // ROWS
    found = []
    for side_px in (large_px // 2, large_px):
        top_px = min(max(first_px - round(HEADROOM * side_px), 0), height_px - side_px)
        found.append(Window(edge, top_px, side_px))
    return tuple(found)


def cut_out(rgb_HW3: Rgb, window: Window) -> Rgb:
    """The window's pixels, continued beyond the edge by their mirror image. A new uint8 picture."""
    rows = rgb_HW3[window.top_px : window.top_px + window.side_px]
    if window.edge == "left":
        piece = rows[:, : window.side_px]
        return np.ascontiguousarray(np.concatenate((piece[:, : window.margin_px][:, ::-1], piece), axis=1))
    piece = rows[:, -window.side_px :]
    return np.ascontiguousarray(np.concatenate((piece, piece[:, -window.margin_px :][:, ::-1]), axis=1))


def put_back(detection: Detection, window: Window, width_px: int) -> Detection | None:
    """A detection in a window as one in the picture; None for one that is the mirror's alone."""
    x_px = -window.margin_px if window.edge == "left" else width_px - window.side_px
    y_px = window.top_px
    box = detection.box_px
    box = Box(box.left_px + x_px, box.top_px + y_px, box.right_px + x_px, box.bottom_px + y_px)
    middle_px = (box.left_px + box.right_px) / 2
    if not -BEYOND * box.width_px <= middle_px <= width_px + BEYOND * box.width_px:
        return None
    (left_x, left_y), (right_x, right_y) = detection.picture_left_eye_px, detection.picture_right_eye_px
    return replace(
        detection,
        box_px=box,
        picture_left_eye_px=(left_x + x_px, left_y + y_px),
        picture_right_eye_px=(right_x + x_px, right_y + y_px),
    )
