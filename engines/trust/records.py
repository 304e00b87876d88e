"""Where an installation keeps what proves things: its key, withdrawn consents, adopted identities, the audit log."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

from platformdirs import user_data_path

RECORDS = "VIVIDSTREAM_RECORDS"
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


def records_directory() -> Path:
    """`VIVIDSTREAM_RECORDS`, or a folder among the user's data. It need not exist yet."""
    named = os.environ.get(RECORDS)
    return Path(named) if named else user_data_path("vividstream", appauthor=False) / "records"


def records_trouble(path: Path, error: OSError) -> str:
    """One line for a file among the records that cannot be read or written: which, why, and what mends it."""
    said = f"{path}: {error.strerror or error}"
    if error.errno not in NOT_ALLOWED:
        return said
    kept = "this installation's key, consents and log are kept there"
    return f"{said}; {kept}: let this user write to it, or set {RECORDS} to another folder"


def canonical(values: object) -> bytes:
    """JSON in its one form: sorted keys, no blanks, ASCII. What is hashed and signed is always this."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Writes beside the file and renames over it, so that a reader sees the old file or the new one. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
