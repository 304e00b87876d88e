"""The installation's key: made once, by whichever process is first, readable by its owner alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography import x509

from engines import KeyFault, is_signed, local_key
from engines.trust.key import instance_id


def test_it_is_made_at_first_use_and_kept(tmp_path: Path) -> None:
    key = local_key(tmp_path / "records")
    assert local_key(tmp_path / "records").public == key.public
    assert local_key(tmp_path / "other").public != key.public
    assert sorted(os.listdir(tmp_path / "records")) == ["key.pem"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "records" / "key.pem").stat().st_mode) == 0o600


def test_of_all_who_start_together_all_get_the_same(tmp_path: Path) -> None:
    for round_ in range(5):
        folder, start = tmp_path / str(round_), Barrier(6)

        def ask(folder: Path = folder, start: Barrier = start) -> str:
            start.wait()
            return local_key(folder).public

        with ThreadPoolExecutor(6) as pool:
            assert len({asked.result() for asked in [pool.submit(ask) for _ in range(6)]}) == 1
        assert os.listdir(folder) == ["key.pem"]


def test_a_signature_is_for_one_key_one_purpose_and_one_text(tmp_path: Path) -> None:
    key = local_key(tmp_path)
    signature = key.sign("audit", b"text")
    assert is_signed(key.public, "audit", b"text", signature)
    assert not is_signed(key.public, "audit", b"texts", signature)
    assert not is_signed(key.public, "identity", b"text", signature)
    assert not is_signed(local_key(tmp_path / "other").public, "audit", b"text", signature)
    assert not is_signed(key.public, "audit", b"text", signature.upper())
    assert not is_signed("rubbish", "audit", b"text", signature)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_said_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(KeyFault, match=r"key\.pem"):
        local_key(tmp_path)
    assert (tmp_path / "key.pem").read_bytes() == content


def test_the_instance_is_of_the_key_and_tells_nothing_else(tmp_path: Path) -> None:
    assert instance_id(tmp_path) == instance_id(tmp_path)
    assert instance_id(tmp_path) != instance_id(tmp_path / "other")
    assert 0 <= instance_id(tmp_path) < 2**32


def test_the_certificate_is_of_the_key_and_names_nobody(tmp_path: Path) -> None:
    key = local_key(tmp_path)
    leaf, root = x509.load_pem_x509_certificates(key.certificate_pem())
    assert key.certificate_pem() == local_key(tmp_path).certificate_pem()
    assert leaf.public_key() == key._private.public_key()
    leaf.verify_directly_issued_by(root)
    named = leaf.subject.rfc4514_string() + root.subject.rfc4514_string()
    assert os.uname().nodename not in named
