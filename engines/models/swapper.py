"""Everything learned that draws a face: autoencoder, denoiser and face encoder, as one configuration describes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.models import autoencoder
from engines.models.attention import Banded, Past
from engines.models.autoencoder import REDUCTION
from engines.models.autoencoder_tiny import TinyAutoencoder
from engines.models.config import SwapperConfig
from engines.models.denoiser import Denoiser
from engines.models.face_encoder import FaceEncoder
from engines.schedule import Schedule
from engines.window import Window

MOST_LOG_GAIN = 1.5  # of light on the proxy, either way


class Swapper(nn.Module):
    """A container: engines.models.step makes graphs of it, training takes it apart."""

    def __init__(self, config: SwapperConfig) -> None:
        """Raises ValueError where the parts do not fit each other."""
        super().__init__()
        _check(config)
        self.config = config
        self.schedule = Schedule.of(config.schedule)
        self.window = Window(config.window.frames, config.window.sinks)
        self.autoencoder = autoencoder.build(config.autoencoder)
        self.denoiser = Denoiser(
            config.denoiser,
            memory_encoder=config.window.memory == "memory_encoder",
            sigma_data=config.schedule.sigma_data,
        )
        self.face_encoder = FaceEncoder(config.face_encoder)

    def banded(self, frames: int, past: Past | None = None, device: torch.device | None = None) -> Banded:
        """What a stream would see of a whole sequence after a reset: for training, and to hold the stream against.

        past  what later frames see of each frame, per temporal layer, if it is not what this pass computes: the clean
              pass's keys and values, the memory encoder's, or those of the last denoising step
        """
        positions, bias = (torch.from_numpy(part).to(device) for part in self.window.seen(frames))
        return Banded(frames, positions, bias, self.window.frames - 1, past)

    def initialise(self, seed: int = 0) -> Swapper:
        """Random weights, the same for the same seed, in float32 on the CPU. Returns itself."""
        generator = torch.Generator().manual_seed(seed)
        for part in (self.autoencoder, self.denoiser, self.face_encoder):
            part.initialise(generator)
        if self.config.draws == "change":
            self.draw_nothing()
        return self

    def shown(self, driver: Tensor) -> Tensor:
        """The driver's picture [N, 3, S, S] as the encoder gets it: soft, it has one colour for each place of a latent,
        evenly joined."""
        if self.config.denoiser.driver != "soft":
            return driver
        few = functional.avg_pool2d(driver, REDUCTION)
        return functional.interpolate(few, scale_factor=float(REDUCTION), mode="bilinear", align_corners=False)

    def drawn(self, decoded: Tensor, proxy: Tensor) -> Tensor:
        """The picture, from what the decoder gave and the proxy's picture; both alike in shape. Not clamped.

        A change is added to the proxy; of light it is the logarithm of a gain, that brightness is multiplied with.
        """
        if self.config.draws != "change":
            return decoded
        if not self.config.autoencoder.light:
            return proxy + decoded
        return proxy + (proxy + 1) * torch.expm1(MOST_LOG_GAIN * torch.tanh(decoded / MOST_LOG_GAIN))

    @torch.no_grad()
    def draw_nothing(self) -> None:
        """Takes the decoder's last layers to 0: what is drawn is then the proxy, exactly, and every change is learned.

        Only where a change is drawn.
        """
        assert isinstance(self.autoencoder, TinyAutoencoder)
        assert self.config.draws == "change"
        self.autoencoder.decoder.draw_nothing()


def _check(config: SwapperConfig) -> None:
    denoiser, face_encoder = config.denoiser, config.face_encoder
    smallest = config.latent_px / 2 ** (len(denoiser.widths) - 1)
    if not smallest.is_integer():
        raise ValueError(f"a latent of {config.latent_px} cannot be halved {len(denoiser.widths) - 1} times")
    if denoiser.latent_channels != config.autoencoder.latent_channels:
        raise ValueError(
            f"the denoiser's latents have {denoiser.latent_channels} channels, "
            f"the autoencoder's {config.autoencoder.latent_channels}"
        )
    attending = [w for w, a, t in zip(denoiser.widths, denoiser.attention, denoiser.temporal, strict=True) if a or t]
    for width in (*attending, denoiser.widths[-1]):
        if width % denoiser.heads:
            raise ValueError(f"{width} channels cannot be split among {denoiser.heads} heads")
    if denoiser.token_width != face_encoder.token_width:
        raise ValueError(
            f"the denoiser takes tokens of width {denoiser.token_width}, "
            f"the face encoder gives {face_encoder.token_width}"
        )
    if config.window.frames > denoiser.positions:
        raise ValueError(f"a window of {config.window.frames} frames is longer than the {denoiser.positions} positions")
    last = math.pi / 2 + 1e-6 if config.schedule.kind == "trig" else 999
    times = config.schedule.times
    if not all(0 < t <= last for t in times) or list(times) != sorted(times, reverse=True):
        raise ValueError(f"times must fall from at most {last:.6g} to above 0, not {times}")
