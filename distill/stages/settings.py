"""The settings of every stage, complete and frozen; a run's configuration holds one of them. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engines import StrictModel


class AutoencoderSettings(StrictModel):
    """Pixels to latents and back (VidFaceVAE, arXiv 2412.11279, section 3.3)."""

    kind: Literal["autoencoder"] = "autoencoder"
    perceptual: float = Field(0.5, ge=0, description="weight of the error as it is seen (losses.perceptual)")
    colour: float = Field(0.5, ge=0, description="weight of the error of tone (losses.picture.colour)")
    changes: float = Field(0.5, ge=0, description="weight of the error from frame to frame; clips only")
    kl: float = Field(1e-4, ge=0, description="weight of the posterior's divergence from the prior")
    moments: float = Field(0.1, ge=0, description="weight of what keeps each latent channel's mean and spread")
    latent_noise: float = Field(
        0.1, ge=0, le=1, description="most noise on latents before they are decoded, in standard deviations"
    )
    adversarial: float = Field(0.0, ge=0, description="weight of a critic of pictures (hinge GAN); 0: none")
    adversarial_from: float = Field(0.5, ge=0, le=1, description="progress of the run from which the critic counts")
    proxies: float = Field(0.25, ge=0, le=1, description="share of examples of which the proxy's picture is learned")
    masked: float = Field(0.15, ge=0, le=1, description="share of which the picture without a face is learned")
    face: float = Field(3.0, ge=1, description="how much more an error counts in the face than outside of it")
    features: float = Field(3.0, ge=0, description="... and how much on top of that on eyes and mouth")
    match: float = Field(1.0, ge=0, description="weight of the distance from a large autoencoder's latents")
    match_pictures: bool = Field(False, description="with a large autoencoder: learn its pictures, not the truth")


class ConditionSettings(StrictModel):
    """What a denoiser is shown, and where errors count (distill.conditions)."""

    drop_mask: float = Field(0.25, ge=0, le=1, description="share of frames without a mask, shown whole (VividFace)")
    drop_face: float = Field(0.5, ge=0, le=1, description="share of examples without face tokens, for guidance")
    outside: float = Field(0.2, ge=0, le=1, description="weight of errors away from the face")
    ring: int = Field(1, ge=0, le=16, description="latent pixels around the mask that count like the face")


class TimeSettings(StrictModel):
    """Which noise levels are learned (distill.times)."""

    law: Literal["lognormal", "uniform"] = Field("lognormal", description="of noise to signal, or even over the times")
    mean: float = Field(0.0, description="of the logarithm of noise to signal")
    deviation: float = Field(1.6, gt=0, description="of the same")


class TeacherSettings(StrictModel):
    """The bidirectional teacher (VividFace, arXiv 2412.11279, section 3)."""

    kind: Literal["teacher"] = "teacher"
    conditions: ConditionSettings = ConditionSettings()
    time: TimeSettings = TimeSettings()
    weighting: Literal["output", "min_snr", "x0"] = Field("output", description="of noise levels (losses.denoising)")
    neighbours: float = Field(0.3, ge=0, description="weight of the errors' differences in x, y and t; clips only")
    given: int = Field(4, ge=0, description="first frames of a window that are given clean, as a clip goes on")
    drop_given: float = Field(0.1, ge=0, le=1, description="share of windows that begin with nothing given")


class CausalSettings(StrictModel):
    """Stage 1 of distillation: the teacher made causal, with a clean cached past (teacher forcing)."""

    kind: Literal["causal"] = "causal"
    conditions: ConditionSettings = ConditionSettings(drop_mask=0.0)
    time: TimeSettings = TimeSettings()
    weighting: Literal["output", "min_snr", "x0"] = Field("output", description="of noise levels (losses.denoising)")
    neighbours: float = Field(0.3, ge=0, description="weight of the errors' differences in x, y and t; clips only")
    corrupt: float = Field(0.0, ge=0, le=0.1, description="most noise on the past, in standard deviations of latents")
    detach_past: bool = Field(False, description="no gradient into what makes the past's keys and values")
    match: float = Field(0.0, ge=0, le=0.3, description="share of the loss that asks for the teacher's own output")
    match_sees: Literal["past", "window"] = Field(
        "past",
        description="what the matched teacher sees beyond the frame: the clean past, as the student does, or all",
    )


class ConsistencySettings(StrictModel):
    """Stage 2: few steps, by consistency with the causal teacher."""

    kind: Literal["consistency"] = "consistency"
    conditions: ConditionSettings = ConditionSettings(drop_mask=0.0, drop_face=0.0)
    method: Literal["curriculum", "lcm", "scm", "policy", "progressive"] = Field(
        "curriculum", description="shrinking step; fixed grid; continuous time; pi-ID (DX); halved steps, the baseline"
    )
    time: TimeSettings = TimeSettings(mean=-0.4, deviation=1.4)
    at_serving: float = Field(0.4, ge=0, le=1, description="share of frames at the very times of the student's steps")
    guidance: float = Field(1.0, ge=0, description="baked in: u + g (c - u); 1 is none")
    detach_past: bool = Field(False, description="no gradient into what makes the past's keys and values")
    distance: Literal["huber", "huber_per_element", "squared"] = Field("huber", description="curriculum and lcm")
    c: float = Field(1e-3, gt=0, description="of pseudo-Huber distances: below it errors count squared")
    solver: Literal["ddim", "heun"] = Field("ddim", description="of the teacher's step; curriculum and lcm")
    substeps: int = Field(1, ge=1, description="of the teacher's step; curriculum")
    q: float = Field(2.0, gt=1, description="curriculum: r = t (1 - q^-(s+1)), s = 0, 1, ... over the run")
    parts: int = Field(7, ge=1, le=7, description="curriculum: how many s there are; fewer for a run of few steps")
    levels: int = Field(50, ge=2, description="steps of the grid; lcm, and of the first teacher's; progressive")
    target_ema: float | None = Field(0.95, gt=0, lt=1, description="lcm: rate of the target's average; none: itself")
    stop_gradient: bool = Field(False, description="lcm: without a target average, though it tends to diverge")
    warm_up: float = Field(0.2, ge=0, le=1, description="scm: share of the run over which the tangent sets in")
    tangent: Literal["forward_mode", "central"] = Field("forward_mode", description="scm: how it is computed")
    knots: int = Field(8, ge=2, description="policy: values of x0 that one look gives")
    states: int = Field(2, ge=1, description="policy: times at which one policy is compared")


class RolloutSettings(StrictModel):
    """Stage 3: the student on its own past."""

    kind: Literal["rollout"] = "rollout"
    conditions: ConditionSettings = ConditionSettings(drop_mask=0.0, drop_face=0.0)
    noise: Literal["same", "per_frame"] = Field("same", description="in all frames of a clip, as live, or not")
    exits: Literal["any", "last"] = Field("any", description="step at which all frames end, by lot, or always the last")
    first_times: tuple[float, ...] = Field((), description="the first frame's own steps; none: as all others")
    through_past: bool = Field(False, description="gradients flow into earlier frames, not into the frame alone")
    replay: bool = Field(False, description="each frame computed again in the backward pass: memory of one frame")
    face_encoder: bool = Field(True, description="the face encoder learns on, from what the truth says of its tokens")
    tone: Literal["truth", "proxy"] = Field(
        "truth",
        description="proxy: the truth in the proxy's mean colour, which one photo in one light cannot tell better",
    )
    latent: float = Field(1.0, ge=0, description="weight of the latents' pseudo-Huber error")
    c: float = Field(0.03, gt=0, description="of that error: below it errors count squared")
    picture: float = Field(1.0, ge=0, description="weight of the pictures' mean absolute error")
    even_px: int = Field(
        1,
        ge=1,
        description="squares over which pictures are averaged before that: at 8 it minds light and tone, and detail is "
        "left to `perceptual`, which asks for its strength even where its place is unknown",
    )
    perceptual: float = Field(0.5, ge=0, description="weight of the pictures' perceptual error")
    adversarial: float = Field(0.05, ge=0, description="weight of a critic on frames and their differences")
    critic_r1: float = Field(0.1, ge=0, description="weight of the critic's smoothness (approximate R1)")
    matching: float = Field(0.0, ge=0, description="weight of distribution matching with the bidirectional teacher")
    time: TimeSettings = TimeSettings()
    guidance: float = Field(1.0, ge=0, description="of the bidirectional teacher; 1 is none")
    fake_updates: int = Field(5, ge=1, description="moves of the fake network for one of the student, with matching")


StageSettings = Annotated[
    AutoencoderSettings | TeacherSettings | CausalSettings | ConsistencySettings | RolloutSettings,
    Field(discriminator="kind"),
]
