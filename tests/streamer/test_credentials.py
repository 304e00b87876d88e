"""Content credentials: whole, they say what was done; changed anywhere, they say so; and they tell nobody's name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import c2pa
import encypher_c2pa
import numpy as np
import pytest
from av.video.stream import VideoStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines import LocalKey, SettingError, local_key
from streamer.config import SigningSettings
from streamer.credentials import (
    DRAWN,
    EMBEDDED,
    LEARNED,
    SWAP,
    Fact,
    Swap,
    read_credentials,
    sidecar_of,
    sign_file,
)

FACTS: dict[str, Fact] = {"consent_sha256": "ab" * 32, "label": True, "instance": "0a1b2c3d"}
SWAPPED = Swap("0.1.0", "proxy", True, FACTS)
CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9", ".gif": "gif"}


def clip(path: Path) -> Path:
    """A dozen small pictures, as the writer of files codes them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=25, width=96, height=64)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        for index in range(12):
            picture = np.full((64, 96, 3), index * 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = clip(tmp_path_factory.mktemp("signed") / "out.mp4")
    sign_file(path, path, SWAPPED)
    return path


@pytest.mark.parametrize("suffix", CODECS)
def test_every_kind_of_file_has_credentials(tmp_path: Path, suffix: str) -> None:
    path = clip(tmp_path / f"out{suffix}")
    before = path.read_bytes()
    sign_file(path, path, SWAPPED)
    found = read_credentials(path)
    assert (found.state, found.failures) == ("trusted", ())
    assert found.swap == {**FACTS, "engine": "proxy"}
    assert found.chain[0].source_types == (DRAWN.rpartition("/")[2],)
    beside = sidecar_of(path)
    assert found.beside == (beside is not None)
    names = {path.name} if beside is None else {path.name, "out.c2pa"}
    assert set(os.listdir(tmp_path)) == names
    assert (path.read_bytes() == before) == (beside is not None)


def test_a_learned_engine_is_called_what_it_is(tmp_path: Path) -> None:
    path = clip(tmp_path / "out.mp4")
    sign_file(path, path, Swap("0.1.0", "tiny", True, {}))
    assert read_credentials(path).chain[0].source_types == (LEARNED.rpartition("/")[2],)


def test_what_was_only_passed_through_is_not_called_synthetic(tmp_path: Path) -> None:
    path = clip(tmp_path / "out.mp4")
    sign_file(path, path, Swap("0.1.0", "passthrough", False, {}))
    found = read_credentials(path)
    assert (found.state, found.chain[0].source_types) == ("trusted", ())


def boxes(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the boxes of an MP4 file lie, by kind."""
    found, place = {}, 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        found[data[place + 4 : place + 8].decode("latin-1")] = (place, place + size)
        place += max(size, 8)
    return found


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_byte_of_pictures_or_manifest_that_is_changed_is_found(signed: Path, data: st.DataObject) -> None:
    """Or it reads exactly as before: C2PA leaves the boxes' frames and the signature's padding out of its hashes."""
    whole = signed.read_bytes()
    lie = boxes(whole)
    begin, end = data.draw(st.sampled_from([lie["moov"], lie["mdat"], (lie["uuid"][0] + 40, lie["uuid"][1])]))
    place = data.draw(st.integers(begin + 8, end - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    changed = signed.with_name("changed.mp4")
    changed.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    found = read_credentials(changed)
    if found.state == "trusted":
        assert found == read_credentials(signed)
        assert lie["uuid"][0] <= place < lie["uuid"][1]
    else:
        assert found.state == "broken"


def test_credentials_of_another_file_do_not_fit(tmp_path: Path) -> None:
    for name in ("a.mkv", "b.mkv"):
        sign_file(clip(tmp_path / name), tmp_path / name, SWAPPED)
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.mkv").write_bytes(data)
    assert read_credentials(tmp_path / "a.mkv").state == "broken"
    assert read_credentials(tmp_path / "b.mkv").state == "trusted"


def test_a_reader_elsewhere_sees_it_whole_and_does_not_know_who(signed: Path, tmp_path: Path) -> None:
    """Another process, with its own key and C2PA's own trust: first as it is, then with this installation's root."""
    code = f"import c2pa, json; r = c2pa.Reader({str(signed)!r}); print(r.get_validation_state()); print(r.json())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    state, _, report = done.stdout.partition("\n")
    assert state == "Valid"
    assert [one["code"] for one in json.loads(report)["validation_status"]] == ["signingCredential.untrusted"]
    roots = {"version": 1, "trust": {"user_anchors": local_key().certificate_pem().decode()}}
    with c2pa.Reader(str(signed), context=c2pa.Context.from_dict(roots)) as reader:
        assert reader.get_validation_state() == "Trusted"


@pytest.mark.parametrize("suffix", sorted(EMBEDDED.keys() & CODECS.keys()))
def test_a_reader_of_somebody_else_s_making_agrees(tmp_path: Path, suffix: str) -> None:
    """Not the library that signs: another program, with nothing to trust but what it is given."""
    path = clip(tmp_path / f"out{suffix}")
    sign_file(path, path, SWAPPED)

    def report(key: LocalKey) -> Mapping[str, Any]:
        root = key.certificate_pem().decode()
        kind = EMBEDDED[suffix]
        return encypher_c2pa.verify(str(path), kind, trust_pem=root, no_default_trust=True, telemetry=False)

    known = report(local_key())
    assert (known["integrity"], known["signature"], known["hard_binding"]) == ("valid", "valid", "match")
    assert known["trust"]["status"] == "valid_for_supplied_material"
    assert known["validation_results"]["failure"] == []
    elsewhere = report(local_key(tmp_path / "elsewhere"))
    assert [one["code"] for one in elsewhere["validation_results"]["failure"]] == ["signingCredential.untrusted"]
    data = bytearray(path.read_bytes())
    data[-40 if suffix == ".gif" else data.find(b"mdat") + 40] ^= 1
    path.write_bytes(data)
    assert report(local_key())["integrity"] == "invalid"


def test_no_name_no_path_and_no_picture_is_in_it(signed: Path) -> None:
    with c2pa.Reader(str(signed)) as reader:
        report = reader.detailed_json()
    for told in (str(signed.parent), os.uname().nodename, "thumbnail", "out.mp4"):
        assert told not in report


def certificate(folder: Path, usage: bool = True) -> SigningSettings:
    """As an authority would issue it: a P-256 key under a root."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)]) for name in ("An authority", "A studio")]
    now, chain = datetime.now(UTC), b""
    for which in (1, 0):
        builder = x509.CertificateBuilder(names[0], names[which], keys[which].public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))
        flags = [which == 1, False, False, False, False, which == 0, which == 0, False, False]
        builder = (
            builder.add_extension(x509.BasicConstraints(which == 0, None), critical=True)
            .add_extension(x509.KeyUsage(*flags), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[which].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if which == 1 and usage:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True
            )
        chain += builder.sign(keys[0], hashes.SHA256()).public_bytes(Encoding.PEM)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningSettings(certificate=folder / "chain.pem", certificate_key=folder / "key.pem")


def test_a_certificate_of_an_authority_signs_instead(tmp_path: Path) -> None:
    path = clip(tmp_path / "out.mp4")
    signing = certificate(tmp_path)
    sign_file(path, path, SWAPPED, signing)
    assert read_credentials(path).state == "unknown signer"
    found = read_credentials(path, (tmp_path / "chain.pem").read_text())
    assert (found.state, found.chain[0].signer) == ("trusted", "A studio")


def test_a_certificate_that_cannot_sign_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    path = clip(tmp_path / "out.mp4")
    before = path.read_bytes()
    signing = certificate(tmp_path)
    with pytest.raises(SettingError, match="given together"):
        sign_file(path, path, SWAPPED, SigningSettings(certificate=signing.certificate))
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(SettingError, match="certificate_key"):
        sign_file(path, path, SWAPPED, signing)
    assert path.read_bytes() == before
    assert set(os.listdir(tmp_path)) == {"out.mp4", "chain.pem", "key.pem"}


def test_a_file_without_credentials_has_none(tmp_path: Path) -> None:
    for name in ("plain.mp4", "plain.mkv"):
        assert read_credentials(clip(tmp_path / name)).state == "none"
    (tmp_path / "notes.txt").write_text("hello")
    assert read_credentials(tmp_path / "notes.txt").state == "none"


def test_the_assertion_is_ours_by_name(signed: Path) -> None:
    with c2pa.Reader(str(signed)) as reader:
        manifest = reader.get_active_manifest()
    assert manifest is not None
    labels = [one["label"] for one in manifest["assertions"]]
    assert SWAP in labels
    assert "c2pa.actions.v2" in labels
