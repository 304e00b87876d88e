"""Signed identities: what was changed, has ended, was taken back or comes from elsewhere is not worn."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load, save

from engines import ConsentEnded, ConsentMissing, Identity, IdentityError, IdentityStore, NotGenuine, agree
from engines.identity_store import identity_bytes, parse_identity, write_identity
from engines.trust.key import local_key
from tests.engines.face.heads import identity

TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)


def real(name: str = "ada", days: int = 365) -> Identity:
    """Somebody who exists, with an agreement that holds for so many days."""
    until = (TODAY + timedelta(days=days)).date().isoformat()
    agreement = agree("Ada Jones", "her own calls", "adult", TODAY, how="written", expires=until)
    one = identity(name=name)
    facts = {"synthetic": False, "agreement": agreement, "consent": agreement.sentence(), "images_sha256": ("ab" * 32,)}
    return replace(one, manifest=one.manifest.model_copy(update=facts))


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "identities", tmp_path / "records", lambda: TODAY)


def at(store: IdentityStore, days: int) -> IdentityStore:
    return IdentityStore(store.directory, store.records, lambda: TODAY + timedelta(days=days))


def test_who_when_what_how_and_until_come_back(store: IdentityStore) -> None:
    store.save(real())
    manifest = store.load("ada").manifest
    assert manifest.agreement == real().manifest.agreement
    assert manifest.consent == "Ada Jones, 2026-11-23, for her own calls; until 2027-11-23"
    assert manifest.signed_by == local_key(store.records).public


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    records = tmp_path_factory.mktemp("sealing")
    return identity_bytes(records / "ada.safetensors", real(), local_key(records))


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_byte_that_is_changed_is_found(sealed: bytes, data: st.DataObject) -> None:
    """In the header, where it is JSON with room to hide, as often as in the arrays."""
    header = 8 + int.from_bytes(sealed[:8], "little")
    place = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(sealed) - 1)))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != sealed[place]))
    with pytest.raises(IdentityError):
        parse_identity(Path("ada.safetensors"), sealed[:place] + bytes([value]) + sealed[place + 1 :])


def test_the_bytes_at_every_border_count(sealed: bytes) -> None:
    header = 8 + int.from_bytes(sealed[:8], "little")
    for place in (0, 7, 8, header - 1, header, len(sealed) // 2, len(sealed) - 1):
        with pytest.raises(IdentityError):
            parse_identity(Path("a"), sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_that_are_put_in_taken_out_or_cut_off_are_found(sealed: bytes, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(sealed)))
    end = data.draw(st.integers(begin, min(begin + 200, len(sealed))))
    changed = sealed[:begin] + data.draw(st.binary(max_size=200)) + sealed[end:]
    if changed != sealed:
        with pytest.raises(IdentityError):
            parse_identity(Path("ada.safetensors"), changed)


def rewritten(data: bytes, path: Path, **facts: object) -> None:
    """The file as somebody with this program's libraries, but without the key, would write it."""
    path.write_bytes(data)
    with safe_open(path, framework="np") as file:
        header = file.metadata()
    manifest = {**json.loads(header["manifest"]), **facts}
    path.write_bytes(save(load(data), {**header, "manifest": json.dumps(manifest)}))


def test_a_longer_consent_cannot_be_written_in(store: IdentityStore) -> None:
    path = store.save(real())
    agreement = json.loads(store.load("ada").manifest.model_dump_json())["agreement"]
    rewritten(path.read_bytes(), path, agreement={**agreement, "expires": "2036-01-01"})
    with pytest.raises(NotGenuine, match="changed after it was signed"):
        store.load("ada")


def test_the_signature_of_another_key_does_not_count(store: IdentityStore, tmp_path: Path) -> None:
    path = store.save(real())
    write_identity(path, real(), local_key(tmp_path / "elsewhere"))
    with pytest.raises(NotGenuine, match="another installation"):
        store.load("ada")


def test_taking_the_signature_off_does_not_make_it_an_old_file(store: IdentityStore) -> None:
    path = store.save(real())
    write_identity(path, real())
    with pytest.raises(NotGenuine, match="not signed"):
        store.load("ada")


