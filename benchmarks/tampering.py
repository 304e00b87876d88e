"""Is everything that is changed found? Bytes of identity files, audit logs and signed videos, one at a time.

    python -m benchmarks.tampering --quick
    python -m benchmarks.tampering --write

Also: what signing and checking cost.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.report import PRIVATE, REPORTS, machine, table, write_report
from engines import Identity, IdentityError, IdentityStore, MediaError, SwapSettings
from streamer.audit.log import AuditLog
from streamer.config import FileConfig
from streamer.credentials import read_credentials, sidecar_of
from streamer.errors import AuditFault
from streamer.file import run_file

Changed = tuple[int, bytes]
LINES = 40
EXPLAINED = """\
One byte is changed at a time (to any other value), or lines are. *found*: refused, or said to be changed. *gone*: the
credentials are not seen any more, as if somebody had taken them off; the mark in the pictures answers then. *same*:
what is read and how far it is trusted is exactly as before: C2PA leaves the frames of its boxes and a signature's
padding out of its hashes. *missed*: something else is read, and nobody says so."""
COLUMNS = ("found", "gone", "same", "missed")


def changes(data: bytes, count: int, begin: int, end: int, seed: int) -> Iterator[Changed]:
    """`data` with one byte between `begin` and `end` changed, and which: each of them, or `count` by lot."""
    rng = np.random.default_rng(seed)
    places = np.arange(begin, end) if count >= end - begin else np.sort(rng.choice(end - begin, count, False)) + begin
    for place in places:
        other = (data[place] + int(rng.integers(1, 256))) % 256
        yield int(place), data[:place] + bytes([other]) + data[place + 1 :]


def tried(name: str, cases: Iterator[Changed], read: Callable[[bytes], str]) -> dict[str, object]:
    """How many changes were found, and how many of the others made no difference to what is read."""
    counts = Counter(read(data) for _, data in cases)
    return {"what": name, "changed": counts.total(), **{key: counts[key] for key in COLUMNS}}


def identities(folder: Path, count: int) -> list[dict[str, object]]:
    store = IdentityStore(folder / "people")
    path = store.save(_somebody(store))
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")

    def read(data: bytes) -> str:
        path.write_bytes(data)
        try:
            store.load("ada")
        except IdentityError:
            return "found"
        return "missed"

    return [
        tried("identity file, header", changes(whole, count, 0, header, 1), read),
        tried("identity file, arrays", changes(whole, count, header, len(whole), 2), read),
    ]


def _somebody(store: IdentityStore) -> Identity:
    """A person who does not exist, under a name that can be saved."""
    nobody = store.load("amara")
    return replace(nobody, manifest=nobody.manifest.model_copy(update={"name": "ada"}))


def logs(folder: Path, count: int) -> list[dict[str, object]]:
    audit = AuditLog(folder / "log")
    for number in range(LINES):
        audit.record("session begun", call=number, identity="ada", consent_sha256="ab" * 32)
    files = (audit.path, audit.folder / "audit.head")
    whole = tuple(path.read_bytes() for path in files)

    def reader(which: int) -> Callable[[bytes], str]:
        def read(data: bytes) -> str:
            for index, path in enumerate(files):
                path.write_bytes(data if index == which else whole[index])
            try:
                audit.read()
            except AuditFault:
                return "found"
            return "missed"

        return read

    lines = whole[0].splitlines(keepends=True)
    gone = [(index, b"".join(lines[:index] + lines[index + 1 :])) for index in range(len(lines))]
    moved = [(index, b"".join([*lines[:index], lines[index + 1], lines[index], *lines[index + 2 :]]))
             for index in range(len(lines) - 1)]  # fmt: skip
    cut = [(index, b"".join(lines[:index])) for index in range(len(lines))]
    return [
        tried("audit log, bytes", changes(whole[0], count, 0, len(whole[0]), 3), reader(0)),
        tried("audit log, head", changes(whole[1], count, 0, len(whole[1]), 4), reader(1)),
        tried("audit log, a line taken out", iter(gone), reader(0)),
        tried("audit log, two lines exchanged", iter(moved), reader(0)),
        tried("audit log, cut off", iter(cut), reader(0)),
    ]


def videos(folder: Path, clip: Path, count: int) -> list[dict[str, object]]:
    rows = []
    for suffix in (".mp4", ".mkv"):
        path = folder / f"out{suffix}"
        swap = SwapSettings(engine="passthrough")
        with open(os.devnull, "w", encoding="ascii") as quiet:
            run_file(FileConfig(input=clip, output=path, swap=swap), quiet)
        rows += _manifest_and_media(path, count)
    return rows


def _manifest_and_media(path: Path, count: int) -> list[dict[str, object]]:
    before, beside = read_credentials(path), sidecar_of(path)
    assert before.state == "trusted"

    def reader(changed: Path) -> Callable[[bytes], str]:
        whole = changed.read_bytes()

        def read(data: bytes) -> str:
            changed.write_bytes(data)
            after = read_credentials(path)
            changed.write_bytes(whole)
            if after.state == "none":
                return "gone"
            return "same" if after == before else "missed" if after.state == "trusted" else "found"

        return read

    whole = path.read_bytes()
    if beside is not None:
        manifest = beside.read_bytes()
        return [
            tried(f"{path.suffix}, manifest beside it", changes(manifest, count, 0, len(manifest), 5), reader(beside)),
            tried(f"{path.suffix}, the file", changes(whole, min(count, 400), 0, len(whole), 6), reader(path)),
        ]
    begin = whole.index(b"uuid") - 4
    end = begin + int.from_bytes(whole[begin : begin + 4], "big")
    media = whole.index(b"mdat", end) + 4
    return [
        tried(f"{path.suffix}, manifest", changes(whole, count, begin, end, 7), reader(path)),
        tried(f"{path.suffix}, pictures", changes(whole, min(count, 400), media, len(whole), 8), reader(path)),
    ]


def costs(folder: Path) -> list[tuple[str, float]]:
    """Processor milliseconds, medians."""
    store, audit = IdentityStore(folder / "people"), AuditLog(folder / "cost")
    named = _somebody(store)
    return [
        ("saving an identity, signed", _median_ms(lambda: store.save(named))),
        ("loading it, checked", _median_ms(lambda: store.load("ada"))),
        ("a line of the audit log", _median_ms(lambda: audit.record("session begun", call=1))),
        ("checking a log, per line", _median_ms(audit.read) / max(len(audit.read()), 1)),
        ("checking a video's credentials", _median_ms(lambda: read_credentials(folder / "out.mp4"))),
    ]


def _median_ms(act: Callable[[], object], times: int = 15) -> float:
    taken = []
    for _ in range(times):
        since_s = time.process_time()
        act()
        taken.append((time.process_time() - since_s) * 1e3)
    return float(np.median(taken[1:]))


def report(rows: Sequence[dict[str, object]], cost: Sequence[tuple[str, float]]) -> str:
    columns = ("what", "changed", *COLUMNS)
    return "\n".join(
        [
            "# Tampering",
            "",
            f"`python -m benchmarks.tampering`. {machine()}.",
            "",
            EXPLAINED,
            "",
            table(columns, [[row[column] for column in columns] for row in rows]),
            "",
            "What it costs, processor milliseconds, medians of 14:",
            "",
            table(("what", "ms"), cost),
            "",
        ]
    )


@click.command()
@click.option("--data", default="../shared/data", type=click.Path(path_type=Path), show_default=True, help="real clips")
@click.option("--quick", is_flag=True, help="200 bytes of each instead of 3,000")
@click.option("--write", is_flag=True, help="into docs/benchmarks; else into out/")
def main(data: Path, quick: bool, write: bool) -> None:
    """Change what is signed, byte by byte, and count what is found."""
    count = 200 if quick else 3000
    clip = data / "clips" / "single_face.mp4"
    if not clip.is_file():
        raise MediaError(f"{clip}: no such file")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["VIVIDSTREAM_RECORDS"] = str(folder / "records")
        rows = [*identities(folder, count), *logs(folder, count), *videos(folder, clip, count)]
        cost = costs(folder)
    text = report(rows, cost)
    figures = {"rows": list(rows), "cost_ms": dict(cost)}
    click.echo(text)
    click.echo(str(write_report("tampering", text, figures, REPORTS if write else PRIVATE)))


if __name__ == "__main__":
    main()
