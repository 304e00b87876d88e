"""The contracts of published swappers: what each takes, in which form, and what it gives. Facts, frozen.

Sources: facefusion 3.x (face_swapper, deep_swapper), insightface (inswapper), VisoMaster (face_swappers). Pictures are
RGB planes [1, 3, S, S] unless noted, (x / 255 - mean) / std per channel; a picture comes back as output 0, item 0.
e is the embedding of arcface_w600k_r50: 512 numbers from 112 px, template arcface_112_v2, RGB, x / 127.5 - 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from engines.face.five_points import Template

Source = Literal[
    "mapped",  # v = e / |e|; v = v emap; v / |v|. The emap lies in the swapper's file
    "unit",  # e / |e|
    "converted",  # converter(e), as it comes
    "converted_unit",  # the same, to length 1
    "two_recognisers",  # a / |a| + b / |b|: embedder and converter are both recognisers, of a picture by `ffhq_512`
    "picture_112",  # the identity's face, 112 px, template arcface_112_v2, 0..1
    "picture_256",  # ... 256 px, template ffhq_512
    "none",  # one person is in the file itself
]
Triple = tuple[float, float, float]

ZERO, ONE, HALF = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTH = 512  # of every embedding
PLAIN = ("target", "source")
DFM_SIDES = range(64, 1025)  # its shape says which


@dataclass(frozen=True, slots=True)
class Contract:
    """One type of swapper.

    sides_px    sides S of the square pictures that the type comes with
    template    where the five points lie in the crop
    mean, std   of the picture that goes in, on 0..1
    signed      the picture comes out as -1..1; else 0..1
    source      how the identity goes in
    inputs      names of target and source, one pair for each known way of naming
    outputs     names of output 0 that tell the type from others; none: it does not
    converter   what the further file is called that the identity has to go through
    """

    sides_px: tuple[int, ...]
    template: Template
    source: Source
    mean: Triple = ZERO
    std: Triple = ONE
    signed: bool = False
    inputs: tuple[tuple[str, str], ...] = (PLAIN,)
    outputs: tuple[str, ...] = ()
    converter: str = ""

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Of one identity, batch included; empty where none goes in."""
        if self.source == "none":
            return ()
        side = {"picture_112": 112, "picture_256": 256}.get(self.source)
        return (1, WIDTH) if side is None else (1, 3, side, side)

    @property
    def needs_embedder(self) -> bool:
        return not self.source.startswith("picture") and self.source != "none"


CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        # inswapper_128, ReSwapper (128, 256), InStyleSwapper A, B, C (256)
        "inswapper": Contract((128, 256), "arcface_128", "mapped"),
        # hyperswap_1a, 1b, 1c
        "hyperswap": Contract((256,), "arcface_128", "unit", HALF, HALF, signed=True),
        "simswap_256": Contract(
            (256,), "arcface_112_v1", "converted_unit", IMAGENET_MEAN, IMAGENET_STD, converter="crossface_simswap"
        ),
        "simswap_unofficial_512": Contract(
            (512,),
            "arcface_112_v1",
            "converted_unit",
            inputs=(PLAIN, ("input", "onnx::Gemm_1")),
            converter="crossface_simswap",
        ),
        # ghost_1, 2, 3
        "ghost": Contract(
            (256,),
            "arcface_112_v1",
            "converted",
            HALF,
            HALF,
            signed=True,
            outputs=("781", "1165", "1549"),
            converter="crossface_ghost",
        ),
        "hififace": Contract(
            (256,), "mtcnn_512", "converted_unit", HALF, HALF, signed=True, converter="crossface_hififace"
        ),
        "blendswap": Contract((256,), "ffhq_512", "picture_112"),
        "uniface": Contract((256,), "ffhq_512", "picture_256", HALF, HALF, signed=True),
        "cscs": Contract(
            (256,),
            "ffhq_512",
            "two_recognisers",
            HALF,
            HALF,
            signed=True,
            inputs=(("input_1", "input_2"),),
            converter="cscs_id_adapter",
        ),
        # DeepFaceLive's trained people. NHWC BGR, sharpened, 0..1; gives a mask, the picture, another mask
        "dfm": Contract((), "dfl_whole_face", "none", inputs=(("in_face:0", "morph_value:0"),)),
    }
)


def offset_px(kind: str, side_px: int) -> float:
    """What is added to the template: inswapper's is of 128 px, and at another side pixel centres lie elsewhere."""
    return side_px / 256 - 0.5 if kind == "inswapper" and side_px != 128 else 0.0


def described(kind: str) -> str:
    """A type's signature, in words."""
    contract = CONTRACTS[kind]
    if kind == "dfm":
        return "dfm (in_face:0 [1, S, S, 3] and, if it morphs, morph_value:0)"
    names = " or ".join("/".join(pair) for pair in contract.inputs)
    sides = " or ".join(f"3x{side}x{side}" for side in contract.sides_px)
    taken = "x".join(map(str, contract.source_shape[1:]))
    also = " and a 512x512 emap that no operation reads" if contract.source == "mapped" else ""
    return f"{kind} ({names}: {sides}, {taken}{also})"
