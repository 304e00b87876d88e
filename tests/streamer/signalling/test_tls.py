"""https: the page at https:// with a certificate, and one line for files that cannot be used."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engines import SettingError, SwapSettings
from streamer.app import create_app, listen, tls
from streamer.config import ReachSettings, ServerConfig
from streamer.guards import doorman
from tests.streamer.calls import Identities, Loader, negative

TOKEN = "a-token-of-some-length"


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return files


async def test_a_handshake_that_says_nothing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorman, "HANDSHAKE_S", 0.5)
    certificate, key = write_certificate(tmp_path)
    config = ServerConfig(
        port=0, token=TOKEN, swap=SwapSettings(), reach=ReachSettings(certificate=certificate, key=key)
    )
    runner = web.AppRunner(create_app(config, Identities("ada"), Loader(negative)))
    await runner.setup()
    try:
        await listen(runner, config)
        host, port = runner.addresses[0][:2]
        since_s = time.monotonic()
        mute = [await asyncio.open_connection(host, port) for _ in range(3)]
        async with asyncio.timeout(20):  # asyncio's own limit is 60 s
            assert [await reader.read() for reader, _ in mute] == [b"", b"", b""]
        assert time.monotonic() - since_s >= 0.4
        for _, writer in mute:
            writer.close()
    finally:
        await runner.cleanup()


async def test_the_page_is_at_https_and_its_cookie_stays_there(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    config = ServerConfig(
        port=0, token=TOKEN, swap=SwapSettings(), reach=ReachSettings(certificate=certificate, key=key)
    )
    runner = web.AppRunner(create_app(config, Identities("ada"), Loader(negative)))
    await runner.setup()
    try:
        address = await listen(runner, config)
        assert address.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with ClientSession() as http:
            async with http.get(address, ssl=trusting) as page:
                assert page.status == 200
                assert page.cookies["vividstream_token"]["secure"]
            with pytest.raises(ClientError):
                await http.get(address.replace("https://", "http://"))
    finally:
        await runner.cleanup()


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    other = write_certificate(_folder(tmp_path / "other"))[1]
    (tmp_path / "empty.pem").write_text("")
    assert tls(ReachSettings()) is None
    assert tls(ReachSettings(certificate=certificate, key=key)) is not None
    for reach in (
        ReachSettings(key=key),
        ReachSettings(certificate=certificate),
        ReachSettings(certificate=certificate, key=other),
        ReachSettings(certificate=tmp_path / "missing.pem", key=key),
        ReachSettings(certificate=tmp_path / "empty.pem", key=key),
    ):
        with pytest.raises(SettingError) as caught:
            tls(reach)
        assert "\n" not in str(caught.value)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
