"""How much one stranger may ask for: rates and numbers per address, per token and for the whole server."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil

from streamer.config import GuardSettings
from streamer.guards.addresses import network_of

MOST_ADDRESSES = 10_000  # that are remembered; the one that asked longest ago is forgotten
REQUESTS_PER_S, REQUESTS_AT_ONCE = 20.0, 100.0
WRONG_TOKENS_PER_S, WRONG_TOKENS_AT_ONCE = 0.1, 10.0


@dataclass(slots=True)
class Bucket:
    """A token bucket: `burst` at once, `per_s` in the long run."""

    per_s: float
    burst: float
    level: float
    at_s: float

    @classmethod
    def full(cls, per_s: float, burst: float, now_s: float) -> Bucket:
        return cls(per_s, burst, burst, now_s)

    def wait_s(self, now_s: float, amount: float = 1.0) -> float:
        """How long until so much may be taken; 0: now."""
        self.level = min(self.burst, self.level + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        return 0.0 if self.level >= amount else (amount - self.level) / self.per_s

    def take(self, now_s: float, amount: float = 1.0) -> float:
        """Takes so much if it is there. How long to wait where it is not, else 0."""
        wait_s = self.wait_s(now_s, amount)
        if wait_s == 0:
            self.level -= amount
        return wait_s


@dataclass(slots=True)
class _Stranger:
    requests: Bucket
    offers: Bucket
    wrong: Bucket
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """An HTTP answer in place of what was asked for."""

    status: int
    sentence: str
    retry_after_s: float | None = None
    why: str = ""  # a word for the counters

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(max(1, ceil(self.retry_after_s)))}


@dataclass(frozen=True, slots=True)
class Ticket:
    """One call's place. Given back exactly once, however the call ends."""

    network: str
    holder: str | None
    number: int


@dataclass
class Limits:
    """The book of who has how much. All times are monotonic seconds."""

    settings: GuardSettings
    most_calls: int
    refused: dict[str, int] = field(default_factory=dict)
    _strangers: OrderedDict[str, _Stranger] = field(default_factory=OrderedDict)
    _tickets: dict[int, Ticket] = field(default_factory=dict)
    _number: int = 0

    @property
    def calls(self) -> int:
        return len(self._tickets)

    @property
    def addresses(self) -> int:
        return len(self._strangers)

    def request(self, address: str, now_s: float) -> Refused | None:
        """Counts a request of any kind."""
        stranger = self._stranger(address, now_s)
        if stranger is not None and (wait_s := stranger.requests.take(now_s)):
            return self.refuse(Refused(429, "too many requests from this address", wait_s, "request_rate"))
        if stranger is not None and (wait_s := stranger.wrong.wait_s(now_s)):
            return self.refuse(Refused(429, "too many wrong tokens from this address", wait_s, "wrong_tokens"))
        return None

    def wrong_token(self, address: str, now_s: float) -> None:
        """Counts a token that lets nobody in; after some, the address is not listened to for a while."""
        stranger = self._stranger(address, now_s)
        if stranger is not None:
            stranger.wrong.take(now_s)

    def enter(self, address: str, holder: str | None, holders_calls: int | None, now_s: float) -> Ticket | Refused:
        """A place for one more call."""
        network = network_of(address)
        if len(self._tickets) >= self.most_calls:
            calls = "1 call is" if self.most_calls == 1 else f"{self.most_calls} calls are"
            sentence = f"the server is busy: {calls} going on already, try again later"
            return self.refuse(Refused(503, sentence, 5, "server_full"))
        held = sum(ticket.holder == holder for ticket in self._tickets.values())
        if holder is not None and holders_calls is not None and held >= holders_calls:
            return self.refuse(Refused(429, f"this token has {held} calls already", 5, "token_full"))
        stranger = self._stranger(address, now_s)
        if stranger is not None:
            if wait_s := stranger.offers.take(now_s):
                return self.refuse(Refused(429, "too many new calls from this address", wait_s, "offer_rate"))
            if stranger.calls >= self.settings.calls_per_address:
                return self.refuse(Refused(429, f"this address has {stranger.calls} calls already", 5, "address_full"))
            stranger.calls += 1
        self._number += 1
        ticket = self._tickets[self._number] = Ticket(network, holder, self._number)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The call has ended. A second time changes nothing."""
        if self._tickets.pop(ticket.number, None) is None:
            return
        stranger = self._strangers.get(ticket.network)
        if stranger is not None and stranger.calls > 0:
            stranger.calls -= 1

    def refuse(self, answer: Refused) -> Refused:
        """Counts a refusal by its reason."""
        self.refused[answer.why] = self.refused.get(answer.why, 0) + 1
        return answer

    def _stranger(self, address: str, now_s: float) -> _Stranger | None:
        """What is known of an address. None: this machine itself, which is not limited."""
        network = network_of(address)
        if _is_loopback(network):
            return None
        stranger = self._strangers.get(network)
        if stranger is None:
            self._forget()
            per_minute = self.settings.offers_per_minute
            stranger = self._strangers[network] = _Stranger(
                Bucket.full(REQUESTS_PER_S, REQUESTS_AT_ONCE, now_s),
                Bucket.full(per_minute / 60, max(1.0, per_minute / 2), now_s),
                Bucket.full(WRONG_TOKENS_PER_S, WRONG_TOKENS_AT_ONCE, now_s),
            )
        self._strangers.move_to_end(network)
        return stranger

    def _forget(self) -> None:
        """Makes room; who has a call is not forgotten."""
        if len(self._strangers) < MOST_ADDRESSES:
            return
        oldest = next((network for network, known in self._strangers.items() if not known.calls), None)
        if oldest is not None:
            del self._strangers[oldest]


def _is_loopback(network: str) -> bool:
    return network.startswith("127.") or network == "::/64"
