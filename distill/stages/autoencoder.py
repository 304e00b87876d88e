"""Pixels to latents and back (VidFaceVAE, arXiv 2412.11279, section 3.3): large or tiny, alone or after another one.

Dimensions: B examples, T frames (1 in a still), S side of the crop, C latent channels, h = w = S/8.

Stills leave the temporal branch out; clips pass in the causal form, which is what a stream computes frame by frame
(tests/distill/stages/test_autoencoder.py), so what is trained is what is served. Of each example one picture is
learned, by lot: mostly the truth, which will be decoded; sometimes the proxy's or the masked one, which will only be
encoded, but must leave in their latents what the denoiser is to find there.

Latents. The schedule expects a standard deviation of sigma_data (1 for the ddpm kind), so after `config.scale` every
channel is kept there, by the divergence from a prior of that spread, and by a term on mean and spread themselves: the
divergence alone lets unneeded channels fall to zero, where the denoiser would have to predict noise. The decoder is
trained on latents with noise, the posterior's own and more besides: what a denoiser gives it is never exact.

After another. With a large autoencoder the small one takes over its latents: the encoder is drawn to them (`match`),
and the decoder learns from them, half of the examples from the large one's own latents, half through its own encoder.
So a denoiser that was trained with the large one runs on with the small one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.examples.types import Shown
from distill.losses.adversarial import Critic, of_critic, of_maker
from distill.losses.perceptual import BLOCK_PX, Bands
from distill.losses.picture import absolute, changes, colour, face_weight
from distill.stages.settings import AutoencoderSettings
from distill.training.draws import Draws
from distill.training.stage import Terms
from distill.training.watch import Seen, clip, grid
from engines.models.autoencoder import PICTURE_CHANNELS, Autoencoder
from engines.models.config import ScheduleConfig
from engines.models.swapper import Swapper

MOST_SHOWN = 4  # examples of a grid
BANDS = Bands(stride_px=BLOCK_PX)
RAMP = 0.1  # of the run, over which the critic's weight rises


@dataclass(frozen=True, slots=True)
class Asked:
    """What is learned of a batch: pictures [B, T, 3, S, S], and where errors count, [B, T, 1, S, S]."""

    pictures: Tensor
    weight: Tensor
    still: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """What came of it. Latents are scaled, [B, T, C, h, w]; `latents` is the posterior's mean."""

    made: Tensor
    wanted: Tensor
    latents: Tensor
    log_variance: Tensor
    large: Tensor | None


