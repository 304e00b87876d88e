"""A folder of kept examples: made by several processes, whole or not at all, gone on with after any end.

Samples are numbered; a shard holds those of a stretch of numbers that the live path takes, and is one tar file
(distill.shards). `examples.json` says with what the folder was made and what every shard holds; it is replaced whole
after each. The same folder may be trained from while it grows: whoever opens it sees what was there at that moment.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

from distill.data import Batch, Dataset, DataSettings, Kind, Maker
from distill.errors import BadShard, DataMissing, NotWritten, RunBusy
from distill.examples.pack import pack
from distill.examples.settings import ExampleSettings
from distill.examples.types import CONDITIONING, Example, Refused
from distill.feed import Feed
from distill.shards import Entry, write_shard, written_whole
from distill.sources.base import ONE_PERSON, SourceSpec
from distill.sources.rendered import RenderedPeople
from distill.sources.shards import PreparedShards
from distill.sources.stills import MovingStills
from engines import SettingError
from engines.build.lock import holder, locked
from engines.errors import NotBuilt, StoreBusy

LOCK = "examples.lock"
RECORD_NAME, FORMAT = "examples.json", "vividstream-examples-1"
A_SHARD: dict[Kind, int] = {"image": 24, "video": 4}  # samples: seconds of work, and a few MB
MEMBER = "example"

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = get_args(Split)
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Job:
    """One shard to be made: samples first .. stop of a kind."""

    split: Split
    kind: Kind
    first: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.kind}-{self.first // A_SHARD[self.kind]:06}.tar"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the record knows of a shard. entry: None where every sample was refused; refused: how many, by reason."""

    split: Split
    kind: Kind
    tried: int
    entry: Entry | None
    refused: dict[str, int]

    @property
    def examples(self) -> int:
        return 0 if self.entry is None else self.entry.samples


