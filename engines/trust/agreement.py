"""What a person agreed to: who, when, to what, for how long, how it was given, and of what age they are."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from pydantic import Field, field_validator

from engines.errors import ConsentMissing
from engines.settings import StrictModel

How = Literal["self", "written", "spoken", "clip"]
Age = Literal["adult", "minor"]
USUAL_DAYS = 365
MOST_DAYS = 3653  # ten years: a consent is asked for again, not kept for ever


class Agreement(StrictModel):
    """Consent of one person to be worn. Days are ISO 8601 (2026-11-23); `expires` is the last day on which it holds.

    how       `self`: who enrols is the person; `written`; `spoken`; `clip`: read from a live clip, see engines.liveness
    age       as the person states it; a minor needs a guardian who agreed
    clip_sha256, phrase   of the clip, where there was one: whoever has the clip can hear it
    """

    who: str = Field(min_length=1, max_length=200)
    agreed: str
    purpose: str = Field(min_length=1, max_length=500)
    expires: str
    how: How
    age: Age
    guardian: str = Field("", max_length=200)
    clip_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    phrase: str = Field("", max_length=200)

    @field_validator("agreed", "expires")
    @classmethod
    def _is_a_day(cls, day: str) -> str:
        return date.fromisoformat(day).isoformat()

    def sentence(self) -> str:
        """One line for lists and warnings."""
        by = f" (by {self.guardian}, guardian)" if self.guardian else ""
        return f"{self.who}{by}, {self.agreed}, for {self.purpose}; until {self.expires}"

    def has_expired(self, now: datetime) -> bool:
        """Whether the last day is over everywhere."""
        end = datetime.combine(date.fromisoformat(self.expires), time.max, UTC) + timedelta(hours=12)
        return now > end


def agree(
    who: str,
    purpose: str,
    age: str,
    now: datetime,
    how: How = "self",
    agreed: str | None = None,
    expires: str | None = None,
    guardian: str = "",
    clip_sha256: str = "",
    phrase: str = "",
) -> Agreement:
    """A checked agreement. Without `expires` it holds for a year. Raises ConsentMissing for what cannot be one."""
    if not who.strip():
        raise ConsentMissing("nobody is enrolled without consent: say who agreed (--who)")
    if not purpose.strip():
        raise ConsentMissing("nobody is enrolled without consent: say for what (--purpose)")
    if age not in ("adult", "minor"):
        raise ConsentMissing(
            "nobody is enrolled without a statement of age: --age adult, or --age minor --guardian WHO"
        )
    if age == "minor" and not guardian.strip():
        raise ConsentMissing("a minor is enrolled only with the consent of a guardian: --guardian WHO")
    today = now.date()
    begun = _day(agreed, "agreed") if agreed else today
    if begun > today + timedelta(days=1):
        raise ConsentMissing(f"consent of {begun}: that day is not yet")
    last = _day(expires, "expires") if expires else begun + timedelta(days=USUAL_DAYS)
    if last < today:
        raise ConsentMissing(f"a consent that ended on {last} cannot be used")
    if last > today + timedelta(days=MOST_DAYS):
        raise ConsentMissing(
            f"a consent until {last} is longer than ten years: take an earlier day, and ask again then"
        )
    return Agreement.read(
        {
            "who": who.strip(), "agreed": begun.isoformat(), "purpose": purpose.strip(), "expires": last.isoformat(),
            "how": how, "age": age, "guardian": guardian.strip(), "clip_sha256": clip_sha256, "phrase": phrase,
        }
    )  # fmt: skip


def _day(text: str, what: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConsentMissing(f'{what} "{text}": a day like 2026-11-23 is needed') from error
