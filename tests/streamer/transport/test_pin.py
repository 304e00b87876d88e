"""The layer refuses versions and names that it was not written for, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import aioice.ice
import pytest
from aiortc import rtcpeerconnection
from aiortc.rtcrtpreceiver import RTCRtpReceiver

from streamer.transport import pin
from streamer.transport.changes import Changes, WrongVersion
from tests.streamer.calls import Camera, calling, plain, served


def test_the_installed_versions_are_the_ones() -> None:
    pin.check()


@pytest.mark.parametrize("package", ["aiortc", "aioice"])
def test_another_version_is_refused(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pin.VERSIONS, package, "99.0")
    with pytest.raises(WrongVersion, match=rf"{package} 99.0 is needed, not [\d.]+: pip install {package}==99.0"):
        pin.install()


def test_a_package_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pin.VERSIONS, "aiortc-that-is-not-there", "1.0")
    with pytest.raises(WrongVersion, match="not none"):
        pin.check()


def test_a_method_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(RTCRtpReceiver, "_run_rtcp")
    with pytest.raises(WrongVersion, match="RTCRtpReceiver has no _run_rtcp any more"):
        pin.install()


def test_an_attribute_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ((RTCRtpReceiver, "_RTCRtpReceiver__renamed"),)
    monkeypatch.setattr(pin, "ATTRIBUTES", (*pin.ATTRIBUTES, *wanted))
    with pytest.raises(WrongVersion, match="RTCRtpReceiver uses no _RTCRtpReceiver__renamed any more"):
        pin.install()


def names() -> tuple[object, ...]:
    """What the layer replaces, as it is now."""
    receiver: object = vars(rtcpeerconnection)["RTCRtpReceiver"]
    return aioice.ice.StunProtocol, receiver, aioice.ice.Connection.data_received


@pytest.fixture(autouse=True)
def stock() -> Iterator[None]:
    """Whatever another test has installed."""
    with pin.stock():
        yield


def test_nothing_is_changed_where_something_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = names()
    monkeypatch.setitem(pin.VERSIONS, "aiortc", "99.0")
    with pytest.raises(WrongVersion):
        pin.install()
    assert names() == before


def test_everything_is_put_back() -> None:
    before = names()
    with pin.installed():
        ours = names()
        assert all(now is not then for now, then in zip(ours, before))
        with pin.stock():
            assert names() == before
            with pin.installed():
                assert names()[0] is ours[0]
        assert names() == ours
    assert names() == before


def test_a_second_installation_takes_the_place_of_the_first() -> None:
    before = names()
    pin.install(loopback=True)
    pin.install(loopback=True)
    assert names()[0] is not before[0]
    assert aioice.ice.get_host_addresses(True, False).count("127.0.0.1") == 1
    pin.uninstall()
    assert names() == before


def test_loopback_is_named_once_and_only_where_it_is_wanted() -> None:
    assert pin.with_loopback(lambda v4, v6: ["10.0.0.1"])(True, True) == ["127.0.0.1", "10.0.0.1"]
    assert pin.with_loopback(lambda v4, v6: ["127.0.0.1"])(True, True) == ["127.0.0.1"]
    assert pin.with_loopback(lambda v4, v6: ["::2"])(False, True) == ["::2"]


async def test_a_call_works_on_a_machine_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [])
    async with served() as client, calling(client) as caller:
        answer = await caller.start(Camera([plain((9, 9, 9))]))
        addresses = {line.split()[4] for line in answer["sdp"].splitlines() if line.startswith("a=candidate")}
        assert addresses == {"127.0.0.1"}
        await caller.pictures(5)


def test_what_somebody_else_changed_since_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes()
    changes.replace(aioice.ice, "CONSENT_INTERVAL", 4)
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 3)
    changes.undo()
    assert aioice.ice.CONSENT_INTERVAL == 3
    monkeypatch.undo()
    changes.undo()
    assert aioice.ice.CONSENT_INTERVAL == 5


def test_a_name_that_is_gone_is_not_replaced() -> None:
    with pytest.raises(WrongVersion, match=r"aioice\.ice has no Gone any more"):
        Changes().replace(aioice.ice, "Gone", 1)
