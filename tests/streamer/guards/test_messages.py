"""The data channel's gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.guards.messages import MESSAGES, MOST_BYTES, MessageGate, Ping, json_schema

ROOT = Path(__file__).parents[3]


def test_a_ping_is_read_and_what_is_none_is_counted() -> None:
    gate = MessageGate(0.0)
    assert gate.take('{"ping_ms": 12.5}', 0.0) == Ping(ping_ms=12.5)
    assert gate.take('{"ping_ms": 12}', 0.0) == Ping(ping_ms=12.0)
    for wrong in (
        '{"ping_ms": "12"}', '{"ping_ms": NaN}', '{"ping_ms": Infinity}', '{"ping_ms": -1}', '{"ping_ms": true}',
        '{"ping_ms": 1, "more": 2}', '{"pong": 1}', "{}", "[]", "null", "", "{", "[" * 900,
        '{"ping_ms": 1' + "0" * 400 + "}",
    ):  # fmt: skip
        assert gate.take(wrong, 100.0) is None, wrong
    assert gate.refused["form"] == 14
    assert gate.take(b"\x00binary", 200.0) is None
    assert gate.take(json.dumps({"ping_ms": 1, "x": "y" * MOST_BYTES}), 200.0) is None
    assert gate.refused == {"rate": 0, "size": 1, "form": 15}


def test_more_than_the_rate_is_not_even_read() -> None:
    gate = MessageGate(0.0)
    taken = sum(gate.take('{"ping_ms": 1}', number / 1_000) is not None for number in range(1_000))
    assert 20 <= taken <= 31
    assert gate.refused["rate"] == 1_000 - taken


@given(st.one_of(st.text(max_size=1_200), st.binary(max_size=50), st.none(), st.integers()))
def test_nothing_raises(message: object) -> None:
    MessageGate(0.0).take(message, 0.0)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda part: st.lists(part) | st.dictionaries(st.sampled_from(["ping_ms", "x"]), part)))  # fmt: skip  # noqa: E501
def test_no_json_raises(message: object) -> None:
    MessageGate(0.0).take(json.dumps(message), 0.0)


def test_the_schema_in_the_documents_is_that_of_the_source() -> None:
    path = ROOT / "docs" / "messages.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json_schema()


def test_forms_can_be_told_apart() -> None:
    first_fields = [next(iter(form.model_fields)) for form in MESSAGES]
    assert len(set(first_fields)) == len(MESSAGES)


@pytest.mark.parametrize("form", MESSAGES)
def test_forms_take_no_unknown_keys(form: type[Ping]) -> None:
    assert form.model_json_schema()["additionalProperties"] is False
