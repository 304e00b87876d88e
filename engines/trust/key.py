"""The installation's own key: Ed25519, made at first use, kept in one file that only its owner can read.

It signs identity files, the audit log and, under a certificate of its own, the content credentials of files. Whoever
can read the file can sign like this installation: the key proves that nobody else changed something, not who did.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from engines.errors import KeyFault
from engines.trust.records import records_directory, records_trouble, write_whole

if TYPE_CHECKING:
    from cryptography import x509

KEY_FILE = "key.pem"
CHAIN_FILE = "certificate.pem"
SIGNATURE_BYTES = 64
INSTANCE_BITS = 32
CERTIFICATE_DAYS = 3650  # without a time stamp service a file's credentials are good for as long as this
ORGANISATION = "vividstream, an installation"


@dataclass(frozen=True, slots=True)
class LocalKey:
    """The key and the folder it lies in. `public` is its public half, 64 hexadecimal digits."""

    folder: Path
    public: str
    _private: Ed25519PrivateKey

    def sign(self, purpose: str, data: bytes) -> str:
        """128 hexadecimal digits. `purpose` keeps a signature for one thing from standing under another."""
        return self._private.sign(_message(purpose, data)).hex()

    def private_pem(self) -> bytes:
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def certificate_pem(self) -> bytes:
        """The key's certificate and the root that issued it, made once. The root's own key is thrown away: it vouches
        for this one certificate and nothing else, so the root may be handed to whoever is to trust this installation.
        """
        path = self.folder / CHAIN_FILE
        try:
            if not path.is_file():
                write_whole(path, _chain(self._private), 0o644)
            return path.read_bytes()
        except OSError as error:
            raise KeyFault(records_trouble(path, error)) from error


def is_signed(public: str, purpose: str, data: bytes, signature: str) -> bool:
    """Whether this key signed exactly that for that purpose. Digits are lower case, so nothing is written two ways."""
    try:
        if signature != signature.lower() or len(signature) != 2 * SIGNATURE_BYTES:
            return False
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), _message(purpose, data))
    except (InvalidSignature, ValueError):
        return False
    return True


def _message(purpose: str, data: bytes) -> bytes:
    return b"vividstream " + purpose.encode("ascii") + b"\0" + data


def local_key(folder: Path | None = None) -> LocalKey:
    """This installation's key; makes it, and its folder, at first use. Raises KeyFault for one that cannot be used."""
    folder = records_directory() if folder is None else folder
    path = folder / KEY_FILE
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _make(path)
        stat = path.stat()
        return _read(folder, stat.st_mtime_ns, stat.st_ino)
    except OSError as error:
        raise KeyFault(records_trouble(path, error)) from error


@lru_cache(maxsize=8)
def _read(folder: Path, changed_ns: int, inode: int) -> LocalKey:
    path = folder / KEY_FILE
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise KeyFault(f"{path}: not a private key that can be read here") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFault(f"{path}: an Ed25519 key is needed; other kinds can sign files with --certificate")
    return LocalKey(folder, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(), private)


def _make(path: Path) -> None:
    """Of those who make it at the same time, one wins and all use its key."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_whole(fresh, pem)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
    finally:
        fresh.unlink(missing_ok=True)


def instance_id(folder: Path | None = None) -> int:
    """32 bits that name this installation without telling whose it is: of its public key's hash."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(bytes.fromhex(local_key(folder).public))
    return int.from_bytes(digest.finalize()[: INSTANCE_BITS // 8], "big")


def made_certificate_pem(folder: Path | None = None) -> bytes:
    """As `LocalKey.certificate_pem`, where it was made already; else empty. Makes nothing, so it needs no home.

    Raises KeyFault where it cannot be read.
    """
    path = (records_directory() if folder is None else folder) / CHAIN_FILE
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise KeyFault(records_trouble(path, error)) from error


def _chain(private: Ed25519PrivateKey) -> bytes:
    """A certificate for signing claims, in the profile that C2PA's readers accept, and its root. PEM, leaf first."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root = Ed25519PrivateKey.generate()
    short = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()[:8]
    issuer, subject = _name(f"vividstream root {short}"), _name(f"vividstream {short}")
    root_certificate = _certificate(issuer, issuer, root.public_key(), root.public_key(), True).sign(root, None)
    leaf = (
        _certificate(subject, issuer, private.public_key(), root.public_key(), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .sign(root, None)
    )
    return leaf.public_bytes(Encoding.PEM) + root_certificate.public_bytes(Encoding.PEM)


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attribute = x509.NameAttribute
    return x509.Name([attribute(NameOID.ORGANIZATION_NAME, ORGANISATION), attribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: Ed25519PublicKey, issuer_public: Ed25519PublicKey, is_root: bool
) -> x509.CertificateBuilder:
    from cryptography import x509

    begins = datetime.now(UTC) - timedelta(days=1)  # clocks of readers differ
    usage = x509.KeyUsage(
        digital_signature=not is_root, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=is_root, crl_sign=is_root, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )
