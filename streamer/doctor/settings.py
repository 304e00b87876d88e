"""What `vividstream doctor` looks at. Every field is documented in docs/settings.md."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from engines import StrictModel
from streamer.config import UdpPorts, is_loopback, udp_range

Use = Literal["all", "serve", "camera", "join", "file"]


class DoctorSettings(StrictModel):
    """`vividstream doctor`: what is meant to run here, and what it was set to. The rest as for `vividstream serve`."""

    use: Use = Field("all", description="look only at what this command needs")
    host: str = Field("127.0.0.1", description="address that the server is to listen on")
    port: int = Field(8080, ge=0, le=65535, description="TCP port that the server is to listen on")
    udp_ports: UdpPorts = None
    certificate: Path | None = Field(None, description="certificate (PEM) for https, with its chain")
    key: Path | None = Field(None, description="private key (PEM) of the certificate")
    ice_server: str | None = Field(None, description="STUN or TURN server (stun:host:port)")
    turn_server: str | None = Field(None, description="TURN server (turn:host:port?transport=udp), with turn_secret")
    turn_secret: str | None = Field(
        None, min_length=8, description="secret shared with the TURN server", json_schema_extra={"secret": True}
    )
    identities_dir: Path | None = Field(None, description="folder of enrolled identities")
    bench_s: float = Field(5.0, ge=0, le=60, description="for how long the engine is measured; 0: not at all")
    limit_s: float = Field(90.0, ge=5, le=600, description="after which what was not looked at is left out")

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.turn_server is None) != (self.turn_secret is None):
            raise ValueError("turn_server and turn_secret belong together")
        return self

    @property
    def udp_range(self) -> tuple[int, int] | None:
        """First and last UDP port of calls."""
        return None if self.udp_ports is None else udp_range(self.udp_ports)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine could reach the server."""
        return is_loopback(self.host)