def test_files_of_before_keep_loading_and_can_be_renewed(
    store: IdentityStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.directory / "old.safetensors"
    write_identity(path, real("old"))
    assert store.load("old").manifest.format == 1
    assert "`vividstream consent renew" in caplog.text
    later = store.directory / "later.safetensors"
    write_identity(later, real("later"))
    with pytest.raises(NotGenuine, match="consent renew"):
        store.load("later")
    store.renew("later", agree("Ada", "calls", "adult", TODAY))
    assert store.load("later").manifest.agreement is not None


def test_consent_ends_on_its_day(store: IdentityStore) -> None:
    store.save(real(days=10))
    assert at(store, 10).load("ada").name == "ada"
    with pytest.raises(ConsentEnded, match="ended on 2026-12-03"):
        at(store, 12).load("ada")
    at(store, 12).renew("ada", agree("Ada Jones", "her own calls", "adult", TODAY + timedelta(days=12)))
    assert at(store, 12).load("ada").name == "ada"


def test_who_takes_it_back_is_gone_with_all_copies(store: IdentityStore) -> None:
    path = store.save(real())
    copy = path.read_bytes()
    store.renew("ada", agree("Ada Jones", "films", "adult", TODAY))
    store.withdraw("ada", "asked by mail")
    assert "ada" not in store.names()
    path.write_bytes(copy)
    with pytest.raises(ConsentEnded, match="withdrawn"):
        store.load("ada")
    with pytest.raises(ConsentEnded, match="cannot be renewed"):
        store.renew("ada", agree("Ada Jones", "films", "adult", TODAY))


@pytest.mark.parametrize("damage", ["entries", "cut", "other"])
def test_the_list_of_who_took_it_back_cannot_be_changed(store: IdentityStore, damage: str) -> None:
    for name in ("ada", "bob"):
        made = real(name)
        facts = {"created": f"2026-11-2{len(name)}{name}"}
        store.save(replace(made, manifest=made.manifest.model_copy(update=facts)))
    store.withdraw("ada")
    path = store.records / "withdrawn.json"
    if damage == "entries":
        path.write_text(json.dumps({**json.loads(path.read_text()), "entries": {}}))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.write_bytes((store.records / "unsigned.json").read_bytes())
    with pytest.raises(IdentityError, match=r"withdrawn\.json"):
        store.load("bob")


def test_nobody_real_is_saved_without_an_agreement(store: IdentityStore) -> None:
    nobody = real()
    with pytest.raises(ConsentMissing):
        store.save(replace(nobody, manifest=nobody.manifest.model_copy(update={"agreement": None})))


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"who": " "}, "who agreed"),
        ({"purpose": ""}, "for what"),
        ({"age": ""}, "statement of age"),
        ({"age": "minor"}, "guardian"),
        ({"expires": "2026-11-22"}, "ended on"),
        ({"expires": "2037-01-01"}, "ten years"),
        ({"expires": "soon"}, "a day like"),
        ({"agreed": "2026-12-24"}, "not yet"),
    ],
)
def test_what_is_no_consent_is_refused(facts: dict[str, str], says: str) -> None:
    with pytest.raises(ConsentMissing, match=says):
        agree(**{"who": "Ada", "purpose": "calls", "age": "adult", **facts}, now=TODAY)  # type: ignore[arg-type]


def test_a_minor_needs_a_guardian_who_is_written_down() -> None:
    given = agree("Bo", "a school play", "minor", TODAY, guardian="Ada Jones")
    assert (given.age, given.guardian) == ("minor", "Ada Jones")
    assert "guardian" in given.sentence()


def test_the_consent_s_hash_tells_consents_apart_and_names_nobody(store: IdentityStore) -> None:
    first = real().manifest
    assert first.consent_sha256 == real().manifest.consent_sha256
    assert first.consent_sha256 != real(days=30).manifest.consent_sha256
    assert first.origin_sha256 == real(days=30).manifest.origin_sha256
