"""Names of identities, and which there are: by their files' names alone, so that a list of them costs nothing."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from platformdirs import user_data_path

from engines.errors import IdentityError

SUFFIX = ".safetensors"
BUILT_IN = Path(__file__).with_name("personas")
MOST_CHARACTERS = 64
MOST_NAME_BYTES = 200  # file systems end at 255 with the suffix and a temporary file's additions
_DEVICE_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def check_name(name: str) -> str:
    """The name in Unicode's composed form: letters of any script, digits, and spaces, `-`, `_`, `.` between them.

    It becomes a file name, so nothing that means something to a file system passes. Raises IdentityError.
    """
    composed = unicodedata.normalize("NFC", name)
    shown = ascii(composed) if not composed.isprintable() else f'"{composed}"'
    if not composed:
        raise IdentityError("an identity needs a name")
    if len(composed) > MOST_CHARACTERS or len(composed.encode(errors="replace")) > MOST_NAME_BYTES:
        raise IdentityError(f"identity {shown[:40]}...: a name has at most {MOST_CHARACTERS} characters")
    kinds = [unicodedata.category(character)[0] for character in composed]  # L letters, M their marks, N digits
    inside = all(kind in "LMN" or character in " -_." for kind, character in zip(kinds, composed, strict=True))
    if not inside or kinds[0] not in "LN" or kinds[-1] not in "LMN":
        raise IdentityError(f"identity {shown}: a name is letters and digits, with spaces, - _ . between them")
    if composed.split(".")[0].lower() in _DEVICE_NAMES:
        raise IdentityError(f"identity {shown}: some systems keep this name for a device")
    return composed


def default_directory() -> Path:
    """Where a person's own identities lie unless told otherwise."""
    return user_data_path("vividstream", appauthor=False) / "identities"


def identity_names(directory: Path | None = None) -> tuple[str, ...]:
    """All identities that may be loaded by name, sorted, built-in ones included. Whether one may is not looked at.

    directory: where enrolled identities lie; None: `default_directory()`. Raises IdentityError where it cannot be read.
    """
    return tuple(sorted({*names_in(BUILT_IN), *names_in(default_directory() if directory is None else directory)}))


def names_in(folder: Path) -> set[str]:
    """Names of the identity files in a folder; files whose names no identity can have are passed over."""
    try:
        stems = [path.stem for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise IdentityError(f"{folder}: {error.strerror or error}") from error
    return {stem for stem in stems if _is_name(stem)}


def _is_name(stem: str) -> bool:
    try:
        return check_name(stem) == stem
    except IdentityError:
        return False
