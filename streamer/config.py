"""The frozen settings of each command. Every field is documented in docs/settings.md."""

from __future__ import annotations

import secrets
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from engines import StrictModel, SwapSettings
from streamer.encoding.settings import EncodingSettings

ANY_ADDRESS = "0.0.0.0"  # every address of this machine: only when asked for


def udp_range(text: str) -> tuple[int, int]:
    """First and last port of "50000-50099". Raises ValueError."""
    first, last = (int(port) for port in text.split("-"))
    if not 1024 <= first <= last <= 65_535:
        raise ValueError("must be first-last, 1024 to 65535")
    return first, last


def _is_udp_range(text: str | None) -> str | None:
    if text is not None:
        udp_range(text)
    return text


UdpPorts = Annotated[
    str | None,
    Field(pattern=r"^\d{1,5}-\d{1,5}$", description="UDP ports of calls (50000-50099)"),
    AfterValidator(_is_udp_range),
]


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this very machine's alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class GuardSettings(StrictModel):
    """Who may use the server and how much: options of `vividstream serve`."""

    token_file: Path | None = Field(None, description="file of further secrets: lines NAME SECRET [CALLS]")
    proxies: tuple[str, ...] = Field((), description="reverse proxy (address or network) whose X-Forwarded-For is true")
    lan: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether calls may name private addresses; auto: where the server itself has one"
    )
    calls_per_address: int = Field(4, ge=1, description="calls at the same time from one address")
    offers_per_minute: int = Field(30, ge=1, description="new calls from one address in a minute")
    connections: int = Field(512, ge=8, description="open TCP connections of all browsers together")
    handshake_s: float = Field(10.0, gt=0, description="after which a call that is not connected is over")
    first_media_s: float = Field(15.0, gt=0, description="after which a call without any picture is over")
    silence_s: float = Field(20.0, gt=0, description="after which a call whose camera fell silent is over")
    longest_call_s: float | None = Field(None, gt=0, description="after which every call is over")

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy, strict=False)
        return proxies


class ReachSettings(StrictModel):
    """How calls reach the server, and who watches: options of `vividstream serve`."""

    certificate: Path | None = Field(None, description="certificate (PEM) for https, with its chain")
    key: Path | None = Field(None, description="private key (PEM) of the certificate")
    turn_server: str | None = Field(None, description="TURN server (turn:host:port?transport=udp), with turn_secret")
    turn_secret: str | None = Field(
        None, min_length=8, description="secret shared with the TURN server", json_schema_extra={"secret": True}
    )
    turn_seconds: int = Field(3600, ge=60, le=86_400, description="for how long a call's TURN credentials are good")
    relay_only: bool = Field(False, description="reach callers through the TURN server only")
    announce: str | None = Field(None, description="this machine's address outside of a 1:1 NAT")
    udp_ports: UdpPorts = None
    max_viewers: int = Field(4, ge=0, le=64, description="WHEP players at the same time, of all streams together")
    overflow: tuple[str, ...] = Field((), description="address of another server that takes calls when this is full")

    @field_validator("overflow")
    @classmethod
    def _are_addresses(cls, others: tuple[str, ...]) -> tuple[str, ...]:
        for other in others:
            if not other.startswith(("https://", "http://")):
                raise ValueError(f"must begin with https:// or http://: {other[:80]}")
        return others

    @field_validator("announce")
    @classmethod
    def _is_an_address(cls, text: str | None) -> str | None:
        return None if text is None else str(ip_address(text))

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.turn_server is None) != (self.turn_secret is None):
            raise ValueError("turn_server and turn_secret belong together")
        if self.relay_only and self.turn_server is None:
            raise ValueError("relay_only needs turn_server")
        return self

    @property
    def ports(self) -> tuple[int, int] | None:
        """First and last UDP port of calls."""
        return None if self.udp_ports is None else udp_range(self.udp_ports)


class TelemetrySettings(StrictModel):
    """Traces for OpenTelemetry: options of `vividstream serve`."""

    otlp_endpoint: str | None = Field(
        None, pattern="^https?://", description="collector of traces (http://host:4318/v1/traces); none by default"
    )
    trace_every: int = Field(150, ge=1, description="every so many pictures one is traced, stage by stage")


