"""The settings of every stage, complete and frozen; a run's configuration holds one of them. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engines import StrictModel


class AutoencoderSettings(StrictModel):
    """Pixels to latents and back (VidFaceVAE, arXiv 2412.11279, section 3.3)."""

    kind: Literal["autoencoder"] = "autoencoder"


class TeacherSettings(StrictModel):
    """The bidirectional teacher (VividFace, arXiv 2412.11279, section 3)."""

    kind: Literal["teacher"] = "teacher"


class CausalSettings(StrictModel):
    """Stage 1 of distillation: the teacher made causal, with a clean cached past (teacher forcing)."""

    kind: Literal["causal"] = "causal"


class ConsistencySettings(StrictModel):
    """Stage 2: few steps, by consistency with the causal teacher."""

    kind: Literal["consistency"] = "consistency"


class RolloutSettings(StrictModel):
    """Stage 3: the student on its own past."""

    kind: Literal["rollout"] = "rollout"


StageSettings = Annotated[
    AutoencoderSettings | TeacherSettings | CausalSettings | ConsistencySettings | RolloutSettings,
    Field(discriminator="kind"),
]
