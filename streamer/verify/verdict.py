"""What was found out about a picture's origin, from mark and credentials together. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engines import Finding
from streamer.credentials import LEARNED, Credentials

Answer = Literal["marked", "not marked", "changed"]
EXIT = {"marked": 0, "not marked": 3, "changed": 4}
SYNTHETIC = {LEARNED.rpartition("/")[2], "trainedAlgorithmicMedia", "compositeSynthetic", "algorithmicMedia"}
SAMPLE_LOG10 = -6.0  # beyond it, "chance" is not worth writing out


@dataclass(frozen=True, slots=True)
class Verdict:
    """source: what was looked at. finding: of the invisible mark; None where nothing could be looked at for one.

    answer  `marked`: the mark was found, or whole credentials say that the picture is synthetic;
            `changed`: there are credentials and they do not fit, whatever the mark says;
            `not marked`: neither was found, which does not say that a picture is genuine
    """

    source: str
    credentials: Credentials
    finding: Finding | None

    @property
    def answer(self) -> Answer:
        if self.credentials.state == "broken":
            return "changed"
        if self.finding is not None and self.finding.marked:
            return "marked"
        return "marked" if self.credentials.state != "none" and self._says_synthetic() else "not marked"

    @property
    def exit_code(self) -> int:
        return EXIT[self.answer]

    @property
    def disagreement(self) -> str:
        """Empty, or how mark and credentials contradict each other: one of them was put on something else."""
        payload = self.finding.payload if self.finding is not None else None
        signed = self.credentials.swap.get("instance")
        if payload is None or not isinstance(signed, str) or not payload.instance:
            return ""
        if signed.startswith(payload.instance_hex):
            return ""
        return f"the mark is of installation {payload.instance_hex}, the credentials of {signed}"

    def _says_synthetic(self) -> bool:
        return any(SYNTHETIC & set(link.source_types) for link in self.credentials.chain)

    def as_json(self) -> dict[str, object]:
        finding, payload = self.finding, self.finding.payload if self.finding else None
        return {
            "source": self.source,
            "answer": self.answer,
            "exit_code": self.exit_code,
            "disagreement": self.disagreement,
            "mark": finding
            and {
                "marked": finding.marked,
                "confidence": finding.confidence,
                "false_positive_log10": finding.false_positive_log10,
                "frames": finding.frames,
                "payload": payload
                and {
                    "instance": payload.instance_hex,
                    "day": payload.date.isoformat(),
                    "version": payload.version,
                },
            },
            "credentials": {
                "state": self.credentials.state,
                "beside": self.credentials.beside,
                "failures": list(self.credentials.failures),
                "swap": dict(self.credentials.swap),
                "chain": [
                    {"signer": link.signer, "tool": link.tool, "source_types": list(link.source_types)}
                    for link in self.credentials.chain
                ],
            },
        }

    def lines(self) -> list[str]:
        """For people: the answer first."""
        said = [f"{self.source}: {self.answer}", f"  mark         {self._mark()}"]
        said.append(f"  credentials  {self._credentials()}")
        for depth, link in enumerate(self.credentials.chain):
            kinds = f": {', '.join(link.source_types)}" if link.source_types else ""
            said.append(
                f"  {'chain' if depth == 0 else '':<11}  {link.tool or 'unknown tool'}, signed by {link.signer}{kinds}"
            )
        said += [f"  {name:<20} {fact}" for name, fact in self.credentials.swap.items() if fact is not None]
        if self.disagreement:
            said.append(f"  they disagree: {self.disagreement}")
        if self.answer == "not marked":
            said.append("  That nothing was found does not say that a picture is genuine.")
        return said

    def _mark(self) -> str:
        finding = self.finding
        if finding is None:
            return "not looked for: no pictures could be read"
        looked_at = f"{finding.frames} picture{'' if finding.frames == 1 else 's'}"
        if not finding.marked:
            return f"not found in {looked_at}" + (f" ({finding.why})" if finding.why else "")
        chance = f"1e{finding.false_positive_log10:.0f}" if finding.false_positive_log10 > -300 else "nil"
        said = f"found in {looked_at}; chance in an unmarked clip {chance}"
        payload = finding.payload
        if payload is None:
            return said + "; too weak to read what it says"
        return said + f"; installation {payload.instance_hex}, {payload.date.isoformat()}, version {payload.version}"

    def _credentials(self) -> str:
        credentials = self.credentials
        said = {
            "none": "none",
            "trusted": "whole, signed by this installation or under a root that is trusted",
            "unknown signer": "whole, signed by somebody who is not known here",
            "broken": f"do not fit: {', '.join(credentials.failures)}",
        }[credentials.state]
        return said + (" (beside the file)" if credentials.beside else "")
