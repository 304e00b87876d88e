"""A peer with an RSA certificate, as GStreamer 1.22 makes it. Stock aiortc does not connect to it."""

from __future__ import annotations

import asyncio
import datetime

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcdtlstransport import RTCCertificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from streamer.transport import pin


def rsa_certificate() -> RTCCertificate:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rsa")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    return RTCCertificate(key=key, cert=cert)  # type: ignore[arg-type]  # it only makes others itself


async def states(ours: RTCPeerConnection, theirs: RTCPeerConnection) -> tuple[str, str]:
    """What becomes of a call that they offer, and in which they are the DTLS server."""
    ours_or_end = {"connected", "failed", "closed"}
    theirs.createDataChannel("x")
    await theirs.setLocalDescription(await theirs.createOffer())
    await ours.setRemoteDescription(theirs.localDescription)
    await ours.setLocalDescription(await ours.createAnswer())
    await theirs.setRemoteDescription(ours.localDescription)
    async with asyncio.timeout(15):
        while not {ours.connectionState, theirs.connectionState} <= ours_or_end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return ours.connectionState, theirs.connectionState


@pytest.mark.parametrize("stock", [True, False])
async def test_a_peer_with_an_rsa_certificate_connects(stock: bool) -> None:
    with pin.stock() if stock else pin.installed(loopback=True):
        ours, theirs = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
        setattr(theirs, "_RTCPeerConnection__certificates", [rsa_certificate()])  # noqa: B010
        try:
            found = await states(ours, theirs)
        finally:
            await asyncio.gather(ours.close(), theirs.close())
    assert (found == ("connected", "connected")) is not stock
