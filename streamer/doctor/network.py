"""Ports, STUN and TURN, https."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from aioice import stun
from aioice.turn import create_turn_endpoint

from engines import SettingError
from streamer.doctor.finding import Found, fail, ok, quoted, warn
from streamer.doctor.settings import DoctorSettings
from streamer.signalling.ice import turn_credentials

ANSWER_S = 5.0
ENDS_SOON = timedelta(days=14)
ALLOCATION_S = 60  # it is given back at once; this is for a server that does not hear it
WRONG_SECRET, FORBIDDEN, QUOTA, NO_CAPACITY = 401, 403, 486, 508
Place = tuple[str, int]


def port(config: DoctorSettings) -> Iterator[Found]:
    """Whether the server's TCP port is free."""
    where = f"{config.host} port {config.port}"
    if config.port == 0:
        yield ok(f"{config.host}: any free port will be taken")
        return
    free_one = quoted("vividstream", "serve", "--host", config.host, "--port", _free_port(config.host))
    try:
        _bind(config.host, config.port, socket.SOCK_STREAM)
    except socket.gaierror as error:
        yield fail(f"{config.host} is no address of this machine ({error.strerror})", "vividstream serve")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            who = listener(config.port)
            named = f" by {who[1]} (process {who[0]})" if who else ""
            yield fail(f"{where} is in use{named}", free_one)
        elif error.errno == errno.EACCES:
            yield fail(f"{where} is below 1024 and kept for root", free_one)
        else:
            yield fail(f"cannot listen on {where}: {error.strerror}", "ip -brief address")
    else:
        yield ok(f"{where} is free")


def udp(config: DoctorSettings) -> Iterator[Found]:
    """Whether calls get UDP ports."""
    if config.udp_range is None:
        try:
            _bind("", 0, socket.SOCK_DGRAM)
        except OSError as error:
            yield fail(f"no UDP port can be opened ({error.strerror})", "ulimit -n")
        else:
            yield ok("calls take any UDP port that the system gives (--udp-ports sets a range, for a firewall)")
        return
    first, last = config.udp_range
    free = 0
    for number in range(first, last + 1):
        with suppress(OSError):
            _bind("", number, socket.SOCK_DGRAM)
            free += 1
    says = f"{free} of {last - first + 1} UDP ports {config.udp_ports} are free"
    if free == 0:
        yield fail(says, f"ss -lunp 'sport >= {first} and sport <= {last}'")
    elif free < last - first + 1:
        yield warn(says, f"ss -lunp 'sport >= {first} and sport <= {last}'")
    else:
        yield ok(f"{says}; the firewall has to let them in")


def relay(config: DoctorSettings) -> Iterator[Found]:
    """STUN is asked for this machine's address, TURN for a real allocation with credentials as calls get them."""
    if config.ice_server is None and config.turn_server is None:
        yield ok("no STUN or TURN server is set: calls from this network only, unless the server has a public address")
        return
    if config.ice_server is not None:
        yield _asked(config.ice_server, None)
    if config.turn_server is not None:
        yield _asked(config.turn_server, config.turn_secret)


def _asked(server: str, secret: str | None) -> Found:
    setting = "--ice-server" if secret is None else "--turn-server"
    mend = f"vividstream doctor {setting} turn:HOST:3478" + ("" if secret is None else " --turn-secret SECRET")
    try:
        scheme, place, transport = read_address(server)
    except SettingError as error:
        return fail(str(error), mend)
    check = quoted("nc", "-vz" if transport == "tcp" else "-vzu", *place)
    since_s = time.monotonic()
    try:
        if scheme.startswith("turn") and secret is not None:
            address = asyncio.run(_in_time(_allocate(place, scheme, transport, secret)))
        elif scheme.startswith("turn"):
            return ok(f"{server} is told to calls; it takes no credentials of ours, so no relay was asked for")
        else:
            address = asyncio.run(_in_time(_binding(place)))
    except TimeoutError:
        return fail(f"{server} did not answer within {ANSWER_S:.0f} s (firewall, or not running)", check)
    except stun.TransactionTimeout:
        return fail(f"{server} did not answer (firewall, or not running)", check)
    except stun.TransactionFailed as error:
        return _refused(server, int(error.response.attributes.get("ERROR-CODE", (0, ""))[0]), str(error))
    except socket.gaierror as error:
        return fail(f"{server}: the name is not known ({error.strerror})", quoted("getent", "hosts", place[0]))
    except (OSError, ssl.SSLError) as error:
        return fail(f"{server} cannot be reached ({error.strerror or error})", check)
    took_ms = 1000 * (time.monotonic() - since_s)
    what = "relays by" if secret is not None else "sees this machine as"
    return ok(f"{server} {what} {address[0]}:{address[1]}, after {took_ms:.0f} ms", address=address[0], ms=took_ms)


def _refused(server: str, code: int, text: str) -> Found:
    if code == WRONG_SECRET:
        mend = "sudo grep -E '^(use-auth-secret|static-auth-secret)' /etc/turnserver.conf"
        says = f"{server} refuses the credentials (401): another secret than its static-auth-secret, or a wrong clock"
        return fail(says, mend)
    if code in (QUOTA, NO_CAPACITY):
        return fail(f"{server} has no room for one more ({text})", "sudo systemctl restart coturn")
    return fail(f"{server} refuses ({text})", "sudo journalctl -u coturn -n 30")


