"""Is a video marked, and what does the mark say? From frames alone; nothing of the original is needed.

1. Frames are averaged and brought to one height, and what is of a chip's size is kept, in three directions apart, each
   over the square of its local spread: smooth walls count, hair only along itself, edges hardly.
2. The result is folded into one tile and correlated with the chips that are always the same, at every shift.
3. First where the mark lies in an uncropped frame; then, if that is not enough, at every place and some 320 sizes,
   mirrored too.
4. At the best places the code is read; its CRC says whether it was read right.

The scores are in standard deviations over the mark's own random signs, given the picture: what an unmarked picture can
score has a bound that needs no fit (`engines.marks.chance`).

Where that does not find and read it, the same is done with what stands still while the picture moves
(`engines.marks.still`): in a hand-held camera's close-up of hair there is no other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from engines.errors import SettingError
from engines.jit import kernel
from engines.marks.chance import ALARM, found_log10, read_log10
from engines.marks.pattern import (
    CHIPS_ACROSS_SHORTER_SIDE,
    TILE_COLUMNS,
    TILE_ROWS,
    chip_px,
    roles,
    soft_bits,
    spread,
    sync_tile,
)
from engines.marks.payload import Payload, decode_all, encode
from engines.marks.still import standing_still
from engines.types import Floats, Rgb

WORKING_PX = 360  # shorter side at which frames are looked at: a chip of an uncropped frame is then 6 pixels
SAMPLES = 4  # a chip's side in the folded tile
LARGEST_WORKING_PX = 720
CLIP = 2.5
FLOOR = 0.05  # steps of brightness: below this, spread is the codec's rounding
FINE, COARSE, AROUND = 0.15, 0.4, 0.5  # Gaussian widths over a chip's side: what is kept, what is taken off, its spread
SMALLEST, LARGEST, STEP = 0.45, 2.2, 0.005  # size of a chip over that in an uncropped frame
GROUPS = 7  # runs of sizes that are filtered alike
TRIED = 100  # places whose code is read
CHIP_PX = 6.5  # a chip's side where places are sought
MOST_FRAMES = 32
LEAST_PX = 64  # of the shorter side: below, a chip is smaller than a pixel

SIZES = math.ceil(math.log(LARGEST / SMALLEST) / STEP) + 1
AGAIN = 5  # sizes around the likeliest that are tried too
ALIGNED_LOOKS = 9  # places where an uncropped mark may lie
SEARCHED_LOOKS = 2 * SIZES * (1 + AGAIN) * TILE_ROWS * TILE_COLUMNS * SAMPLES**2  # mirrored or not, size, shift
STILL_PX = 360  # shorter side at which it is sought what stands still


@kernel
def luma_of(rgb_HW3: Rgb) -> Floats:
    """Brightness, 0..255: float32 [H, W]."""
    rows, columns = rgb_HW3.shape[:2]
    out = np.empty((rows, columns), np.float32)
    for y in range(rows):
        for x in range(columns):
            red, green, blue = rgb_HW3[y, x, 0], rgb_HW3[y, x, 1], rgb_HW3[y, x, 2]
            out[y, x] = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return out


@kernel
def resized(plane_HW: Floats, height_px: int, width_px: int) -> Floats:
    """Another size: a mean with falling weights where it shrinks, straight lines where it grows."""
    rows, columns = plane_HW.shape
    across = np.empty((rows, width_px), np.float32)
    out = np.zeros((height_px, width_px), np.float32)
    scale_x, scale_y = columns / width_px, rows / height_px
    reach_x, reach_y = max(scale_x, 1.0), max(scale_y, 1.0)
    for x in range(width_px):
        centre = (x + 0.5) * scale_x - 0.5
        first, last = math.ceil(centre - reach_x), math.floor(centre + reach_x)
        weights = 0.0
        for k in range(first, last + 1):
            weights += 1 - abs(k - centre) / reach_x
        for y in range(rows):
            total = 0.0
            for k in range(first, last + 1):
                total += (1 - abs(k - centre) / reach_x) * plane_HW[y, min(max(k, 0), columns - 1)]
            across[y, x] = total / weights
    for y in range(height_px):
        centre = (y + 0.5) * scale_y - 0.5
        weights = 0.0
        for k in range(math.ceil(centre - reach_y), math.floor(centre + reach_y) + 1):
            share = 1 - abs(k - centre) / reach_y
            weights += share
            row = min(max(k, 0), rows - 1)
            for x in range(width_px):
                out[y, x] += np.float32(share) * across[row, x]
        for x in range(width_px):
            out[y, x] /= np.float32(weights)
    return out


@kernel
def box_mean(plane_HW: Floats, reach_px: int) -> Floats:
    """Mean over a square of 2 * reach + 1 pixels, cut off at the edges."""
    rows, columns = plane_HW.shape
    across = np.empty((rows, columns), np.float32)
    for y in range(rows):
        total = 0.0
        for x in range(min(reach_px, columns)):
            total += plane_HW[y, x]
        for x in range(columns):
            if x + reach_px < columns:
                total += plane_HW[y, x + reach_px]
            if x - reach_px - 1 >= 0:
                total -= plane_HW[y, x - reach_px - 1]
            across[y, x] = total / (min(x + reach_px, columns - 1) - max(x - reach_px, 0) + 1)
    out = np.empty((rows, columns), np.float32)
    sums = np.zeros(columns, np.float64)
    for y in range(min(reach_px, rows)):
        for x in range(columns):
            sums[x] += across[y, x]
    for y in range(rows):
        if y + reach_px < rows:
            for x in range(columns):
                sums[x] += across[y + reach_px, x]
        if y - reach_px - 1 >= 0:
            for x in range(columns):
                sums[x] -= across[y - reach_px - 1, x]
        count = min(y + reach_px, rows - 1) - max(y - reach_px, 0) + 1
        for x in range(columns):
            out[y, x] = sums[x] / count
    return out


def chips_kept(luma_HW: Floats, side_px: float) -> Floats:
    """What is of a chip's size, in three directions apart (across, down, both), each over the square of its own local
    spread: what a mark of even strength weighs at best. Hair and cloth run one way, so the other two stay clean.
    """
    fine, coarse, around = FINE * side_px, COARSE * side_px, AROUND * side_px
    both = gaussian_filter(luma_HW, fine, truncate=2.5)
    down, across = (gaussian_filter(luma_HW, sigma, truncate=2.5) for sigma in ((fine, coarse), (coarse, fine)))
    neither = gaussian_filter(luma_HW, coarse, truncate=2.5)
    kept = np.zeros_like(luma_HW)
    for band in (across - neither, down - neither, both - down - across + neither):
        spread_HW = np.sqrt(gaussian_filter(band * band, around, truncate=2.0)) + np.float32(FLOOR)
        kept += np.clip(band / spread_HW, -CLIP, CLIP) / spread_HW
    return kept


@kernel
def fold(plane_HW: Floats, rows: int, columns: int, samples_per_px: float) -> Floats:
    """Sums a plane into one tile of [rows, columns] samples, upper left corner on upper left corner, repeating."""
    out = np.zeros((rows, columns), np.float32)
    place = np.empty(plane_HW.shape[1], np.int64)
    for x in range(plane_HW.shape[1]):
        place[x] = int((x + 0.5) * samples_per_px) % columns
    for y in range(plane_HW.shape[0]):
        row = int((y + 0.5) * samples_per_px) % rows
        for x in range(plane_HW.shape[1]):
            out[row, place[x]] += plane_HW[y, x]
    return out


class Known:
    """Chips that are always the same, as they are sought in a folded tile: sign float32 [TILE_ROWS, TILE_COLUMNS], 0
    where a chip carries the code.
    """

    def __init__(self, tile: Floats) -> None:
        size = TILE_ROWS * SAMPLES, TILE_COLUMNS * SAMPLES
        one = np.zeros_like(tile)
        one[0, 0] = 1
        self.shape = _conjugate(spread(one, *size, SAMPLES))
        ways = np.zeros((2, *size), np.float32)
        ways[:, ::SAMPLES, ::SAMPLES] = tile, tile[:, ::-1]
        self.signs, self.places = _conjugate(ways), _conjugate(np.abs(ways))

    def scores(self, folded: Floats, ways: int = 1) -> Floats:
        """How well they fit at each shift of the tile: float32 [ways, rows, columns], in standard deviations over their
        signs. At each shift that is the sum of sign times what the tile holds where the chip lies, over the root of
        the sum of its squares there. ways: 1, or 2 for the mirrored chips too.
        """
        transformed = rfft2(folded - folded.mean()) * self.shape
        held = irfft2(transformed, folded.shape)
        sums = irfft2(transformed * self.signs[:ways], folded.shape)
        squares = irfft2(rfft2(held * held) * self.places[:ways], folded.shape)
        least = np.float32(1e-6) * np.maximum(squares.max(), np.float32(1e-9))
        return np.asarray(sums / np.sqrt(np.maximum(squares, least)), np.float32)


def _conjugate(plane: Floats) -> NDArray[np.complex64]:
    return np.asarray(np.conj(rfft2(plane)), np.complex64)


@lru_cache(maxsize=1)
def known() -> Known:
    """The mark's own known chips."""
    return Known(sync_tile())


