"""DTLS with peers whose certificate has an RSA key: GStreamer's webrtcbin up to 1.22 and other older clients.

aiortc 1.16 offers ciphers for ECDSA certificates only, so that such a peer, when it is the DTLS server (as the one who
offered is), finds none to share: "no shared cipher", and every call fails. Forward secrecy and AEAD come first here
too.
"""

from __future__ import annotations

from aiortc.rtcdtlstransport import RTCCertificate, SRTPProtectionProfile
from OpenSSL import SSL

from streamer.transport.changes import Changes

CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)
METHOD = "_create_ssl_context"


def install(changes: Changes) -> None:
    """Offers and takes RSA certificates too."""
    original = RTCCertificate._create_ssl_context

    def create(self: RTCCertificate, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = original(self, srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context

    changes.replace(RTCCertificate, METHOD, create)
