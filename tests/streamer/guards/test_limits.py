"""How much one stranger gets, and that time gives it back."""

from __future__ import annotations

import pytest

from streamer.config import GuardSettings
from streamer.guards import limits as limits_module
from streamer.guards.limits import Bucket, Limits, Refused, Ticket
from streamer.guards.times import Patience


def entered(limits: Limits, address: str, now_s: float, holder: str | None = None, calls: int | None = None) -> Ticket:
    ticket = limits.enter(address, holder, calls, now_s)
    assert isinstance(ticket, Ticket), ticket
    return ticket


def why(answer: Ticket | Refused | None) -> str:
    assert isinstance(answer, Refused), answer
    assert int(answer.headers["Retry-After"]) >= 1
    return answer.why


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket.full(2.0, 3.0, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(0.0) == pytest.approx(0.5)
    assert bucket.take(0.5) == 0
    assert sum(bucket.take(1_000.0) == 0 for _ in range(10)) == 3


def test_calls_per_address_token_and_server() -> None:
    limits = Limits(GuardSettings(calls_per_address=2, offers_per_minute=1_000), most_calls=5)
    first, _ = entered(limits, "9.9.9.9", 0.0), entered(limits, "9.9.9.9", 0.0)
    assert why(limits.enter("9.9.9.9", None, None, 0.0)) == "address_full"
    limits.leave(first)
    limits.leave(first)
    entered(limits, "9.9.9.9", 0.0)
    assert why(limits.enter("9.9.9.9", None, None, 0.0)) == "address_full", "leaving twice frees one place"
    entered(limits, "8.8.8.8", 0.0, "anna", 1)
    assert why(limits.enter("7.7.7.7", "anna", 1, 0.0)) == "token_full"
    entered(limits, "2001:db8::1", 0.0)
    entered(limits, "2001:db8::2", 0.0)
    refused = limits.enter("6.6.6.6", None, None, 0.0)
    assert why(refused) == "server_full"
    assert isinstance(refused, Refused)
    assert refused.sentence == "the server is busy: 5 calls are going on already, try again later"
    assert limits.refused == {"address_full": 2, "token_full": 1, "server_full": 1}


def test_the_subnet_of_an_ipv6_subscriber_is_one_address() -> None:
    limits = Limits(GuardSettings(calls_per_address=1), most_calls=9)
    entered(limits, "2001:db8::1", 0.0)
    assert why(limits.enter("2001:db8::2", None, None, 0.0)) == "address_full"
    entered(limits, "2001:db8:0:1::1", 0.0)


def test_new_calls_have_a_rate() -> None:
    limits = Limits(GuardSettings(offers_per_minute=6), most_calls=100)
    for _ in range(3):
        limits.leave(entered(limits, "9.9.9.9", 0.0))
    refused = limits.enter("9.9.9.9", None, None, 0.0)
    assert why(refused) == "offer_rate"
    limits.leave(entered(limits, "9.9.9.9", 10.0))
    assert why(limits.enter("9.9.9.9", None, None, 10.0)) == "offer_rate"


def test_this_machine_itself_is_limited_by_the_server_alone() -> None:
    limits = Limits(GuardSettings(calls_per_address=1, offers_per_minute=1), most_calls=50)
    for address in ("127.0.0.1", "::1"):
        for _ in range(20):
            entered(limits, address, 0.0)
    assert all(limits.request("127.0.0.1", 0.0) is None for _ in range(1_000))


def test_requests_have_a_rate_and_addresses_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(GuardSettings(), most_calls=5)
    answers = [limits.request("9.9.9.9", 0.0) for _ in range(150)]
    assert sum(answer is None for answer in answers) == 100
    assert why(answers[-1]) == "request_rate"
    assert limits.request("9.9.9.9", 1.0) is None
    monkeypatch.setattr(limits_module, "MOST_ADDRESSES", 100)
    ticket = entered(limits, "5.5.5.5", 0.0)
    for number in range(1_000):
        limits.request(f"1.2.{number // 250}.{number % 250}", 0.0)
    assert limits.addresses == 100
    limits.leave(ticket)
    assert limits.calls == 0


def test_a_call_is_waited_for_step_by_step() -> None:
    patience = Patience(GuardSettings(longest_call_s=100.0), begun_s=1_000.0)
    assert patience.over(1_009.9) is None
    assert patience.wait_s(1_004.0) == pytest.approx(6.0)
    assert patience.over(1_010.0) == "the connection did not come about in time"
    patience.connected(1_005.0)
    patience.connected(1_009.0)
    assert patience.over(1_019.9) is None
    assert patience.over(1_020.0) == "no picture came from the camera"
    patience.media(1_019.0)
    assert patience.over(1_038.9) is None
    assert patience.over(1_039.0) == "the camera fell silent"
    patience.media(1_095.0)
    assert patience.over(1_100.0) == "the longest time of a call is over"
    assert patience.wait_s(1_200.0) == 0
