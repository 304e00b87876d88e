"""Removes what nobody can use from a store. Holds the lock, so no build under way is touched."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from engines import store
from engines.build import folders
from engines.build.lock import locked
from engines.errors import EngineRefused
from engines.store import Entry


@dataclass(frozen=True, slots=True)
class Removed:
    """One folder that is gone, or would be."""

    folder: Path
    why: str
    size_bytes: int


def prune(
    where: Path,
    keys: Collection[str] | None,
    unfit: bool,
    superseded: bool,
    dry_run: bool,
    wait: bool,
    say: Callable[[str], None],
) -> list[Removed]:
    """keys: exactly these engines; None: what is left over or damaged, and what the other words add.

    Raises StoreBusy where another process builds and `wait` is off.
    """
    if not where.is_dir():
        return []
    with locked(where, "pruning", say, wait):
        if not dry_run:
            for line in folders.bring_back(where):
                say(line)
        found = _useless(where, unfit, superseded) if keys is None else [(where / key, "asked for") for key in keys]
        removed = [Removed(folder, why, folders.size_of(folder)) for folder, why in found]
        for one in [] if dry_run else removed:
            folders.remove(one.folder)
    return removed


def _useless(where: Path, unfit: bool, superseded: bool) -> list[tuple[Path, str]]:
    left = [path for path in folders.leftovers(where) if not folders.is_missed(path)]
    found = [(path, "left by a build that died") for path in left]
    kinds = set()
    whole, _ = store.entries(where)
    good = {entry.key for entry in whole}
    found += [(where / key, "its manifest is damaged") for key in store.keys_in(where) if key not in good]
    for entry in whole:
        why = _damage(entry)
        if not why and unfit:
            why = store.misfit_of(entry.manifest, entry.manifest.key.device)
        if not why and superseded and _kind(entry) in kinds:
            why = "a newer one of its kind is there"
        if why:
            found.append((entry.folder, why))
        else:
            kinds.add(_kind(entry))
    return found


def _damage(entry: Entry) -> str:
    try:
        store.check_files(entry)
    except EngineRefused as error:
        return str(error).partition("; build it again")[0]
    return ""


def _kind(entry: Entry) -> tuple[object, ...]:
    """Engines of one kind stand in for each other."""
    key = entry.manifest.key
    return (key.name, key.runtime, key.device, key.precision, key.size_px, key.steps, key.batch, entry.manifest.random)
