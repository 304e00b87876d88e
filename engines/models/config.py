"""Complete, frozen descriptions of the learned networks. Presets are in engines.models.presets; a file of weights
carries its own as JSON. No torch here: the store and the command line read configurations without it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from engines.settings import StrictModel

Driver = Literal["masked", "whole", "soft"]


class ScheduleConfig(StrictModel):
    """Which noise, and what the network's output means (engines.schedule)."""

    kind: Literal["trig", "ddpm"] = Field("trig", description="TrigFlow (sCM), or SD1.5's scaled-linear DDPM table")
    prediction: Literal["velocity", "noise"] = Field("velocity", description="what the network's output is")
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of clean latents; trig only")
    times: tuple[float, ...] = Field(
        (1.5707963,),
        min_length=1,
        description="the steps of one frame, noisiest first: radians (trig) or 0..999 (ddpm)",
    )


class WindowConfig(StrictModel):
    """The rolling latent window (engines.window.Window)."""

    frames: int = Field(8, ge=1, le=32, description="frames that a temporal layer sees, the current one included")
    sinks: int = Field(2, ge=0, description="first frames that are never forgotten")
    memory: Literal["last_step", "clean_pass", "memory_encoder"] = Field(
        "last_step", description="where the keys and values of the past come from"
    )


class AutoencoderConfig(StrictModel):
    """Pixels to latents and back, 8 times smaller (VidFaceVAE, arXiv 2412.11279)."""

    kind: Literal["kl", "tiny"]
    latent_channels: int = Field(4, ge=1)
    widths: tuple[int, ...] = Field(description="channels per level, from pixels to latents")
    blocks: int = Field(
        2, ge=1, description="residual blocks per level; kl's decoder has one more, as Stable Diffusion's"
    )
    encoder_blocks: int = Field(0, ge=0, description="residual blocks per level of the encoder; 0: as many as blocks")
    encoder_widths: tuple[int, ...] = Field((), description="of the encoder, which runs twice a frame; tiny only")
    encoder_padding: Literal["corner", "around"] = Field(
        "corner", description="of strided convolutions, kl only: right and bottom (Stable Diffusion), or VividFace's"
    )
    temporal_encoder: bool = Field(description="(2+1)D blocks in the encoder")
    temporal_decoder: bool = Field(description="(2+1)D blocks in the decoder")
    light: Literal[0, 4, 8, 16, 32] = Field(
        0,
        description="above 0 the decoder gives no picture but light, which the proxy is multiplied with: a gain of one "
        "colour for each square of so many pixels, evenly joined; tiny that draws a change only",
    )
    scale: float = Field(1.0, gt=0, description="latents are multiplied by it before the denoiser (SD1.5: 0.18215)")


class DenoiserConfig(StrictModel):
    """The temporal UNet."""

    latent_channels: int = Field(4, ge=1)
    geometry_channels: int = Field(0, ge=0, description="extra condition channels at latent size")
    widths: tuple[int, ...] = Field(description="channels per level, finest first")
    blocks: int = Field(2, ge=1, description="residual blocks per level")
    attention: tuple[bool, ...] = Field(description="levels with spatial self- and cross-attention")
    temporal: tuple[bool, ...] = Field(description="levels with temporal attention; leave the finest out first")
    upward: Literal["every", "last"] = Field(
        "every", description="layers of such a level that have them on the way up: all blocks + 1, or only the last"
    )
    middle_attention: bool = True
    middle_temporal: bool = True
    heads: int = Field(8, ge=1)
    token_width: int = Field(768, ge=8)
    text_tokens: int = Field(0, ge=0, description="constant tokens of the empty prompt (SD1.5: 77)")
    face_scale: float = Field(
        1.0, ge=0, description="weight of the decoupled attention to face tokens (VividFace: 0.9)"
    )
    norm: Literal["group", "rms"] = "group"
    positions: int = Field(32, ge=1, description="rows of the temporal position table")
    driver: Driver = Field(
        "masked",
        description="what is shown of the driver's crop: without the region of the face (VividFace); all of it, pose, "
        "lips and light pixel by pixel; or all without detail (soft), light and place alone. Where the face is seen, "
        "driver and identity have to be two people in training",
    )
    around_proxy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far the truth lies from the proxy, in deviations of a latent: the network then adds to the "
        "guess that follows from the proxy alone (schedule `trig`). 0: it says all itself",
    )

    @property
    def in_channels(self) -> int:
        """Noisy latent, mask, masked frame's latent, proxy's latent (VividFace's order), geometry."""
        return 3 * self.latent_channels + 1 + self.geometry_channels

    @model_validator(mode="after")
    def _one_entry_per_level(self) -> Self:
        if not len(self.widths) == len(self.attention) == len(self.temporal):
            raise ValueError("widths, attention and temporal must have one entry per level")
        return self


class FaceEncoderConfig(StrictModel):
    """Identity, texture and attribute tokens, fused by resamplers (VividFace, fig. 7)."""

    identity_width: int = Field(512, ge=8, description="of the identity vector")
    backbone: Literal["conv", "vit"] = Field(description="what turns pictures into tokens; vit is DINOv2-base's shape")
    picture_px: int = Field(description="side of the texture and attribute pictures")
    feature_width: int = Field(768, ge=8, description="of the backbone's tokens")
    tokens: int = Field(16, ge=1)
    token_width: int = Field(768, ge=8)
    depth: int = Field(2, ge=1)
    heads: int = Field(12, ge=1)
    texture_weight: float = Field(0.6, ge=0, description="the default of the setting")
    attribute_weight: float = Field(0.6, ge=0, description="the default of the setting")


class SwapperConfig(StrictModel):
    """Everything learned that draws a frame."""

    name: str
    size_px: int = Field(multiple_of=64)
    window: WindowConfig
    schedule: ScheduleConfig
    autoencoder: AutoencoderConfig
    denoiser: DenoiserConfig
    face_encoder: FaceEncoderConfig
    draws: Literal["face", "change"] = Field(
        "face",
        description="what the decoder gives: the face, or a change that is added to the proxy's picture. The change is "
        "nothing at first, the proxy's own detail stays, and the decoder learns with the rest; autoencoder `tiny`",
    )

    @model_validator(mode="after")
    def _guess_has_its_schedule(self) -> Self:
        if self.denoiser.around_proxy and self.schedule.kind != "trig":
            raise ValueError("denoiser.around_proxy needs the trig schedule")
        return self

    @model_validator(mode="after")
    def _change_has_its_autoencoder(self) -> Self:
        if self.draws == "change" and self.autoencoder.kind != "tiny":
            raise ValueError('draws="change" needs an autoencoder of kind tiny')
        if self.autoencoder.light and self.draws != "change":
            raise ValueError('autoencoder.light changes the proxy, so it needs draws="change"')
        return self

    @property
    def latent_px(self) -> int:
        return self.size_px // 8

    @property
    def steps(self) -> int:
        return len(self.schedule.times)
