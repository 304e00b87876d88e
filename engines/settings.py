"""What a person can choose about a swap: frozen, complete, strict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import SettingError, nearest

SwapperType = Literal[
    "auto",
    "inswapper",
    "hyperswap",
    "simswap_256",
    "simswap_unofficial_512",
    "ghost",
    "hififace",
    "blendswap",
    "uniface",
    "cscs",
    "dfm",
]


class StrictModel(BaseModel):
    """A frozen settings model: an unknown key is an error that names the nearest valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, values: object) -> Self:
        """Checks values from outside (JSON, a form, a command line).

        Raises SettingError with one line that names the setting and what is wrong with it.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise SettingError(f'unknown setting "{key}"; {nearest(key, cls.model_fields)}') from error
            says = first["msg"].removeprefix("Value error, ")  # pydantic's words before the model's own
            raise SettingError(f'setting "{key}": {says}' if key else says) from error


class SwapSettings(StrictModel):
    """How a session swaps. Every field is documented in docs/settings.md."""

    engine: str = Field("auto", description="engine by name, or `auto`")
    faces: Literal["one", "all"] = Field("one", description="swap the locked person only, or everybody in view")
    bystanders: Literal["blur", "show"] = Field("blur", description="what happens to faces that are not swapped")
    without_face: Literal["standby", "show"] = Field(
        "standby", description="what is shown of a picture in which no face is found"
    )
    tone: Literal["identity", "driver", "mix"] = Field("identity", description="whose skin tone the result has")
    label: bool = Field(True, description="draw the label that says the face is synthetic")
    label_off_reason: str = Field("", max_length=200, description="why it is off, for the log: --no-label needs it")
    label_style: Literal["plate", "outline", "letters"] = Field(
        "plate", description="letters on a dark plate, letters with a dark outline, or the two large letters alone"
    )
    label_language: Literal[
        "en", "ar", "bg", "cs", "da", "de", "el", "es", "fr", "he", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru",
        "sv", "th", "tr", "uk", "vi", "zh", "zh-Hant",
    ] = Field("en", description="language of the label")  # fmt: skip
    hold_ms: int = Field(300, ge=0, le=300, description="how long the last good picture stands in for a lost face")
    max_faces: int = Field(4, ge=1, le=8, description="faces that are tracked at most")
    runtime: Literal["auto", "torch", "compiled", "ort", "tensorrt"] = Field(
        "auto", description="what executes a learned engine"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="where: cpu, cuda, cuda:1, or auto")
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="numbers that a learned engine computes with"
    )
    size_px: int | None = Field(
        None, ge=64, le=1024, multiple_of=64, description="side of the face that a learned engine draws"
    )
    steps: int | None = Field(None, ge=1, le=8, description="denoising steps of one frame")
    texture_weight: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="more is more likeness and less expression"
    )
    attribute_weight: float | None = Field(
        None, ge=0, le=2, allow_inf_nan=False, description="more is more of the driver's look and expression"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the noise that a learned engine starts from")
    noise: Literal["fixed", "per_frame"] = Field("fixed", description="the same noise in every frame, or new one")
    weights: Literal["trained", "random"] = Field(
        "trained", description="random: of nobody's training, to measure speed; the face is noise"
    )
    batch: int = Field(1, ge=1, le=16, description="people that one run of a learned engine serves")
    model: Path | None = Field(None, description="swapper of your own, an ONNX file, for the engine onnx")
    model_type: SwapperType = Field("auto", description="what kind of swapper it is; the file itself says it for most")
    embedder: Path | None = Field(None, description="face recogniser of your own (ArcFace w600k_r50) that it needs")
    converter: Path | None = Field(None, description="file that converts the embedding for it, where it needs one")
