"""What mark and credentials together come to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engines import Finding, Payload
from streamer.credentials import LEARNED, Credentials, Link, State
from streamer.verify.verdict import Verdict
from tests.streamer.verify.findings import FOUND, NOTHING

OURS = Link("vividstream 0a1b2c3d", "vividstream 0.1.0", (LEARNED.rpartition("/")[2],))
CAMERA = Link("A camera maker", "camera 1", ("digitalCapture",))


def verdict(state: State, finding: Finding | None, link: Link = OURS) -> Verdict:
    return Verdict("clip.mp4", Credentials(state, () if state == "none" else (link,)), finding)


@pytest.mark.parametrize(
    ("state", "finding", "answer", "exit_code"),
    [
        ("none", FOUND, "marked", 0),
        ("none", NOTHING, "not marked", 3),
        ("none", None, "not marked", 3),
        ("trusted", FOUND, "marked", 0),
        ("trusted", NOTHING, "marked", 0),
        ("unknown signer", NOTHING, "marked", 0),
        ("broken", FOUND, "changed", 4),
        ("broken", NOTHING, "changed", 4),
    ],
)
def test_the_answer(state: State, finding: Finding | None, answer: str, exit_code: int) -> None:
    said = verdict(state, finding)
    assert (said.answer, said.exit_code) == (answer, exit_code)
    assert said.lines()[0] == f"clip.mp4: {answer}"


def test_credentials_of_a_camera_do_not_make_a_mark() -> None:
    assert verdict("trusted", NOTHING, CAMERA).answer == "not marked"
    assert verdict("trusted", FOUND, CAMERA).answer == "marked"


def test_nothing_found_is_not_called_genuine() -> None:
    assert "does not say" in verdict("none", NOTHING).lines()[-1]


def test_a_mark_of_one_and_credentials_of_another_disagree() -> None:
    assert FOUND.payload is not None
    same = Credentials("trusted", (OURS,), {"instance": FOUND.payload.instance_hex + "07"})
    other = replace(same, swap={"instance": "ffffffff"})
    assert Verdict("a", same, FOUND).disagreement == ""
    assert "ffffffff" in Verdict("a", other, FOUND).disagreement
    assert any("disagree" in line for line in Verdict("a", other, FOUND).lines())
    assert Verdict("a", other, replace(FOUND, payload=None)).disagreement == ""


def test_it_can_be_written_as_json() -> None:
    values = json.loads(json.dumps(verdict("trusted", FOUND).as_json()))
    assert values["answer"] == "marked"
    assert isinstance(FOUND.payload, Payload)
    assert values["mark"]["payload"]["instance"] == FOUND.payload.instance_hex
    assert values["credentials"]["chain"][0]["signer"] == OURS.signer
    assert json.loads(json.dumps(verdict("none", None).as_json()))["mark"] is None
