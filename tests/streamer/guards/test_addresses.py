"""Which addresses may be sent to: every way of writing a forbidden one is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import GuardSettings, ServerConfig
from streamer.guards.addresses import AddressPolicy, is_inside, network_of
from streamer.guards.gate import address_policy

OPEN, LAN, LOCAL = AddressPolicy(), AddressPolicy(lan=True), AddressPolicy(lan=True, loopback=True)


@pytest.mark.parametrize(
    ("host", "on_the_open_network", "in_a_lan", "on_this_machine"),
    [
        ("8.8.8.8", None, None, None),
        ("2001:4860:4860::8888", None, None, None),
        ("10.1.2.3", "private", None, None),
        ("172.16.0.1", "private", None, None),
        ("192.168.1.1", "private", None, None),
        ("100.64.0.1", "private", None, None),
        ("198.18.0.1", "private", None, None),
        ("fd12::1", "private", None, None),
        ("127.0.0.1", "loopback", "loopback", None),
        ("127.9.9.9", "loopback", "loopback", None),
        ("::1", "loopback", "loopback", None),
        ("::ffff:127.0.0.1", "loopback", "loopback", None),
        ("::ffff:10.0.0.1", "private", None, None),
        ("::127.0.0.1", "loopback", "loopback", None),
        ("64:ff9b::7f00:1", "loopback", "loopback", None),
        ("64:ff9b::a00:1", "private", None, None),
        ("64:ff9b::808:808", None, None, None),
        ("2002:7f00:1::", "loopback", "loopback", None),
        ("2001:4860::5efe:7f00:1", "loopback", "loopback", None),
        ("2001:4860::200:5efe:7f00:1", "loopback", "loopback", None),
        ("169.254.169.254", "metadata", "metadata", "metadata"),
        ("::ffff:169.254.169.254", "metadata", "metadata", "metadata"),
        ("fd00:ec2::254", "metadata", "metadata", "metadata"),
        ("100.100.100.200", "metadata", "metadata", "metadata"),
        ("169.254.7.7", "special", "special", "special"),
        ("fe80::1", "special", "special", "special"),
        ("fe80::1%eth0", "name", "name", "name"),
        ("0.0.0.0", "special", "special", "special"),
        ("::", "special", "special", "special"),
        ("255.255.255.255", "special", "special", "special"),
        ("224.0.0.251", "special", "special", "special"),
        ("ff02::fb", "special", "special", "special"),
        ("240.0.0.1", "special", "special", "special"),
        ("0177.0.0.1", "name", "name", "name"),
        ("2130706433", "name", "name", "name"),
        ("localhost", "name", "name", "name"),
        ("metadata.google.internal", "name", "name", "name"),
        ("0a1b2c3d-0000-4000-8000-123456789abc.local", "name", None, None),
        ("evil.example.local", "name", "name", "name"),
    ],
)
def test_candidates(
    host: str, on_the_open_network: str | None, in_a_lan: str | None, on_this_machine: str | None
) -> None:
    said = tuple(policy.candidate(host, 50_000) for policy in (OPEN, LAN, LOCAL))
    assert said == (on_the_open_network, in_a_lan, on_this_machine)


@pytest.mark.parametrize(
    ("host", "port", "transport", "fault"),
    [
        ("8.8.8.8", 443, "udp", None), ("8.8.8.8", 80, "UDP", None), ("8.8.8.8", 53, "udp", "port"),
        ("192.168.1.1", 443, "udp", "port"), ("8.8.8.8", 0, "udp", "port"), ("8.8.8.8", 65_536, "udp", "port"),
        ("8.8.8.8", 50_000, "tcp", "transport"), ("8.8.8.8", 1_023, "udp", "port"), ("8.8.8.8", 1_024, "udp", None),
    ],
)  # fmt: skip
def test_ports_and_transports(host: str, port: int, transport: str, fault: str | None) -> None:
    assert LOCAL.candidate(host, port, transport) == fault


def test_who_calls_from_a_private_address_is_answered_and_who_claims_to_be_this_machine_is_not() -> None:
    assert OPEN.source("192.168.1.7") is None
    assert OPEN.source("9.9.9.9") is None
    for host in ("127.0.0.1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1", "224.0.0.1", "nonsense"):
        assert OPEN.source(host) is not None, host
    assert LOCAL.source("127.0.0.1") is None


@given(st.ip_addresses())
def test_of_all_addresses_only_global_ones_pass_on_the_open_network(address: object) -> None:
    policy_says = OPEN.candidate(str(address), 50_000)
    if not getattr(address, "is_global", False):
        assert policy_says is not None or str(address).startswith("64:ff9b::")


@given(st.text(max_size=60), st.integers(-5, 70_000))
def test_no_text_raises(host: str, port: int) -> None:
    for policy in (OPEN, LAN, LOCAL):
        policy.candidate(host, port)
        policy.source(host)
    network_of(host)
    is_inside(host)


def test_one_subscriber_is_one_stranger() -> None:
    assert network_of("9.9.9.9") == "9.9.9.9" == network_of("::ffff:9.9.9.9")
    assert network_of("2001:db8:1:2::5") == network_of("2001:db8:1:2:ffff::9") != network_of("2001:db8:1:3::5")
    assert network_of("rubbish") == "?"


@pytest.mark.parametrize(
    ("host", "guard", "policy"),
    [
        ("127.0.0.1", GuardSettings(), LOCAL),
        ("localhost", GuardSettings(), LOCAL),
        ("192.168.1.5", GuardSettings(), LAN),
        ("0.0.0.0", GuardSettings(), OPEN),
        ("0.0.0.0", GuardSettings(lan="yes"), LAN),
        ("127.0.0.1", GuardSettings(lan="no"), OPEN),
        ("127.0.0.1", GuardSettings(proxies=("127.0.0.1",)), OPEN),
        ("8.8.8.8", GuardSettings(), OPEN),
    ],
)
def test_what_a_server_lets_calls_name(host: str, guard: GuardSettings, policy: AddressPolicy) -> None:
    assert address_policy(ServerConfig(host=host, guard=guard)) == policy
