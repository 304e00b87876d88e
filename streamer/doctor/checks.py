"""The checks by name, in the order of the report, and what each is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streamer.doctor import cameras, network, people, system
from streamer.doctor.finding import Found
from streamer.doctor.settings import DoctorSettings

EVERYBODY = frozenset({"serve", "camera", "join", "file"})


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. `look` asks the system and raises nothing that it can name; see `fence` for the rest."""

    name: str
    look: Callable[[DoctorSettings], Iterable[Found]]
    uses: frozenset[str] = EVERYBODY
    limit_s: float = 10.0


LIVE = frozenset({"camera", "join"})
CHECKS = (
    Check("python", system.python),
    Check("libraries", system.libraries),
    Check("codecs", system.codecs),
    Check("memory", system.memory),
    Check("disk", system.disk),
    Check("gpu", people.gpu),
    Check("runtimes", system.runtimes),
    Check("engines", people.engine_store),
    Check("identities", people.identities),
    Check("cameras", cameras.cameras, LIVE),
    Check("loopback", cameras.loopback, frozenset({"camera"})),
    Check("pipewire", cameras.pipewire, frozenset({"camera"})),
    Check("browsers", cameras.browsers, frozenset({"camera"}), 25.0),
    Check("port", network.port, frozenset({"serve"})),
    Check("udp", network.udp, frozenset({"serve"})),
    Check("relay", network.relay, frozenset({"serve", "join"}), 15.0),
    Check("https", network.certificate, frozenset({"serve"})),
    Check("speed", people.bench, limit_s=80.0),
)


def checks_for(use: str) -> tuple[Check, ...]:
    """Those that matter to a command, or all of them."""
    return tuple(check for check in CHECKS if use == "all" or use in check.uses)
