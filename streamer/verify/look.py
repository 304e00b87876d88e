"""Pictures of files, addresses and cameras, as the detector of the mark takes them."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import av
import numpy as np
from av.error import FFmpegError

from engines import MediaError, Rgb, SettingError, detect_mark
from streamer.credentials import Credentials, read_credentials
from streamer.errors import no_file
from streamer.frame import Frame
from streamer.media import MediaReader
from streamer.verify.verdict import Verdict

MOST_PICTURES = 150  # spread over the clip: the detector adds up what it sees
MOST_SECONDS = 120.0  # of a file; what comes later is not looked at
CAMERA_SECONDS = 6.0
MOST_DOWNLOAD_BYTES = 500_000_000
DOWNLOAD_TIMEOUT_S = 30.0
CAMERAS = {"linux": ("v4l2", "/dev/video0"), "darwin": ("avfoundation", "0"), "win32": ("dshow", "video=0")}


def verify_file(path: Path, trusted_pem: str = "", name: str = "") -> Verdict:
    """Mark and credentials of a file. trusted_pem: roots that are trusted besides this installation's own.

    name: what it is called in the verdict, if not by its path. Raises MediaError for a file that cannot be read at all.
    """
    if why := no_file(path, "a picture or film"):
        hint = "; --camera looks at what a camera shows" if why.startswith("is a device") else ""
        raise MediaError(f"{path}: {why}{hint}")
    credentials = read_credentials(path, trusted_pem)
    try:
        with closing(MediaReader(path, any_size=True)) as reader:
            finding = detect_mark(_spread(reader))
    except SettingError:
        finding = None  # pictures too small to carry a mark
    except MediaError:
        if credentials.state == "none":
            raise
        finding = None  # a sound file, say, or pictures that were damaged after they were signed
    return Verdict(name or str(path), credentials, finding)


def verify_address(url: str, trusted_pem: str = "") -> Verdict:
    """Of a file that is fetched over http or https. Raises MediaError."""
    with _fetched(url) as path:
        return verify_file(path, trusted_pem, url)


def verify_camera(device: str = "", seconds: float = CAMERA_SECONDS) -> Verdict:
    """What a camera shows, a screen it is pointed at or a virtual camera's picture. Raises MediaError."""
    usual = CAMERAS.get(sys.platform, CAMERAS["linux"])
    device = device or usual[1]
    try:
        with av.open(device, format=usual[0], timeout=10.0) as container:
            finding = detect_mark(_for_a_while(container, seconds))
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"camera {device}: {getattr(error, 'strerror', None) or error}") from error
    return Verdict(f"camera {device}", Credentials("none"), finding)


def _spread(reader: MediaReader) -> Iterator[Rgb]:
    """At most MOST_PICTURES of the first MOST_SECONDS, evenly; all of a clip whose length is not known until then."""
    facts = reader.facts
    pictures = min(facts.frames or MOST_PICTURES, int(MOST_SECONDS * float(facts.rate)) + 1)
    step = max(1, pictures // MOST_PICTURES)
    frames = (item for item in reader if isinstance(item, Frame))
    for frame in itertools.islice(frames, 0, step * MOST_PICTURES, step):
        yield frame.rgb_HW3


def _for_a_while(container: av.container.InputContainer, seconds: float) -> Iterator[Rgb]:
    """From the first picture on, which takes its time: what looks at it may have to be compiled."""
    end_s = 0.0
    for picture in container.decode(video=0):
        yield np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
        end_s = end_s or time.monotonic() + seconds
        if time.monotonic() > end_s:
            return


@contextmanager
def _fetched(url: str) -> Iterator[Path]:
    """A copy on disk for as long as it is looked at."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MediaError(f"{url}: only http and https addresses are fetched")
    with tempfile.TemporaryDirectory(prefix="vividstream-verify-") as folder:
        suffix = PurePosixPath(parts.path).suffix.lower()
        path = Path(folder) / f"fetched{suffix if suffix[1:].isalnum() else ''}"
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer, path.open("wb") as file:
                left = MOST_DOWNLOAD_BYTES
                while block := answer.read(1 << 20):
                    left -= len(block)
                    if left < 0:
                        raise MediaError(f"{url}: larger than {MOST_DOWNLOAD_BYTES // 1_000_000} MB")
                    file.write(block)
        except (urllib.error.URLError, OSError, ValueError) as error:
            why = getattr(error, "reason", None) or error
            raise MediaError(f"{url}: cannot be fetched: {getattr(why, 'strerror', None) or why}") from error
        yield path
