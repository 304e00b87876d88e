"""Who stands before the background: MediaPipe's person mask, and the background as it goes on behind the person."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from engines.face.mediapipe_graph import Graph, bindings, image_packet, network
from engines.pixels import resize_area
from engines.types import Floats, Rgb

NET_PX = 256
BACKGROUND_BELOW = 0.04  # of the matte: pixels that are believed to show nothing of the person
SEAM = 0.012  # of the side: what goes with the person beyond their edge
NEAR = 0.09  # of the side: so far from the person there may be hair that the matte lost
DIFFERS = (14.0, 40.0)  # of 255, from the background, for that
LEVELS = 9

_GRAPH = """
input_stream: "image"
output_stream: "share"
node {
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  output_stream: "TENSORS:input"
  options { [mediapipe.ImageToTensorCalculatorOptions.ext] {
    output_tensor_width: 256 output_tensor_height: 256 output_tensor_float_range { min: 0 max: 1 } } }
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:output"
  output_stream: "FLOATS:share"
}
"""


class PersonMatte:
    """The segmentation net. One thread at a time; remembers nothing."""

    def __init__(self) -> None:
        self._graph = Graph(_GRAPH + network("selfie_segmentation/selfie_segmentation"), ("share",))

    def find(self, rgb_SS3: Rgb) -> Floats:
        """How much of each pixel of a square picture is person, float32 [S, S], 0..1."""
        side = rgb_SS3.shape[0]
        small = resize_area(rgb_SS3, NET_PX, NET_PX) if side > NET_PX else rgb_SS3
        packet = self._graph.run({"image": image_packet(small)})["share"]
        share = np.array(bindings()._packet_getter.get_float_list(packet), np.float32).reshape(NET_PX, NET_PX)
        grown = ndimage.zoom(share, side / NET_PX, order=1, grid_mode=True, mode="nearest")
        return np.asarray(np.clip((grown - 0.02) / 0.96, 0, 1), np.float32)

    def close(self) -> None:
        self._graph.close()


def layers(rgb_SS3: Rgb, matte_SS: Floats) -> tuple[Floats, Floats]:
    """The share of each pixel that goes with the person, float32 [S, S], and what is behind them, float32 [S, S, 3].

    The matte loses loose hair, which would stay in the air when the head turns. So what lies near the person and
    differs from the background as it would go on there counts as theirs, and so does a seam around both.
    """
    side = rgb_SS3.shape[0]
    seam = max(round(SEAM * side), 1)
    rough = _behind(rgb_SS3, ndimage.maximum_filter(matte_SS, 2 * seam + 1))
    differs = ndimage.gaussian_filter(np.abs(rgb_SS3 - rough).mean(axis=2), 1.0)
    near = ndimage.maximum_filter(matte_SS, 2 * round(NEAR * side) + 1)
    near = ndimage.gaussian_filter(near, 0.4 * NEAR * side)
    theirs = np.maximum(matte_SS, near * np.clip((differs - DIFFERS[0]) / (DIFFERS[1] - DIFFERS[0]), 0, 1))
    grown = ndimage.gaussian_filter(ndimage.maximum_filter(theirs, 2 * seam + 1), 0.6 * seam)
    share = np.asarray(np.where(grown < 0.01, 0, np.minimum(grown, 1)), np.float32)
    return share, np.where(share[..., None] <= 0, rgb_SS3, _behind(rgb_SS3, share)).astype(np.float32)


def _behind(rgb_SS3: Rgb, share_SS: Floats) -> Floats:
    """The picture where `share` is nothing, and elsewhere what surrounds it, grown inwards. float32 [S, S, 3]."""
    known = (share_SS < BACKGROUND_BELOW).astype(np.float32)
    if known.mean() < 0.01:
        return rgb_SS3.astype(np.float32)  # the person fills the picture: nothing will be uncovered
    return _push_pull(rgb_SS3.astype(np.float32), known)


def _push_pull(rgb: Floats, weight: Floats) -> Floats:
    """Fills what has no weight from ever coarser pictures (Gortler et al., The Lumigraph, 1996)."""
    side = rgb.shape[0]
    padded = 1 << (side - 1).bit_length()
    levels = [(np.zeros((padded, padded, 3), np.float32), np.zeros((padded, padded), np.float32))]
    levels[0][0][:side, :side], levels[0][1][:side, :side] = rgb * weight[..., None], weight
    for _ in range(LEVELS):
        colour, share = levels[-1]
        if len(share) == 1:
            break
        colour, share = _halved(colour), _halved(share[..., None])[..., 0]
        scale = np.minimum(share, 1) / np.maximum(share, 1e-6)
        levels.append((colour * scale[..., None], np.minimum(share, 1)))
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)[..., None]
    for colour, share in reversed(levels[:-1]):
        wide = ndimage.zoom(filled, (2, 2, 1), order=1, grid_mode=True, mode="nearest")
        filled = colour + (1 - share[..., None]) * wide
    return np.asarray(filled[:side, :side], np.float32)


def _halved(values: Floats) -> Floats:
    """Sums over 2 x 2 cells: the weight adds up, so that one known pixel counts."""
    return np.asarray(values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2], np.float32)
