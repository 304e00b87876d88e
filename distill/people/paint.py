"""The pictures that skins, brows, eyes and hair are painted with, read and prepared once.

Legend: S pictures of pixels [S, S]; channels last in NumPy, first in tensors. Colours are linear light or CIE Lab.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from distill.people.meshes import F32, I64, HeadMesh
from distill.people.rasterise import EMPTY, Screen, Triangles, empty_buffer, place, rasterise, triangle_of, weights
from distill.people.texture import Pyramid, pyramid

Mask = NDArray[np.bool_]

SKIN_PX = 512
NOISE_PX = 512
BROW_PX = 1024
CARD_PX = 512
LEAST_COVER, SOLID = 8, 15 * 15 + 8  # of 255: a card's texel covers no sample up to the first, all beyond the second
IRIS_PX = 128
LASH_STRIPS = (  # v of the roots, v of the tips, strength; the first three are the lower lid's
    (0.155, 0.015, 0.5), (0.32, 0.185, 0.45), (0.49, 0.345, 0.5), (0.655, 0.52, 1), (0.82, 0.685, 1), (0.96, 0.85, 1),
)  # fmt: skip
# Channels
LIPS, SHADOW, BEARD, FRECKLES = range(4)  # of `marks`
SLOPE_U, SLOPE_V, DOTS, GRAIN = range(4)  # of `relief`
SPOTS, BLOTCH, FLUSH = range(3)  # of `tints`


@dataclass(frozen=True)
class Paint:
    """Names and tables.

    skins   Lab; first the faces, then the backs of the heads
    marks   where lips, eye make-up, beard and freckles are, 0..1, on the face's texture
    relief  repeats: slopes of the skin's pores and folds, stubble, fine changes of lightness of about -1..1
    tints   repeats, over longer ways: freckles, two slow ones of about -1..1
    brows   cover and brightness, on the face's texture between `brow_window` (u, v of its corner, its width in u)
    cards   brightness and cover of each hair, then of the lashes
    irises  linear light round an eye's axis, the iris with a radius of `IRIS_SHARE` of the width
    """

    skin_names: tuple[str, ...]
    brow_names: tuple[str, ...]
    iris_names: tuple[str, ...]
    skins: Pyramid
    marks: Pyramid
    relief: Pyramid
    tints: Pyramid
    brows: Pyramid
    brow_window: tuple[float, float, float]
    cards: Pyramid
    cover_PS: torch.Tensor  # uint8 cover of each card at full size, flat
    loose: tuple[bool, ...]  # of each card: whether it is solid, and its cover is what thins out loose ends
    irises: Pyramid

    def to(self, device: torch.device) -> Paint:
        def sent(table: Pyramid) -> Pyramid:
            return replace(
                table,
                texels_RC=table.texels_RC.to(device),
                starts_D=table.starts_D.to(device),
                sizes_D=table.sizes_D.to(device),
            )

        return replace(
            self,
            skins=sent(self.skins),
            marks=sent(self.marks),
            relief=sent(self.relief),
            tints=sent(self.tints),
            brows=sent(self.brows),
            cards=sent(self.cards),
            irises=sent(self.irises),
            cover_PS=self.cover_PS.to(device),
        )

    def solid_and_shown(self, uvt_A33: F32, card_A: I64) -> tuple[Mask, Mask]:
        """Which triangles have no holes, and which are seen at all, by the texels in a box round their corners.

        Of hair with loose ends the picture thins out only those (u, v and thinness).
        """
        pictures = self.cover_PS.reshape(-1, CARD_PX, CARD_PX).numpy()
        x = np.floor(uvt_A33[..., 0] * CARD_PX).astype(np.int64)
        y = np.floor((1 - uvt_A33[..., 1]) * CARD_PX).astype(np.int64)
        wide, high = (np.minimum(np.ptp(place, axis=1) + 1, CARD_PX) for place in (x, y))
        left, top = x.min(axis=1) & (CARD_PX - 1), y.min(axis=1) & (CARD_PX - 1)
        solid, shown = np.ones(len(card_A), bool), np.ones(len(card_A), bool)
        for number, picture in enumerate(pictures):
            on = np.nonzero(card_A == number)[0]
            if self.loose[number]:
                solid[on] = uvt_A33[on, :, 2].max(axis=1) == 0
                continue
            x0, x1, y0, y1 = left[on], left[on] + wide[on], top[on], top[on] + high[on]
            for found, marked in ((solid, picture <= SOLID), (shown, picture > LEAST_COVER)):
                sums = np.zeros((2 * CARD_PX + 1,) * 2, np.int64)
                sums[1:, 1:] = np.tile(marked, (2, 2)).cumsum(axis=0).cumsum(axis=1)
                found[on] = (sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]) > 0
            solid[on] = ~solid[on]
        return solid, shown


def missing(message: str) -> Exception:
    """DataMissing, imported only now: its base class lives in `engines`, which a bare GPU server cannot import."""
    from distill.errors import DataMissing

    return DataMissing(message)


def linear(display: F32) -> F32:
    """sRGB values 0..1 to linear light."""
    return np.asarray(np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4), np.float32)


def lab(rgb: F32) -> F32:
    """CIE Lab of linear light."""
    xyz = rgb @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]], np.float32)
    f = np.cbrt(np.maximum(xyz / np.array([0.9505, 1.0, 1.089], np.float32), 1e-5))
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.asarray(np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1), np.float32)


def picture(path: Path, size_px: int | None = None, mode: str = "RGB") -> F32:
    """Display values 0..1."""
    if not path.is_file():
        raise missing(f"{path} is missing")
    with Image.open(path) as image:
        converted = image.convert(mode)
        if size_px is not None and converted.size != (size_px, size_px):
            converted = converted.resize((size_px, size_px), Image.Resampling.LANCZOS)
        return np.asarray(converted, np.float32) / 255


def table(pictures_SHWC: list[F32]) -> Pyramid:
    return pyramid(torch.from_numpy(np.stack(pictures_SHWC)).permute(0, 3, 1, 2))


def named(folder: Path, ending: str) -> list[str]:
    names = sorted(path.name[: -len(ending)] for path in folder.glob(f"*{ending}"))
    if not names:
        raise missing(f"{folder}/*{ending} is missing")
    return names


def load_paint(folder: Path, head: HeadMesh, hair_names: tuple[str, ...]) -> Paint:
    skin_names = named(folder / "skins_ictuv", "_face1024.jpg")
    faces = [lab(linear(picture(folder / "skins_ictuv" / f"{name}_face1024.jpg", SKIN_PX))) for name in skin_names]
    backs = [lab(linear(picture(folder / "skins_ictuv" / f"{name}_backhead512.jpg", SKIN_PX))) for name in skin_names]
    means = [skin_mean(face) for face in faces]
    skins = [calmed(part, mean) for parts in (faces, backs) for part, mean in zip(parts, means, strict=True)]
    brow_names = named(folder / "brows_ictuv", "_ictuv1024.png")
    layers = [picture(folder / "brows_ictuv" / f"{name}_ictuv1024.png", BROW_PX, "RGBA") for name in brow_names]
    brows, window = _brows(layers)
    iris_names = named(folder / "eyes", "_eye512.jpg")
    cards = [_card(folder, name, number) for number, name in enumerate(hair_names)] + [_lashes()]
    loose = tuple(bool(card[..., 1].min() * 255 > SOLID) for card in cards)
    for card in (card for card, yes in zip(cards, loose, strict=True) if yes):
        card[..., 1] = ranks(card[..., 0])
    cover = np.stack([card[..., 1] for card in cards])
    return Paint(
        tuple(skin_names), tuple(name.removesuffix("_ictuv1024.png") for name in brow_names), tuple(iris_names),
        table(skins), table([_marks(head)]), table([_relief()]), table([_tints()]), brows, window, table(cards),
        torch.from_numpy((cover * 255).astype(np.uint8)).reshape(-1), loose,
        table([_iris(folder, name) for name in iris_names]),
    )  # fmt: skip


def skin_mean(face: F32) -> F32:
    """Mean Lab of forehead and a cheek."""
    patches = [face[215:280, 125:180], face[110:150, 190:320]]
    return np.asarray(np.concatenate([patch.reshape(-1, 3) for patch in patches]).mean(axis=0), np.float32)


def calmed(skin: F32, mean: F32) -> F32:
    """A skin as under even light: less contrast; the textures' dark skins are darker and redder than skin is."""
    dark = float(np.clip((60 - mean[0]) / 30, 0, 1))
    own = np.array([mean[0] + 9 * dark - 3 * (1 - dark), min(mean[1], 14 - 1.5 * dark), min(mean[2], 18)], np.float32)
    varied = (skin - mean) * np.array([0.85, 0.8, 0.8], np.float32)
    varied[..., 0] = np.maximum(varied[..., 0], -22)
    return np.asarray(own + varied, np.float32)