def read(folded: Floats, row: int, column: int, mirrored: bool) -> Floats:
    """The chips of a tile that lies at a shift, float32 [TILE_ROWS, TILE_COLUMNS]."""
    tile = np.roll(folded, (-row, -column), (0, 1))
    if mirrored:
        tile = tile[:, ::-1]
    smooth = box_mean(np.ascontiguousarray(tile), 1)
    middle = SAMPLES // 2
    return np.asarray(smooth[middle - 1 :: SAMPLES, middle - 1 :: SAMPLES] + smooth[middle::SAMPLES, middle::SAMPLES])


def code_at(folded: Floats, row: int, column: int, mirrored: bool) -> Floats:
    """What each coded bit would be there, float32 [CODED_BITS]: its product with a word is the score of that word."""
    chips = read(folded, row, column, mirrored)
    strength = np.linalg.norm(chips.ravel()[roles() >= 0])
    return np.asarray(soft_bits(chips) / np.float32(max(float(strength), 1e-9)), np.float32)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in a video.

    marked                whether it carries the mark, at no more than ALARM false alarms a clip
    confidence            0..1, one less the chance that an unmarked clip looks as marked as this one
    false_positive_log10  that chance, as a power of ten
    payload               what the mark says; None where there is none, or it is too weak to be read
    frames                frames that were looked at
    bit_errors            share of the code's bits that arrived wrong; None where there is no payload
    scale                 size of the mark over that in an uncropped frame of this size
    mirrored              whether it was found mirrored
    turned                degrees, anticlockwise, by which the pictures have to be turned to lie as the mark does
    why                   one sentence for a person
    """

    marked: bool
    confidence: float
    false_positive_log10: float
    payload: Payload | None
    frames: int
    bit_errors: float | None = None
    scale: float = 1.0
    mirrored: bool = False
    turned: int = 0
    score: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the mark may lie: size of its chips over that in an uncropped frame, shift of the tile in samples, and what
    each coded bit would be there, float32 [CODED_BITS] as of `code_at`.
    """

    score: float
    scale: float
    row: int
    column: int
    mirrored: bool
    soft: Floats


