"""A consent that ends while it is made use of: calls, live pictures and files go over to the standby picture."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import streamer.file
from engines import Identity, IdentityStore, Rgb, Session, SessionState, Status, StepResult, SwapSettings
from engines.trust.agreement import agree
from streamer.audit.log import audit_log
from streamer.capture.source import open_source
from streamer.config import FileConfig
from streamer.consents import ConsentWatch, why_not
from streamer.file import run_file
from streamer.live import Live, LivePlan
from tests.streamer.calls import Camera, Received, StubSession, calling, identity, negative, plain, served
from tests.streamer.clips import Clip, make
from tests.streamer.faces import photo_identity
from tests.streamer.test_live import SIZE_PX, Shelf, is_drawn, is_raw, until

NOW = datetime.now(UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr("streamer.consents.LOOK_S", 0.1)
    return tmp_path / "records"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, records: Path, clock: Clock) -> IdentityStore:
    store = IdentityStore(tmp_path / "identities", records, clock)
    store.save(with_consent("cleo"))
    return store


def with_consent(name: str) -> Identity:
    one = identity(name)
    agreement = agree("Cleo", "tests", "adult", NOW)
    manifest = one.manifest.model_copy(update={"agreement": agreement, "consent": agreement.sentence()})
    return replace(one, manifest=manifest)


def altered(store: IdentityStore) -> None:
    path = store.directory / "cleo.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def replaced(store: IdentityStore) -> None:
    one = with_consent("cleo")
    store.save(replace(one, manifest=one.manifest.model_copy(update={"created": "2026-02-02T00:00:00+00:00"})))


def without_key(store: IdentityStore) -> None:
    (store.records / "key.pem").write_bytes(b"rubbish")


WAYS: dict[str, tuple[Callable[[IdentityStore], object], str]] = {
    "revoked": (lambda store: store.withdraw("cleo", "asked"), "no identity"),
    "altered": (altered, "was changed after it was signed"),
    "deleted": (lambda store: store.delete("cleo"), "no identity"),
    "replaced": (replaced, "another one took its place"),
    "key": (without_key, "not a private key"),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_keeps_an_identity_from_being_loaded_ends_it(store: IdentityStore, way: str) -> None:
    worn = store.load("cleo")
    assert why_not(store.load, worn) is None
    act, words = WAYS[way]
    act(store)
    assert words in str(why_not(store.load, worn))


def test_the_last_day_passes(store: IdentityStore, clock: Clock) -> None:
    worn = store.load("cleo")
    clock.now += timedelta(days=365)
    assert why_not(store.load, worn) is None
    clock.now += timedelta(days=2)
    assert "the consent ended on" in str(why_not(store.load, worn))


def test_a_renewed_consent_goes_on(store: IdentityStore, clock: Clock) -> None:
    worn = store.load("cleo")
    store.renew("cleo", agree("Cleo", "more tests", "adult", NOW))
    assert why_not(store.load, worn) is None


def test_a_watch_ends_and_does_not_ask_while_nobody_is_worn() -> None:
    asked: list[str] = []

    def load(name: str) -> Identity:
        asked.append(name)
        return identity(name)

    with ConsentWatch(load, lambda: None, lambda *_: None):
        time.sleep(0.4)
    assert asked == []


class Wearing(StubSession):
    """Draws while somebody is worn, as an engine does: else the standby picture."""

    def step(self, state: SessionState, rgb_HW3: Rgb, captured_s: float) -> StepResult:
        if self.identity is None:
            return StepResult(np.full_like(rgb_HW3, 128), Status.STANDBY, 1)
        return negative(rgb_HW3)


def wearing(settings: SwapSettings, identity: Identity | None = None) -> Session:
    return Wearing(negative, settings, identity).as_session()


def taken_off() -> list[dict[str, object]]:
    lines = [line for line in audit_log().read() if line["event"] == "identity taken off"]
    return [line["facts"] for line in lines if isinstance(line["facts"], dict)]


def bright(received: Received) -> bool:
    return float(received.rgb_HW3.mean()) > 200


@pytest.mark.parametrize("way", ["revoked", "altered"])
async def test_a_call_goes_over_to_the_standby_picture(
    store: IdentityStore, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(loader=wearing, store=store) as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]), identity="cleo")
        await caller.until(lambda: any(bright(one) for one in caller.received))
        worn_sha256 = store.load("cleo").manifest.consent_sha256
        with caplog.at_level(logging.WARNING):
            WAYS[way][0](store)
            await caller.until(lambda: len(taken_off()) == 1)
            seen = len(caller.received)
            await caller.until(lambda: len(caller.received) > seen + 12)
        assert not any(bright(one) for one in caller.received[seen + 8 :])
        assert all(one.rgb_HW3.mean() > 20 for one in caller.received), "the raw one, a dark one, is never seen"
        numbers = await (await client.get(f"/session/{caller.call}")).json()
        assert numbers["identity"] is None
        refused = await client.patch(f"/session/{caller.call}", json={"identity": "cleo"})
        assert refused.status == 400
        assert (await client.patch(f"/session/{caller.call}", json={"identity": "amara"})).status == 200
        seen = len(caller.received)
        await caller.until(lambda: any(bright(one) for one in caller.received[seen:]))
    (facts,) = taken_off()
    assert facts["identity"] == "cleo"
    assert facts["consent_sha256"] == worn_sha256
    assert facts["call"] == 1
    told = [one for one in caplog.records if "the standby picture is shown from now on" in one.getMessage()]
    assert len(told) == 1


def test_a_live_picture_goes_over_to_the_standby_picture(store: IdentityStore, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", Clip(stamps=tuple(range(0, 600, 100)), size_px=SIZE_PX))
    shelf = Shelf()
    plan = LivePlan(SwapSettings(), "cleo", size_px=SIZE_PX, identities_dir=store.directory)
    live = Live(open_source(str(clip), loop=True), [shelf], plan, wearing)
    try:
        live.start()
        until(lambda: any(is_drawn(one) for one in shelf.got))
        store.withdraw("cleo")
        until(lambda: len(taken_off()) == 1)
        seen = len(shelf.got)
        until(lambda: len(shelf.got) > seen + 5)
        assert not any(is_drawn(one) for one in shelf.got[seen + 3 :])
        assert not any(is_raw(one) for one in shelf.got)
        assert live.showing.identity is None
        assert "cleo" in str(live.numbers()["why"])
        live.swap_identity("amara")
        seen = len(shelf.got)
        until(lambda: any(is_drawn(one) for one in shelf.got[seen:]))
    finally:
        live.close()
    assert taken_off()[0]["command"] == "camera"


@pytest.mark.long
def test_the_rest_of_a_film_is_the_standby_picture(
    shared_data: Path, tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = IdentityStore(tmp_path / "identities", records)
    one = photo_identity(shared_data / "synth_faces" / "t0260_schnell.jpg")
    store.save(one)
    swap, count = streamer.file._swap, iter(range(10_000))

    def until_the_tenth(*args: object) -> object:
        if next(count) == 10:
            store.withdraw(one.name)
            time.sleep(1.0)
        return swap(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(streamer.file, "_swap", until_the_tenth)
    clip = shared_data / "clips" / "single_face.mp4"
    config = FileConfig(
        input=clip, output=tmp_path / "out.mp4", identity=one.name, identities_dir=store.directory,
        swap=SwapSettings(engine="proxy"),
    )  # fmt: skip
    report = run_file(config, io.StringIO())
    assert report.frames.drawn == 10
    assert report.frames.standby > 40
    assert any("from then on the result is the standby picture" in warning for warning in report.warnings)
    assert taken_off()[0]["file"] == "out.mp4"