class AutoencoderStage:
    """distill.training.stage.Stage for an autoencoder, with a critic or without, after a large one or alone."""

    name = "autoencoder"

    def __init__(
        self,
        settings: AutoencoderSettings,
        autoencoder: Autoencoder,
        spread: float,
        large: Autoencoder | None = None,
    ) -> None:
        """spread: the standard deviation that latents are to have. Raises ValueError where `large` has others."""
        if large is not None and large.config.latent_channels != autoencoder.config.latent_channels:
            raise ValueError(
                f"the large autoencoder's latents have {large.config.latent_channels} channels, "
                f"those of the small one {autoencoder.config.latent_channels}"
            )
        self._settings, self._spread = settings, spread
        self._autoencoder, self._large = autoencoder, large
        self._critic = Critic(PICTURE_CHANNELS).initialise() if settings.adversarial else None
        device = next(autoencoder.parameters()).device
        critics = {} if self._critic is None else {"critic": self._critic.to(device)}
        self.players: Mapping[str, nn.Module] = {"autoencoder": autoencoder, **critics}
        self.frozen: Mapping[str, nn.Module] = {} if large is None else {"large": large.requires_grad_(False).eval()}

    def plan(self, step: int) -> Sequence[str]:
        return tuple(self.players)

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        asked = asked_of(shown, draws, self._settings)
        if player == "critic":
            return self._critics_loss(asked, draws)
        passed = self._pass(asked, draws)
        parts = self._of_pictures(passed, asked, draws) | self._of_latents(passed)
        if self._critic is not None:
            parts["adversarial"] = self._critics_weight(progress) * of_maker(self._critic(passed.made).float())
        total = torch.stack([part.float() for part in parts.values()]).sum()
        return Terms(total, {name: part.detach() for name, part in parts.items()} | _spoken(passed, self._spread))

    def after_step(self, step: int, progress: float) -> None:
        """Nothing follows a step."""

    def extra_state(self) -> Mapping[str, Tensor]:
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """There is none."""

    def watch(self, shown: Shown, draws: Draws) -> Seen:
        """Rows of a grid: what was asked, what came out, for truth, proxy and masked picture. Of the face: the error's
        root mean square in levels, and the tone's in dE; and how wide latents are, 1 being right."""
        still = shown.kind == "image"
        kinds = (shown.truth_BT3SS, shown.proxy_BT3SS, shown.masked_BT3SS)
        made = [self._decode(self._encode(pictures, still), still).float() for pictures in kinds]
        rows = [one[:MOST_SHOWN, -1] for pair in zip(kinds, made) for one in pair]
        weight = face_weight(shown.mask_BT1SS, inside=1e3)
        square = ((made[0].clamp(-1, 1) - shown.truth_BT3SS).square() * weight).mean()
        tone = colour(made[0], shown.truth_BT3SS, weight) * 100
        latents = self._encode(shown.truth_BT3SS, still)
        return Seen(
            grids={"pictures": grid(torch.stack(rows))},
            clips={} if still else {"truth": clip(torch.cat([shown.truth_BT3SS[0], made[0][0]], -1))},
            metrics={
                f"{shown.kind}-rms": float(square.sqrt() * 127.5),
                f"{shown.kind}-tone": float(tone),
                f"{shown.kind}-latents": float(latents.float().std() / self._spread),
            },
        )

    def _critics_loss(self, asked: Asked, draws: Draws) -> Terms:
        assert self._critic is not None
        with torch.no_grad():
            passed = self._pass(asked, draws)
        loss = of_critic(self._critic(passed.wanted).float(), self._critic(passed.made).float())
        return Terms(loss, {"critic": loss.detach()})

    def _critics_weight(self, progress: float) -> float:
        """The critic learns from the start, and counts when it has learned and pictures are worth a look."""
        since = progress - self._settings.adversarial_from
        return self._settings.adversarial * min(max(since / RAMP, 0.0), 1.0)

    def _pass(self, asked: Asked, draws: Draws) -> Passed:
        pictures, still = asked.pictures, asked.still
        scale = self._autoencoder.config.scale
        mean, log_variance = self._autoencoder.posterior(pictures, still=still, causal=True)
        latents, log_variance = mean.float() * scale, log_variance.float()
        large = None if self._large is None else _large_latents(self._large, pictures, still)
        decoded, wanted = latents, pictures
        if large is not None and self._large is not None:
            own = _rows(draws.uniform("own") < 0.5, latents)
            decoded = torch.where(own, latents, large)
            if self._settings.match_pictures:
                with torch.no_grad():
                    wanted = self._large.decode(large, causal=True).float()
        made = self._decode(self._noisy(decoded, log_variance, draws), still).float()
        return Passed(made, wanted, latents, log_variance, large)

    def _noisy(self, latents: Tensor, log_variance: Tensor, draws: Draws) -> Tensor:
        """A draw of the posterior, and of the denoiser's errors on top of it: independent, so one draw of both."""
        noise = draws.normal("latents", *latents.shape[1:])
        most = self._settings.latent_noise * self._spread
        added = _rows(most * draws.uniform("level"), latents)
        own = log_variance.exp() * self._autoencoder.config.scale**2
        return latents + torch.sqrt(own + added.square()) * noise

    def _encode(self, pictures: Tensor, still: bool) -> Tensor:
        return self._autoencoder.encode(pictures, still=still, causal=True)

    def _decode(self, latents: Tensor, still: bool) -> Tensor:
        return self._autoencoder.decode(latents, still=still, causal=True)

    def _of_pictures(self, passed: Passed, asked: Asked, draws: Draws) -> dict[str, Tensor]:
        settings, made, wanted, weight = self._settings, passed.made, passed.wanted, asked.weight
        parts = {"pixels": absolute(made, wanted, weight)}
        if settings.perceptual:
            corner = (int(draws.common("row") * BLOCK_PX), int(draws.common("column") * BLOCK_PX))
            parts["perceptual"] = settings.perceptual * BANDS(made, wanted, weight, corner)
        if settings.colour:
            parts["colour"] = settings.colour * colour(made, wanted, weight)
        if settings.changes and not asked.still:
            parts["changes"] = settings.changes * changes(made, wanted, weight)
        return parts

    def _of_latents(self, passed: Passed) -> dict[str, Tensor]:
        settings, spread = self._settings, self._spread
        if passed.large is not None:
            return {"match": settings.match * ((passed.latents - passed.large) / spread).square().mean()}
        prior = spread / self._autoencoder.config.scale
        return {
            "kl": settings.kl * divergence(passed.latents / spread, passed.log_variance, prior),
            "moments": settings.moments * moments(passed.latents / spread),
        }