class Gathered:
    """Brightness of frames, spread over however many come: every frame at first, then every second, every fourth."""

    def __init__(self, most: int) -> None:
        self.most, self.every, self.seen = most, 1, 0
        self.luma: list[Floats] = []

    def mean(self) -> Floats:
        """All that was gathered as one picture: the mark stays where it is, noise and what moves do not."""
        return np.asarray(np.mean(self.luma, axis=0), np.float32)

    def at_most(self, shorter_px: int) -> list[Floats]:
        """The frames themselves, made smaller where they are larger."""
        height, width = self.luma[0].shape
        size = min(shorter_px / min(height, width), 1.0)
        if size == 1:
            return self.luma
        return [resized(plane, round(height * size), round(width * size)) for plane in self.luma]

    def add(self, rgb_HW3: Rgb) -> None:
        if min(rgb_HW3.shape[:2]) < LEAST_PX:
            raise SettingError(f"frames of {list(rgb_HW3.shape[:2])} pixels are too small to hold a mark")
        if self.seen % self.every == 0:
            if len(self.luma) == self.most:
                self.luma, self.every = self.luma[::2], self.every * 2
            if self.seen % self.every == 0:
                luma = _working(rgb_HW3)
                same = not self.luma or luma.shape == self.luma[0].shape
                self.luma.append(luma if same else resized(luma, *self.luma[0].shape))
        self.seen += 1


def _working(rgb_HW3: Rgb) -> Floats:
    height, width = rgb_HW3.shape[:2]
    shrink = min(LARGEST_WORKING_PX / min(height, width), 1.0)
    luma = luma_of(np.ascontiguousarray(rgb_HW3))
    return luma if shrink == 1 else resized(luma, round(height * shrink), round(width * shrink))


def plane_at(luma_HW: Floats, shorter_px: int, scale: float) -> Floats:
    """What a picture says about chips of about that scale, with the shorter side brought to `shorter_px`."""
    height, width = luma_HW.shape
    size = shorter_px / min(height, width)
    rows, columns = round(height * size), round(width * size)
    return chips_kept(resized(luma_HW, rows, columns), scale * chip_px(rows, columns))


def folded_at(plane: Floats, scale: float) -> Floats:
    """A plane in one tile, of chips of a size."""
    return fold(plane, TILE_ROWS * SAMPLES, TILE_COLUMNS * SAMPLES, SAMPLES / (scale * chip_px(*plane.shape)))


