"""A Janus of our own: Debian's `janus` with a folder and ports of its own, started, killed and ended by who asks.

The interfaces listen on 127.0.0.1. Media go over this machine's own address, since Janus leaves loopback out; where
there is none but loopback, it takes that.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

STARTS_S = 20.0
ROOM, PIN = 1234, "quiet please"
PRIVATE_ROOM, SMALL_ROOM = 4321, 2222

JANUS = """general: {{
    configs_folder = "{folder}"
    plugins_folder = "{library}/plugins"
    transports_folder = "{library}/transports"
    events_folder = "{library}/events"
    loggers_folder = "{library}/loggers"
    debug_level = 4
    debug_colors = false
    admin_secret = "not-used"
    session_timeout = {session_timeout}
    {secret}
}}
nat: {{ nice_debug = false }}
media: {{ ipv6 = false  rtp_port_range = "20000-40000"  no_media_timer = 5 }}
plugins: {{ disable = "{others}" }}
transports: {{ disable = "libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so" }}
"""
WEBSOCKETS = """general: {{ json = "compact"  ws = true  ws_ip = "127.0.0.1"  ws_port = {port}  wss = false }}
admin: {{ admin_ws = false }}
"""
HTTP = """general: {{ json = "compact"  base_path = "/janus"  http = true  ip = "127.0.0.1"  port = {port}
    https = false }}
admin: {{ admin_http = false }}
"""
VIDEOROOM = """room-{room}: {{ description = "open"  publishers = 6  bitrate = 3000000  fir_freq = 10
    audiocodec = "opus"  videocodec = "vp8,h264" }}
room-{private}: {{ description = "with a pin"  pin = "{pin}"  publishers = 6  videocodec = "vp8" }}
room-{small}: {{ description = "for one"  publishers = 1  videocodec = "vp8" }}
"""
OTHERS = (
    "audiobridge", "duktape", "echotest", "lua", "nosip", "recordplay", "sip", "streaming", "textroom", "videocall",
    "voicemail",
)  # fmt: skip


def find_janus() -> str | None:
    """The program's path; None where it is not installed."""
    return shutil.which("janus")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class JanusServer:
    """One Janus. `start` and `kill` as often as you like: the ports stay."""

    folder: Path
    secret: str = ""  # its api_secret
    session_timeout_s: int = 60
    ws_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ws_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/janus"

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def write_settings(self) -> None:
        library = next(Path("/usr/lib").glob("*/janus"))
        values = {
            "folder": self.folder,
            "library": library,
            "session_timeout": self.session_timeout_s,
            "secret": f'api_secret = "{self.secret}"' if self.secret else "",
            "others": ",".join(f"libjanus_{name}.so" for name in OTHERS),
        }
        (self.folder / "janus.jcfg").write_text(JANUS.format(**values))
        (self.folder / "janus.transport.websockets.jcfg").write_text(WEBSOCKETS.format(port=self.ws_port))
        (self.folder / "janus.transport.http.jcfg").write_text(HTTP.format(port=self.http_port))
        rooms = VIDEOROOM.format(room=ROOM, private=PRIVATE_ROOM, small=SMALL_ROOM, pin=PIN)
        (self.folder / "janus.plugin.videoroom.jcfg").write_text(rooms)

    def start(self, wait: bool = True) -> None:
        """Raises RuntimeError, with the end of its log, where it does not come up."""
        program = find_janus()
        if program is None:
            raise RuntimeError("janus is not installed: apt-get install janus")
        self.write_settings()
        command = [program, "-C", str(self.folder / "janus.jcfg"), "-F", str(self.folder)]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until_s = time.monotonic() + STARTS_S
        while wait and not (listens(self.ws_port) and listens(self.http_port)):
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"janus did not start: {self.log[-500:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash ends it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It neither answers nor forwards anything, as behind a network that is gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def janus(secret: str = "", session_timeout_s: int = 60) -> Iterator[JanusServer]:
    """A Janus with three rooms: ROOM, PRIVATE_ROOM behind PIN, SMALL_ROOM for one publisher."""
    with TemporaryDirectory(prefix="janus-") as folder:
        server = JanusServer(Path(folder), secret, session_timeout_s)
        server.start()
        try:
            yield server
        finally:
            server.kill()