@dataclass(slots=True)
class Record:
    """What a folder of examples holds, by the shards' names; settings: ExampleSettings.of_examples and more."""

    folder: Path
    settings: dict[str, object]
    shards: dict[str, Kept] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Raises DataMissing where there is none, BadShard where it cannot be read."""
        path = folder / RECORD_NAME
        if not path.exists():
            raise DataMissing(f"{folder}: no examples in it; `vividstream examples` makes some")
        try:
            stored = json.loads(path.read_bytes())
            if stored["format"] != FORMAT:
                raise BadShard(f'{path}: format "{stored["format"]}" is not known here, only "{FORMAT}"')
            shards = {name: _kept(one) for name, one in stored["shards"].items()}
            return cls(folder, stored["settings"], shards)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadShard(f"{path}: is no record of examples: {error}") from error

    def write(self) -> None:
        """Raises NotWritten."""
        shards = {name: _described(one) for name, one in sorted(self.shards.items())}
        with written_whole(self.folder / RECORD_NAME) as file:
            file.write(json.dumps({"format": FORMAT, "settings": self.settings, "shards": shards}, indent=1).encode())

    def count(self, split: Split, kind: Kind) -> int:
        """Examples that are there."""
        return sum(one.examples for one in self.shards.values() if (one.split, one.kind) == (split, kind))

    @property
    def shows_the_truth(self) -> bool:
        """Whether a driver's face may be the very one that is to come out: ExampleSettings.disguise."""
        sources = [self.settings.get(f"{split} sources") for split in SPLITS]
        named = {name for one in sources if isinstance(one, dict) for name in one}
        return not self.settings.get("disguise") and not named.isdisjoint(ONE_PERSON)

    def refused(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for one in self.shards.values():
            total.update(one.refused)
        return total


def _kept(stored: dict[str, object]) -> Kept:
    values = dict(stored)
    entry = values.pop("entry")
    return Kept(entry=Entry(**entry) if isinstance(entry, dict) else None, **values)  # type: ignore[arg-type]


def _described(one: Kept) -> dict[str, object]:
    entry = None
    if one.entry is not None:
        entry = {name: getattr(one.entry, name) for name in ("name", "sha256", "bytes", "samples")}
    return {"split": one.split, "kind": one.kind, "tried": one.tried, "entry": entry, "refused": one.refused}


Show = Callable[[int, int, Record], None]  # samples done in this run, of how many, and what there is


@dataclass(frozen=True, slots=True)
class Means:
    """What samples come from, and what makes examples of them. Both go to worker processes by name."""

    dataset: Callable[[ExampleSettings, Split], Dataset]
    conditioner: Callable[[ExampleSettings], AbstractContextManager[Exampler]]


class Exampler(Protocol):
    """As distill.examples.condition.Conditioner."""

    def example(self, batch: Batch, row: int, number: int) -> Example: ...


def make_examples(settings: ExampleSettings, show: Show | None = None, means: Means | None = None) -> Record:
    """Draws what the folder lacks of what is asked for. The same call again goes on where it was ended.

    Raises SettingError where the folder holds examples of other settings, RunBusy where another run fills it,
    DataMissing, BadShard and NotWritten.
    """
    with _alone(settings.folder):
        return _make(settings, show, means or Means(dataset, live))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    if folder.exists() and not folder.is_dir():
        raise NotWritten(f"{folder}: is a file; examples need a folder")
    try:
        with locked(folder, "drawing examples", lambda _: None, wait=False, name=LOCK):
            yield
    except StoreBusy as error:
        other = holder(folder, LOCK) or "another process"
        raise RunBusy(f"{folder}: in use by {other}; take another folder, or end that one") from error
    except NotBuilt as error:
        raise NotWritten(str(error)) from error


def live(settings: ExampleSettings) -> AbstractContextManager[Exampler]:
    """The live engine's own code."""
    from distill.examples.condition import Conditioner
    from distill.examples.disguise import Wardrobe

    wardrobe = Wardrobe(settings.portrait_folder) if settings.disguise else None
    return Conditioner(settings.size_px, settings.picture_px, wardrobe)


def _make(settings: ExampleSettings, show: Show | None, means: Means) -> Record:
    record = opened(settings, means)
    jobs = missing(settings, record)
    total, done = sum(job.stop - job.first for job in jobs), 0
    for job, kept in zip(jobs, _made(settings, jobs, means)):
        record.shards[job.name] = kept
        record.write()
        done += kept.tried
        if show is not None:
            show(done, total, record)
    return record


def opened(settings: ExampleSettings, means: Means) -> Record:
    """The folder's record, a new one where there is none. Raises SettingError where it was made otherwise."""
    now = described(settings, means)
    if not (settings.folder / RECORD_NAME).exists():
        record = Record(settings.folder, now)
        record.write()
        return record
    record = Record.read(settings.folder)
    changed = [name for name in (*now, *record.settings) if now.get(name) != record.settings.get(name)]
    if changed:  # settings that have a name come before fingerprints
        raise SettingError(
            f"{settings.folder}: holds examples made with another {changed[0]} "
            f"({record.settings.get(changed[0])}, not {now.get(changed[0])}); take a new folder"
        )
    return record


def described(settings: ExampleSettings, means: Means) -> dict[str, object]:
    """Everything that decides the examples; the sources by what they say of themselves."""
    values: dict[str, object] = {**settings.of_examples(), "conditioning": CONDITIONING}
    for split in SPLITS:
        try:
            data = means.dataset(settings, split)
        except SettingError:  # no source of such
            continue
        values[f"{split} sources"] = {spec.name: weight for spec, weight in data.sources}
        values[f"{split} samples"] = data.fingerprint()[:16]
    return values


def wanted(settings: ExampleSettings, split: Split) -> dict[Kind, int]:
    """How many samples of each kind; empty where there are to be none."""
    numbers = (settings.stills, settings.clips)
    if split == "held_out":
        numbers = (settings.held_out_stills, settings.held_out_clips)
    return {kind: number for kind, number in zip(KINDS, numbers) if number}


def missing(settings: ExampleSettings, record: Record) -> list[Job]:
    """The shards that are not there, or not whole, the kinds mixed so that any beginning holds all of them."""
    jobs: list[tuple[float, Job]] = []
    for split in SPLITS:
        for kind, number in wanted(settings, split).items():
            size = A_SHARD[kind]
            for first in range(0, number, size):
                job = Job(split, kind, first, min(first + size, number))
                if not _there(record, job):
                    jobs.append(((first + size / 2) / number, job))
    return [job for _, job in sorted(jobs, key=lambda one: one[0])]


def _there(record: Record, job: Job) -> bool:
    kept = record.shards.get(job.name)
    if kept is None or kept.tried < job.stop - job.first:
        return False
    try:
        return kept.entry is None or (record.folder / job.name).stat().st_size == kept.entry.bytes
    except OSError:
        return False


def dataset(settings: ExampleSettings, split: Split) -> Dataset:
    """The samples of a split: people of the other split are not among them."""
    data = DataSettings.model_validate(_of_data(settings))
    same = settings.same_person
    shards = settings.shards if split == "train" else settings.held_out_shards
    sources: list[tuple[SourceSpec, float]] = []
    if settings.rendered:
        sources.append((RenderedPeople(settings.data, split=split, same_person=same), settings.rendered))
    if settings.moved:
        stills = MovingStills(settings.data, settings.portrait_folder, split=split, same_person=same)
        sources.append((stills, settings.moved))
    if shards is not None and settings.real:
        sources.append((PreparedShards(shards), settings.real))
    if not sources:
        raise SettingError(f"no source of {split} examples: give one of them a weight")
    return Dataset(data, tuple(sources))


def _of_data(settings: ExampleSettings) -> dict[str, object]:
    """Settings of the samples: one at a time, whole frames."""
    values: dict[str, object] = {
        "seed": settings.seed,
        "size_px": settings.whole_frame_px,
        "frames": settings.frames,
        "sources": settings.photos,
        "images_a_batch": 1,
        "videos_a_batch": 1,
        "occlude": settings.occlude,
        "aligned": False,
        "photo_px": settings.photo_px,
    }
    return values if settings.degrade else {**values, "degrade": None, "degrade_photos": None}


def _made(settings: ExampleSettings, jobs: list[Job], means: Means) -> Iterator[Kept]:
    """What became of each job, in order."""
    drawer = _Drawer(settings, jobs, means)
    if settings.workers > 1 and len(jobs) > 1:
        with Feed(drawer, 0, min(settings.workers, len(jobs)), 1) as feed:
            for _, kept in zip(jobs, feed):
                if kept is not None:
                    yield kept
        return
    with drawer:
        for number in range(len(jobs)):
            kept = drawer.make(number)
            if kept is not None:
                yield kept


class _Drawer:
    """Makes and writes shards; item n is job n. Opens sources and nets when they are needed first."""

    def __init__(self, settings: ExampleSettings, jobs: list[Job], means: Means) -> None:
        self._settings, self._jobs, self._means = settings, jobs, means
        self._opened: ExitStack | None = None
        self._makers: dict[Split, Maker] = {}
        self._exampler: Exampler | None = None

    def __enter__(self) -> _Drawer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened, self._exampler, self._makers = None, None, {}

    def make(self, number: int) -> Kept | None:
        """None beyond the last job."""
        if number >= len(self._jobs):
            time.sleep(0.1)
            return None
        job, refused = self._jobs[number], Counter[str]()
        members = [(key, {MEMBER: content}) for key, content in self._examples(job, refused)]
        entry = write_shard(self._settings.folder / job.name, members) if members else None
        return Kept(job.split, job.kind, job.stop - job.first, entry, dict(refused))

    def _examples(self, job: Job, refused: Counter[str]) -> Iterator[tuple[str, bytes]]:
        exampler, maker = self._ready(job.split)
        for number in range(job.first, job.stop):
            batch = maker.one(job.kind, number)
            try:
                example = exampler.example(batch, 0, 2 * number + (job.kind == "video"))
            except Refused as error:
                refused[str(error)] += 1
                continue
            yield f"{job.split}-{job.kind}-{number:08}", pack(example)

    def _ready(self, split: Split) -> tuple[Exampler, Maker]:
        """Opened when it is needed first: the nets hold threads, which do not travel to other processes."""
        if self._opened is None or self._exampler is None:
            self._opened = ExitStack()
            self._exampler = self._opened.enter_context(self._means.conditioner(self._settings))
        if split not in self._makers:
            self._makers[split] = self._opened.enter_context(self._means.dataset(self._settings, split).maker())
        return self._exampler, self._makers[split]
