"""Where a build writes, and how it becomes an engine: aside, to the disk, then under its name in one step.

A store holds engines (folders named by their key), the lock, and, while something is being made or replaced, folders
that begin with a dot. Those of a process that died are cleared by the next build, and by `engines prune`.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import NoRoom, NotBuilt
from engines.machine import gigabytes

BUILDING, REPLACED = ".building-", ".replaced-"
FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY_NOTHING_BYTES = 1_000_000


def leftovers(store: Path) -> list[Path]:
    """Folders of builds that are under way or died. Only with the lock held is it known that they died."""
    return sorted(path for path in store.glob(".*") if path.name.startswith((BUILDING, REPLACED)) and path.is_dir())


def is_missed(leftover: Path) -> bool:
    """Whether it is an engine that was set aside to be replaced, and never was."""
    key = leftover.name.removeprefix(REPLACED)
    return leftover.name.startswith(REPLACED) and not (leftover.parent / key).exists()


def recover(store: Path) -> list[str]:
    """Clears what dead builds left; call it with the lock held. Returns what was done, a line each."""
    done = bring_back(store)
    for path in leftovers(store):
        size = size_of(path)
        remove(path)
        done.append(f"removed {gigabytes(size)} that a build left which died")
    return done


def bring_back(store: Path) -> list[str]:
    """Gives engines their name again that were set aside to be replaced, and never were. Needs the lock."""
    missed = [path for path in leftovers(store) if is_missed(path)]
    for path in missed:
        path.rename(store / path.name.removeprefix(REPLACED))
    return [f"brought back {path.name[len(REPLACED) :][:12]}: its replacement was never finished" for path in missed]


def remove(folder: Path) -> None:
    """Takes an engine out of the store at once, then deletes it: nobody finds half of it. Raises NotBuilt."""
    try:
        aside = folder
        if not folder.name.startswith("."):
            aside = folder.rename(folder.with_name(f"{BUILDING}{os.getpid()}-{secrets.token_hex(4)}"))
        shutil.rmtree(aside)
    except OSError as error:
        raise NotBuilt(f"{folder}: cannot be removed: {error.strerror or error}") from error


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_disk(store: Path, needed_bytes: int) -> None:
    """Raises NoRoom, with figures, where the disk has less free than a build needs."""
    free = shutil.disk_usage(store).free
    if free < needed_bytes:
        raise NoRoom(
            f"{store}: the build needs {gigabytes(needed_bytes)} of disk, and {gigabytes(free)} are free; "
            "`vividstream engines prune` removes what cannot be used, --store takes another disk"
        )


@contextmanager
def building(store: Path) -> Iterator[Path]:
    """An empty folder to build in, gone afterwards whatever happens, unless it was published.

    Raises NoRoom in place of whatever a full disk made somebody raise.
    """
    folder = None
    try:
        folder = store / f"{BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir()
        yield folder
    except Exception as error:
        if _disk_is_full(store, error):
            raise NoRoom(
                f"{store}: the disk ran full during the build, and nothing of it was kept; "
                "`vividstream engines prune` removes what cannot be used, --store takes another disk"
            ) from error
        if isinstance(error, OSError):
            raise NotBuilt(f"the build broke off, and nothing of it was kept: {error}") from error
        raise
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _disk_is_full(store: Path, error: BaseException) -> bool:
    """By the error's number; libraries that write for us say it only in words, so by what is free then."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return "No space left" in str(error) or shutil.disk_usage(store).free < NEARLY_NOTHING_BYTES


def publish(folder: Path, store: Path, key: str) -> Path:
    """Makes the folder the engine `key`, replacing one of that key. A reader sees the old one, none, or the new one."""
    for path in sorted(folder.rglob("*")):
        _to_disk(path)
    _to_disk(folder)
    target, aside = store / key, store / f"{REPLACED}{key}"
    replacing = target.exists()
    if replacing:
        target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        if replacing:
            aside.rename(target)
        raise
    _to_disk(store)
    if replacing:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _to_disk(path: Path) -> None:
    """Waits until a file or a folder is on the disk, where the system can say so."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