def _brows(layers: list[F32]) -> tuple[Pyramid, tuple[float, float, float]]:
    """Cuts the square that holds all brows out of the layers."""
    drawn = np.max([layer[..., 3] for layer in layers], axis=0) > 0.05
    rows, columns = np.nonzero(drawn.any(axis=1))[0], np.nonzero(drawn.any(axis=0))[0]
    side = 512
    top = int(np.clip((rows[0] + rows[-1]) // 2 - side // 2, 0, BROW_PX - side))
    left = int(np.clip((columns[0] + columns[-1]) // 2 - side // 2, 0, BROW_PX - side))
    cut = [layer[top : top + side, left : left + side] for layer in layers]
    flat = [np.stack([c[..., 3], c[..., :3].mean(axis=2)], axis=-1) for c in cut]
    return table(flat), (left / BROW_PX, 1 - (top + side) / BROW_PX, side / BROW_PX)


def _iris(folder: Path, name: str) -> F32:
    eye = linear(picture(folder / "eyes" / f"{name}_eye512.jpg"))
    row, column = 149, 362
    cut = eye[row - 88 : row + 88, column - 88 : column + 88]
    planes = [Image.fromarray(np.ascontiguousarray(cut[..., k])) for k in range(3)]
    size = (IRIS_PX, IRIS_PX)
    return np.stack([np.asarray(p.resize(size, Image.Resampling.BOX), np.float32) for p in planes], axis=-1)


IRIS_SHARE = 57 / 176


def blurred(picture_HW: F32, down_px: float, across_px: float) -> F32:
    """Blurred with a bell of these radii; what leaves at one edge comes in at the other."""
    rows, columns = np.fft.fftfreq(picture_HW.shape[0]), np.fft.rfftfreq(picture_HW.shape[1])
    bell = np.exp(-2 * np.pi**2 * ((down_px * rows[:, None]) ** 2 + (across_px * columns) ** 2))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(picture_HW) * bell, picture_HW.shape), np.float32)


def octaves(rng: np.random.Generator, size_px: int, sigmas_px: dict[float, float]) -> F32:
    """Noise that repeats at the edges: each blur radius with its own strength, unit deviation before that."""
    total = np.zeros((size_px, size_px), np.float32)
    for sigma, strength in sigmas_px.items():
        layer = blurred(rng.standard_normal((size_px, size_px)).astype(np.float32), sigma, sigma)
        total += strength * layer / layer.std()
    return total


def _relief() -> F32:
    rng = np.random.default_rng(5)
    pores = -np.maximum(octaves(rng, NOISE_PX, {2.0: 1.0}) - 0.6, 0)
    height = pores + 0.4 * octaves(rng, NOISE_PX, {1.1: 0.5, 3.2: 0.6, 9.0: 0.8})
    slope_u = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) / 2
    slope_v = -(np.roll(height, -1, 0) - np.roll(height, 1, 0)) / 2
    dots = np.clip((octaves(rng, NOISE_PX, {0.9: 1.0}) - 0.55) * 1.2, 0, 1)
    grain = octaves(rng, NOISE_PX, {40: 0.6, 14: 0.5, 5: 0.35})
    return np.asarray(np.stack([slope_u, slope_v, dots, grain], axis=-1), np.float32)


def _tints() -> F32:
    rng = np.random.default_rng(6)
    spots = np.clip((octaves(rng, NOISE_PX, {1.2: 1.0}) - 1.55) * 1.4, 0, 1)
    spots = np.maximum(spots, 0.8 * np.clip((octaves(rng, NOISE_PX, {2.0: 1.0}) - 2.1) * 1.4, 0, 1))
    blotch = octaves(rng, NOISE_PX, {40: 0.6, 14: 0.5, 5: 0.35})
    flush = octaves(rng, NOISE_PX, {52: 0.7, 20: 0.5})
    return np.asarray(np.stack([spots, blotch, flush], axis=-1), np.float32)


def ramp(value: F32, start: float, end: float) -> F32:
    share = np.clip((value - start) / (end - start), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def rest_map(head: HeadMesh, size_px: int) -> F32:
    """Where on the mean head each texel of the face's texture lies; far away where there is none."""
    face = (head.kind == 0) & (head.uv[..., 0].max(axis=1) <= 1)
    uv = torch.from_numpy(head.uv[face].reshape(-1, 2))
    screen = Screen(uv[:, 0] * size_px - 0.5, (1 - uv[:, 1]) * size_px - 0.5, torch.ones(len(uv)))
    corners = torch.arange(len(uv)).reshape(-1, 3)
    triangles = Triangles(
        corners, torch.zeros(len(corners), dtype=torch.int64), torch.ones(len(corners), dtype=torch.bool)
    )
    buffer = rasterise(empty_buffer(1, size_px, size_px, uv.device), screen, triangles, size_px, size_px)
    hit = torch.nonzero(buffer != EMPTY).squeeze(1)
    share = weights(screen, triangles, triangle_of(buffer[hit]), *place(hit, size_px, size_px)).T.numpy()
    corner = head.mean[head.tri[face][triangle_of(buffer[hit]).numpy()]]
    places = np.full((size_px * size_px, 3), -99, np.float32)
    places[hit.numpy()] = (corner * share[..., None]).sum(axis=1)
    return places.reshape(size_px, size_px, 3)


def ring_mask(head: HeadMesh, landmarks: list[int], blur_px: float) -> F32:
    """The inside of a ring of the 68 landmarks as a soft mask over the face's texture."""
    uv_of = np.zeros((len(head.mean), 2), np.float32)
    face = (head.kind == 0) & (head.uv[..., 0].max(axis=1) <= 1)
    uv_of[head.tri[face]] = head.uv[face]
    size = 2 * SKIN_PX
    points = [(float(u * size), float((1 - v) * size)) for u, v in uv_of[head.lm68[landmarks]]]
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    soft = blurred(np.asarray(mask, np.float32) / 255, blur_px, blur_px)
    return np.asarray(soft.reshape(SKIN_PX, 2, SKIN_PX, 2).mean(axis=(1, 3)), np.float32)


def _marks(head: HeadMesh) -> F32:
    places = rest_map(head, SKIN_PX)
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    lips = ring_mask(head, list(range(48, 60)), 4.0)
    eyes = [head.eyes[0, 0], head.eyes[0, 1]]
    lid = np.hypot((x - eyes[0] - 0.1) / 1.25, (y - eyes[1] - 0.55) / 0.8)
    shadow = ramp(lid, 1.9, 0.9) * ramp(y, eyes[1] - 0.4, eyes[1] + 0.2) * (z > 0)
    moustache = ramp(y, -1.0, -1.7) * ramp(y, -5.0, -3.5) * ramp(x, 3.4, 2.4)
    chin = ramp(y, -3.4, -4.6) * ramp(x, 5.0, 3.2)
    cheek = ramp(y - 0.62 * (x - 3.2), -2.6, -4.0) * ramp(x, 2.4, 3.4)
    neck = ramp(y, -11.5, -8.5) * ramp(z, -1.0, 2.0)
    beard = np.clip(np.maximum(moustache, np.maximum(chin, cheek)), 0, 1) * neck * (1 - np.clip(2 * lips, 0, 1))
    nose = np.exp(-(((x - 2.2) / 2.6) ** 2) - ((y - 0.6) / 1.7) ** 2)
    freckles = np.clip(nose + 0.25 * ramp(y, -7, 0), 0, 1) * (1 - lips) * (y > -50)
    return np.asarray(np.stack([lips, shadow, beard, freckles], axis=-1), np.float32)


def _lashes() -> F32:
    """Six strips of lash cards; every strip has its roots at one edge (v) and its tips at the other."""
    rng = np.random.default_rng(2)
    v, u = np.meshgrid(1 - (np.arange(CARD_PX) + 0.5) / CARD_PX, (np.arange(CARD_PX) + 0.5) / CARD_PX, indexing="ij")
    alpha = np.zeros((CARD_PX, CARD_PX), np.float32)
    for root, tip, strength in LASH_STRIPS:
        t = (v - root) / (tip - root)
        spot = (u + 0.012 * rng.standard_normal() * t + 0.01 * t * np.sin(57 * u + 9 * root)) * 52 + 13 * root
        number = np.floor(spot).astype(np.int64)
        length = 0.62 + 0.38 * np.abs(np.sin(number * 12.9898 + root * 78.233))
        wide = 0.34 * np.clip(1 - t / length, 0, 1) ** 0.7
        strand = np.clip((wide - np.abs(spot - number - 0.5)) * 8 + 0.4, 0, 1) * (t > 0) * (t < length)
        alpha = np.maximum(alpha, strand * strength)
    return np.asarray(np.stack([np.full_like(alpha, 0.1), alpha], axis=-1), np.float32)


def _card(folder: Path, name: str, number: int) -> F32:
    """Brightness 0..1 and cover of a hair's texture; made up where the hair comes without one."""
    path = folder / "hair_ict" / f"{name}_diffuse1024.webp"
    rng = np.random.default_rng(20 + number)
    if path.exists():
        read = picture(path, CARD_PX, "RGBA")
        grey, alpha = read[..., :3].mean(axis=2), read[..., 3]
        low, high = np.percentile(grey[alpha > 0.5], [2, 98])
        grey = np.clip((grey - low) / (high - low), 0, 1)
        return np.asarray(np.stack([np.clip(grey, 0, 1), np.clip(alpha * 1.25, 0, 1)], axis=-1), np.float32)
    noise = _strands(rng) if not name.startswith("afro") else octaves(rng, CARD_PX, {4.0: 0.7, 9.0: 0.7}) / 7
    return np.asarray(np.stack([np.clip(0.45 + noise, 0, 1), np.ones_like(noise)], axis=-1), np.float32)


def ranks(picture_HW: F32) -> F32:
    """Each value's place among all, 0..1."""
    order = np.argsort(picture_HW, axis=None, kind="stable")
    out = np.empty(len(order), np.float32)
    out[order] = (np.arange(len(order)) + 0.5) / len(order)
    return out.reshape(picture_HW.shape)


def _strands(rng: np.random.Generator) -> NDArray[np.float32]:
    size = (CARD_PX, CARD_PX)
    noise = blurred(rng.standard_normal(size).astype(np.float32), 35, 1.0)
    fine = blurred(rng.standard_normal(size).astype(np.float32), 15, 0.4)
    return np.asarray(0.08 * noise / noise.std() + 0.16 * fine / fine.std(), np.float32)