async def _in_time(what: asyncio._CoroutineLike[Place]) -> Place:
    return await asyncio.wait_for(what, ANSWER_S)


async def _allocate(place: Place, scheme: str, transport: str, secret: str) -> Place:
    """The address at which the server relays; given back at once."""
    made = turn_credentials(secret, "doctor", int(time.time()) + ALLOCATION_S)
    relayed, _ = await create_turn_endpoint(
        asyncio.DatagramProtocol,
        server_addr=place,
        username=made.username,
        password=made.password,
        lifetime=ALLOCATION_S,
        ssl=scheme == "turns",
        transport=transport,
    )
    try:
        address: Place = relayed.get_extra_info("sockname")
        return address
    finally:
        relayed.close()
        await asyncio.sleep(0.1)  # for the message that gives it back


class _Asking(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[stun.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Place) -> None:
        with suppress(ValueError):
            message = stun.parse_message(data)
            if not self.answer.done():
                self.answer.set_result(message)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _binding(place: Place) -> Place:
    """This machine's address as the server sees it."""
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_datagram_endpoint(_Asking, remote_addr=place)
    try:
        request = bytes(stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST))
        while True:
            transport.sendto(request)
            with suppress(TimeoutError):
                answer = await asyncio.wait_for(asyncio.shield(asking.answer), 0.5)
                address: Place = answer.attributes["XOR-MAPPED-ADDRESS"]
                return address
    finally:
        transport.close()


def read_address(server: str) -> tuple[str, Place, str]:
    """("turn", (host, port), "udp") of "turn:host:3478?transport=udp". Raises SettingError."""
    match = re.fullmatch(r"(stuns?|turns?):(\[[^]]+\]|[^:?\s]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?", server)
    if match is None or not 0 < int(match[3] or 1) < 65_536:
        raise SettingError(f'"{server}" is no address of a STUN or TURN server (turn:host:3478?transport=udp)')
    scheme, host, number, transport = match.groups()
    secured = scheme.endswith("s") and scheme != "stun"
    usual = 5349 if secured else 3478
    return scheme, (host.strip("[]"), int(number or usual)), transport or ("tcp" if secured else "udp")


def certificate(config: DoctorSettings) -> Iterator[Found]:
    """What https would use."""
    if config.certificate is None:
        if config.key is not None:
            serve = quoted("vividstream", "serve", "--certificate", "CERTIFICATE.pem", "--key", config.key)
            yield fail("a key without its certificate", serve)
        elif config.is_loopback:
            yield ok("http on this machine only: browsers give such a page their camera")
        else:
            yield warn(
                f"http on {config.host}: browsers of other machines give their camera to https pages only",
                make_certificate(config.host),
            )
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mend = make_certificate(config.host)
    try:
        context.load_cert_chain(config.certificate, config.key, password="")
        data = config.certificate.read_bytes()
    except (OSError, ValueError) as error:
        files = f"{config.certificate}" + (f" and {config.key}" if config.key else "")
        yield fail(f"no https with {files}: {getattr(error, 'strerror', None) or error}", mend)
        return
    yield _judged(config, data)


def _judged(config: DoctorSettings, pem: bytes) -> Found:
    from cryptography import x509

    first = x509.load_pem_x509_certificates(pem)[0]
    now = datetime.now(UTC)
    until = first.not_valid_after_utc
    facts = {"until": until.isoformat(), "names": names_of(first)}
    says = f"{config.certificate} for {', '.join(names_of(first)) or 'nobody'}, until {until:%Y-%m-%d}"
    renew = f"sudo certbot renew || {make_certificate(config.host)}"
    if until < now:
        return fail(f"the certificate ended: {says}", renew, **facts)
    if first.not_valid_before_utc > now:
        return fail(f"the certificate begins only {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: {says}", "date -u")
    if until - now < ENDS_SOON:
        return warn(f"the certificate ends soon: {says}", renew, **facts)
    if first.issuer == first.subject:
        trust = f"sudo cp {quoted(config.certificate)} /usr/local/share/ca-certificates/vividstream.crt"
        return warn(
            f"signed by itself: browsers warn, until it is trusted there: {says}",
            f"{trust} && sudo update-ca-certificates",
            **facts,
        )
    return ok(says, **facts)


def names_of(one: object) -> list[str]:
    """Names and addresses that a certificate is for."""
    from cryptography import x509

    assert isinstance(one, x509.Certificate)
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def make_certificate(host: str) -> str:
    """A command that makes a certificate, signed by itself, and its key."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    try:
        kind = f"IP:{ip_address(name)}"
    except ValueError:
        kind = f"DNS:{name}"
    return (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -keyout key.pem -out "
        f"certificate.pem -subj /CN={quoted(name)} -addext subjectAltName={quoted(kind)}"
    )


def listener(number: int) -> tuple[int, str] | None:
    """(process id, name) of who listens on a TCP port here, as far as this user may see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == number:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with suppress(OSError):
            for link in (process / "fd").iterdir():
                if os.readlink(link) in inodes:
                    return int(process.name), (process / "comm").read_text(encoding="utf-8").strip()
    return None


def _bind(host: str, number: int, kind: socket.SocketKind) -> None:
    """Opens a port as the server does, and closes it. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host or "0.0.0.0", number, type=kind)[0]
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM and sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        if kind is socket.SOCK_STREAM:
            probe.listen(1)


def _free_port(host: str) -> int:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError:
        return 0