def aligned(luma_HW: Floats) -> Place:
    """The mark where it lies in an uncropped frame, give or take a quarter of a chip."""
    folded = folded_at(plane_at(luma_HW, WORKING_PX, 1.0), 1.0)
    scores = known().scores(folded)[0]
    near = [(float(scores[row, column]), row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    score, row, column = max(near)
    return Place(score, 1.0, row, column, False, code_at(folded, row, column, False))


def searched(luma_HW: Floats, chips: Known | None = None) -> list[Place]:
    """The likeliest places anywhere, at any size, best first. chips: others than the mark's, to measure chance by."""
    chips = chips or known()
    found: list[Place] = []
    for scales in _groups():
        found = _best([*found, *_places(luma_HW, scales, chips)])
    best = found[0]
    again = best.scale * np.exp(STEP / 2 * (np.arange(AGAIN) - AGAIN // 2)).astype(np.float32)
    return _best([*found, *_places(luma_HW, again, chips)])


def _places(luma_HW: Floats, scales: Floats, chips: Known) -> Iterator[Place]:
    """The likeliest place at each of a few sizes that are filtered alike."""
    middle = float(scales[len(scales) // 2])
    shorter_px = min(round(CHIP_PX * CHIPS_ACROSS_SHORTER_SIDE / middle), *luma_HW.shape)  # growing brings nothing
    plane = plane_at(luma_HW, shorter_px, middle)
    for scale in scales:
        folded = folded_at(plane, float(scale))
        for mirrored, scores in zip((False, True), chips.scores(folded, 2)):
            row, column = np.unravel_index(int(scores.argmax()), scores.shape)
            soft = code_at(folded, int(row), int(column), mirrored)
            yield Place(float(scores[row, column]), float(scale), int(row), int(column), mirrored, soft)


def _best(places: list[Place]) -> list[Place]:
    return sorted(places, key=lambda place: -place.score)[:TRIED]


def _groups() -> list[Floats]:
    """All sizes that are tried, in runs that are filtered alike."""
    return np.array_split((SMALLEST * np.exp(STEP * np.arange(SIZES))).astype(np.float32), GROUPS)


def _judged(places: list[Place], looks: int, frames: int) -> Finding:
    """The verdict on the likeliest of so many places, best first."""
    best = places[0]
    alarm, payload, errors = found_log10(best.score, looks), None, None
    for place, said in zip(places, decode_all(np.stack([place.soft for place in places]))):
        if said is not None:
            payload, best, word = said, place, encode(said)
            errors = float(np.mean(np.sign(place.soft) != word))
            alarm = min(alarm, read_log10(place.score, float(place.soft @ word), looks, len(places)))
            break
    marked = alarm <= math.log10(ALARM)
    if not marked:
        why = "no mark was found"
    elif payload is None:
        why = "the mark is there, but too weak to be read"
    else:
        why = "the mark is there and was read"
    return Finding(
        marked,
        1 - 10**alarm,
        alarm,
        payload if marked else None,
        frames,
        errors if marked else None,
        best.scale,
        best.mirrored,
        score=best.score,
        why=why,
    )


def detect_mark(frames: Iterable[Rgb], most_frames: int = MOST_FRAMES, search: bool = True) -> Finding:
    """Looks for the invisible mark.

    frames       uint8 [H, W, 3], in order; two seconds of a clip are enough, more find weaker marks. Where a call
                 changes its size, the mark changes with it: frames of other sizes are brought to that of the first
    most_frames  how many are looked at, spread evenly over all
    search       also where the picture was cropped, put into another, or mirrored: about two seconds of processor time

    Raises SettingError where there is no frame, or one is under 64 pixels high or wide.
    """
    gathered = Gathered(most_frames)
    for frame in frames:
        gathered.add(frame)
    if not gathered.luma:
        raise SettingError("there is no frame to look at")
    mean_HW = gathered.mean()
    found = _looked(mean_HW, len(gathered.luma), search)
    if search and not (found.marked and found.payload):
        still_HW = standing_still(gathered.at_most(STILL_PX))
        if still_HW is not None:
            found = _better(found, _looked(still_HW, len(gathered.luma), search))
    return found if found.marked else _turned(mean_HW, found)


def _turned(mean_HW: Floats, found: Finding) -> Finding:
    """As a phone that is held across stores it, and says so or does not: whole frames, turned by quarters."""
    for quarters in (1, 2, 3):
        upright = aligned(np.ascontiguousarray(np.rot90(mean_HW, quarters)))
        found = _better(found, replace(_judged([upright], 3 * ALIGNED_LOOKS, found.frames), turned=90 * quarters))
    return found


def _looked(luma_HW: Floats, frames: int, search: bool) -> Finding:
    """What one picture says: where the mark lies if nothing was cut off, then anywhere."""
    found = _judged([aligned(luma_HW)], ALIGNED_LOOKS, frames)
    if search and not (found.marked and found.payload):
        found = _better(found, _judged(searched(luma_HW), SEARCHED_LOOKS, frames))
    return found


def _better(found: Finding, other: Finding) -> Finding:
    return other if other.marked and (other.payload or not found.marked) else found
