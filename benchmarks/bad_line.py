"""A line between two network namespaces that loses, delays, throttles and goes dead: one process, two TUN devices.

Kernels without netem can drop (nftables) and throttle (tbf), not delay. So all of it happens here, packet by packet of
real sockets of real kernels' UDP and TCP, with dice that fall the same way in every run. Linux; needs `unshare`, `ip`
and /dev/net/tun, and no root where users may make namespaces.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing import Process
from pathlib import Path

TUN = Path("/dev/net/tun")
SET_TUN, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NEAR, FAR = "10.77.0.2", "10.77.0.1"  # this side, and the server's
MTU = 1500
UDP = 17
INSIDE = "VIVIDSTREAM_BAD_LINE"
MOST_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Way:
    """What happens to packets in one direction.

    loss      share of UDP packets that vanish, each by its own dice
    queue_s   most that the throttle keeps, in time; what comes on top is dropped, as routers do
    """

    loss: float = 0.0
    delay_s: float = 0.0
    bits_per_s: float | None = None
    queue_s: float = 0.3
    dead: bool = False


@dataclass(slots=True)
class Queue:
    """The packets on their way in one direction: arithmetic only, `now_s` is passed in."""

    seed: int
    way: Way = field(default_factory=Way)
    dropped: int = 0
    carried_bytes: int = 0
    _waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    free_s: float = 0.0  # when the throttle will have let everything through
    _dice: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def put(self, packet: bytes, now_s: float) -> None:
        """A packet enters the line, or is lost on it."""
        falls = self._dice.random()
        if self.way.dead or (falls < self.way.loss and len(packet) > 9 and packet[9] == UDP):
            self.dropped += 1
            return
        leaves_s = max(now_s, self.free_s)
        if self.way.bits_per_s is not None:
            if leaves_s - now_s > self.way.queue_s or len(self._waiting) >= MOST_WAITING:
                self.dropped += 1
                return
            leaves_s += 8 * len(packet) / self.way.bits_per_s
        self.free_s = leaves_s
        self._waiting.append((leaves_s + self.way.delay_s, packet))

    def take(self, now_s: float) -> list[bytes]:
        """The packets that have arrived by now."""
        out = []
        while self._waiting and self._waiting[0][0] <= now_s:
            out.append(self._waiting.popleft()[1])
        self.carried_bytes += sum(map(len, out))
        return out

    @property
    def next_s(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None


class BadLine:
    """The line, in a process of its own. `up` is from here to the server, `down` back."""

    def __init__(self, here: int, there: int) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = Process(target=_carry, args=(here, there, theirs), daemon=True)
        self._process.start()

    def set(self, up: Way, down: Way) -> dict[str, int]:
        """From now on. Returns what was dropped and carried so far, each way."""
        self._control.send(json.dumps([asdict(up), asdict(down)]).encode())
        numbers: dict[str, int] = json.loads(self._control.recv(4096))
        return numbers

    def close(self) -> None:
        self._process.terminate()
        self._process.join(5)
        self._control.close()


def _carry(here: int, there: int, control: socket.socket) -> None:
    ends = (here, there)  # queue 0 reads from `here` and writes to `there`, queue 1 the other way
    queues = (Queue(1), Queue(2))
    while True:
        times_s = [queue.next_s for queue in queues if queue.next_s is not None]
        timeout_s = max(min(times_s) - time.monotonic(), 0.0) if times_s else None
        ready, _, _ = select.select([*ends, control.fileno()], [], [], timeout_s)
        now_s = time.monotonic()
        for number, queue in enumerate(queues):
            if ends[number] in ready:
                _read_all(ends[number], queue, now_s)
            for packet in queue.take(now_s):
                _write(ends[1 - number], packet)
        if control.fileno() in ready:
            asked = control.recv(4096)
            if not asked:
                return
            queues[0].way, queues[1].way = (Way(**way) for way in json.loads(asked))
            names = ("up", "down")
            numbers = {f"{name}_dropped": queue.dropped for name, queue in zip(names, queues)}
            numbers |= {f"{name}_bytes": queue.carried_bytes for name, queue in zip(names, queues)}
            control.send(json.dumps(numbers).encode())


def _read_all(end: int, queue: Queue, now_s: float) -> None:
    for _ in range(64):
        try:
            queue.put(os.read(end, MTU + 64), now_s)
        except BlockingIOError:
            return


def _write(end: int, packet: bytes) -> None:
    try:
        os.write(end, packet)
    except OSError:
        return  # the other side has gone, or its device is full: a packet is lost, as on any line


def can_run() -> str | None:
    """Why there can be no such line on this machine; None where there can."""
    if sys.platform != "linux" or not TUN.exists():
        return "it needs Linux with /dev/net/tun"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no network namespace can be made here: {tried.stderr.strip()}"


def is_inside() -> bool:
    """Whether this process is the one that `run_inside` has started."""
    return os.environ.get(INSIDE) == "1"


def run_inside(arguments: Sequence[str]) -> int:
    """Runs this program again in a network namespace of its own. Returns its exit status."""
    command = [*_unshare(), sys.executable, *arguments]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


def open_end(address: str) -> int:
    """A TUN device of the namespace that this process is in, with this address. Returns its file descriptor."""
    end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(end, SET_TUN, struct.pack("16sH", b"line", IFF_TUN | IFF_NO_PI))
    for words in (
        "link set lo up",
        f"addr add {address}/24 dev line",
        f"link set line mtu {MTU} txqueuelen 5000 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return end


def start_beyond(command: Sequence[str]) -> tuple[subprocess.Popen[str], int]:
    """Starts a program at the far end: in another namespace, with the address FAR. Returns it and its TUN device."""
    mine, theirs = socket.socketpair()
    words = [sys.executable, "-m", "benchmarks.bad_line", str(theirs.fileno()), *command]
    started = subprocess.Popen(
        ["unshare", "--net", *words], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True
    )
    theirs.close()
    mine.settimeout(20)
    _, descriptors, _, _ = socket.recv_fds(mine, 1, 1)
    mine.close()
    return started, descriptors[0]


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def _far_end(arguments: Sequence[str]) -> None:
    """In the far namespace: hands the device over, then becomes the program."""
    with socket.socket(fileno=int(arguments[0])) as parent:
        socket.send_fds(parent, [b"."], [open_end(FAR)])
    os.execvp(arguments[1], list(arguments[1:]))


if __name__ == "__main__":
    _far_end(sys.argv[1:])
