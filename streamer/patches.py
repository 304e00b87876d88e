"""Changes to aiortc and aioice at the start of the server. Each says why, and fails when its target is gone."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import aioice.ice
from aiortc.codecs import h264, vpx

BITRATES_BPS = {"DEFAULT_BITRATE": 1_200_000, "MIN_BITRATE": 250_000, "MAX_BITRATE": 3_000_000}
LOOPBACK = "127.0.0.1"


def apply(loopback: bool) -> None:
    """Makes all changes. `loopback`: the server is reached from this machine, so calls may come over 127.0.0.1."""
    for codec in (vpx, h264):
        for name, bits_per_s in BITRATES_BPS.items():
            _replace(codec, name, bits_per_s)  # a webcam picture needs more than aiortc's 0.5 to 1.5 Mbit/s
    if loopback:
        _replace(aioice.ice, "get_host_addresses", with_loopback(aioice.ice.get_host_addresses))


def with_loopback(addresses: Callable[[bool, bool], list[str]]) -> Callable[[bool, bool], list[str]]:
    """aioice leaves 127.0.0.1 out: on a laptop without any network a call could not even reach its own machine."""

    def get_host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        found = addresses(use_ipv4, use_ipv6)
        return [LOOPBACK, *found] if use_ipv4 and LOOPBACK not in found else found

    return get_host_addresses


def _replace(module: ModuleType, name: str, value: object) -> None:
    if not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {name} any more; streamer/patches.py must change with it")
    setattr(module, name, value)