def make(settings: AutoencoderSettings, swapper: Swapper, teacher: Swapper | None) -> AutoencoderStage:
    """The stage of a swapper's autoencoder; `teacher`: whose autoencoder is the large one."""
    large = None if teacher is None else teacher.autoencoder
    return AutoencoderStage(settings, swapper.autoencoder, spread_of(swapper.config.schedule), large)


def spread_of(config: ScheduleConfig) -> float:
    """The standard deviation that the schedule expects of latents."""
    return config.sigma_data if config.kind == "trig" else 1.0


def asked_of(shown: Shown, draws: Draws, settings: AutoencoderSettings) -> Asked:
    """Of each row by lot the truth, the proxy's picture or the masked one; in the last the face is no face."""
    lot = draws.uniform("picture")
    proxies, masked = lot < settings.proxies, lot >= 1 - settings.masked
    pictures = torch.where(_rows(proxies, shown.truth_BT3SS), shown.proxy_BT3SS, shown.truth_BT3SS)
    pictures = torch.where(_rows(masked, pictures), shown.masked_BT3SS, pictures)
    face = shown.mask_BT1SS * ~_rows(masked, pictures)
    return Asked(pictures, face_weight(face, settings.face, settings.features), shown.kind == "image")


def divergence(mean: Tensor, log_variance: Tensor, prior: float) -> Tensor:
    """KL(N(mean, variance) | N(0, 1)) per value, in units of the prior's spread: `mean` is given so, the posterior's
    variance is of unscaled latents, `prior` their spread (Kingma and Welling, arXiv 1312.6114, appendix B)."""
    variance = log_variance.exp() / prior**2
    return 0.5 * (mean.square() + variance - 1 - variance.log()).mean()


def moments(latents_BTChw: Tensor) -> Tensor:
    """How far each channel is from mean 0 and standard deviation 1: mean^2 + log(deviation)^2, over channels."""
    flat = latents_BTChw.transpose(1, 2).transpose(0, 1).flatten(1)
    deviation = torch.sqrt(flat.var(dim=1, unbiased=False) + 1e-6)
    return (flat.mean(dim=1).square() + deviation.log().square()).mean()


def _large_latents(large: Autoencoder, pictures: Tensor, still: bool) -> Tensor:
    with torch.no_grad():
        return large.encode(pictures, still=still, causal=True).float()


def _rows(value_B: Tensor, like: Tensor) -> Tensor:
    """One number a row, as it goes with [B, ...]."""
    return value_B.reshape(-1, *[1] * (like.ndim - 1))


def _spoken(passed: Passed, spread: float) -> dict[str, Tensor]:
    """What curves show besides the loss: plain errors, and the latents' spread in units of the wanted one."""
    with torch.no_grad():
        mean_square = (passed.made - passed.wanted).square().mean()
        return {"psnr": 10 * torch.log10(4 / mean_square), "latent_spread": passed.latents.std() / spread}