class ServerConfig(StrictModel):
    """`vividstream serve`: where the page is offered, to whom, and how it swaps at first."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one")
    token: str | None = Field(
        None,
        min_length=16,
        description="secret that the page's address must carry",
        json_schema_extra={"secret": True},
    )
    max_sessions: int = Field(1, ge=1, le=16, description="calls at the same time; the next one is told `busy`")
    workers: int = Field(1, ge=1, le=16, description="threads that draw; each serves some of the calls")
    identity: str | None = Field(None, description="identity that is chosen when the page opens")
    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
    origin: tuple[str, ...] = Field((), description="other page's origin (https://example.org) that may use the server")
    ice_server: str | None = Field(None, description="STUN or TURN server (stun:host:port); none is asked by default")
    swap: SwapSettings = Field(SwapSettings(), description="how the face is swapped")
    guard: GuardSettings = Field(GuardSettings(), description="who may use the server and how much")
    reach: ReachSettings = Field(ReachSettings(), description="how calls reach the server")
    encoding: EncodingSettings = Field(EncodingSettings(), description="how the pictures of a call are coded")
    telemetry: TelemetrySettings = Field(TelemetrySettings(), description="traces of calls and pictures")

    @field_validator("origin", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, origin: object) -> object:
        return (origin,) if isinstance(origin, str) else () if origin is None else origin

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return is_loopback(self.host)

    def resolve(self) -> Self:
        """The complete settings: a server that other machines can reach always has a token, or a file of them."""
        if self.token is not None or self.guard.token_file is not None or self.is_loopback:
            return self
        return self.model_copy(update={"token": secrets.token_urlsafe(24)})


class SigningSettings(StrictModel):
    """What signs the content credentials of files: options of `vividstream file`."""

    certificate: Path | None = Field(None, description="certificate chain (PEM) for content credentials")
    certificate_key: Path | None = Field(None, description="private key (PEM) of that certificate")


class FileConfig(StrictModel):
    """`vividstream file`: one video file in, one swapped video file out."""

    input: Path = Field(description="video file to read")
    output: Path = Field(description="video file to write")
    identity: str | None = Field(None, description="identity whose face is drawn")
    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
    report: Path | None = Field(None, description="JSON file for timings and counts")
    overwrite: bool = Field(False, description="replace an output file that exists")
    signing: SigningSettings = Field(SigningSettings(), description="what signs the file's content credentials")
    swap: SwapSettings = Field(SwapSettings(), description="how the face is swapped")


class AgreementSettings(StrictModel):
    """Who agreed to be worn: options of `vividstream enroll` and `vividstream consent renew`.

    Said each time: a settings file that answered for whoever is enrolled next would make a formality of it.
    """

    model_config = ConfigDict(json_schema_extra={"in_file": False})

    who: str = Field("", description="person who agreed: the one on the photos")
    purpose: str = Field("", description="what they agreed to")
    age: Literal["adult", "minor"] | None = Field(None, description="what they state of their age")
    guardian: str = Field("", description="who agreed for a minor")
    how: Literal["self", "written", "spoken", "clip"] = Field("self", description="how they agreed")
    agreed: str | None = Field(None, description="day on which they agreed (2026-11-23); today")
    expires: str | None = Field(None, description="last day on which it holds; a year later")


class EnrollConfig(StrictModel):
    """`vividstream enroll`: photos of one person in, one identity file out."""

    name: str = Field(min_length=1, max_length=64, description="name of the identity")
    images: tuple[Path, ...] = Field(min_length=1, description="photos of this one person")
    clip: Path | None = Field(None, description="live clip in which the person reads a phrase and turns the head")
    challenge: str | None = Field(None, description="code of what was to be said and done in it")
    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
    overwrite: bool = Field(False, description="replace an identity of that name")
    agreement: AgreementSettings = Field(AgreementSettings(), description="who agreed to what")


class IdentitiesConfig(StrictModel):
    """`vividstream identities`: whose faces there are."""

    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
