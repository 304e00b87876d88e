"""What `vividstream eval` can be told. Documented in docs/settings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from engines import StrictModel


class TrueSwapConfig(StrictModel):
    """`vividstream eval true-swap`."""

    engine: str = Field("proxy", description="engine to measure, by name")
    tone: Literal["identity", "driver", "mix"] = Field("identity", description="whose skin tone the result has")
    quick: bool = Field(False, description="six short clips instead of all")
    out: Path | None = Field(None, description="folder for the report, as text and JSON; only printed if not given")
    pictures: Path | None = Field(None, description="folder for a picture of every swap")
    data: Path = Field(Path("../shared/data"), description="folder with the face model, skins and hair")
