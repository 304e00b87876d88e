"""The one way to training data: an iterator of `(batch, resume_state)`.

Image and video batches alternate, 1:1. Every sample is a pure function of the seed and its number, so nothing has to be
replayed: `Dataset.batches(state)` continues with the very next sample, after a kill, with other worker counts, and on
another number of ranks (numbers count over all ranks). Samples of one step are disjoint over ranks, and together all
that there are.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from distill.degrade import DegradeSettings, degrade
from distill.feed import Feed
from distill.occluders.clip import face_of, occluded, occluder_clip
from distill.occluders.scene import light_on
from distill.sources.base import Sample, Source, SourceSpec, Wanted
from distill.sources.order import shares_of, source_of
from engines import SettingError, StrictModel

Kind = Literal["image", "video"]
OF_SOURCES, OF_OCCLUDERS = 7, 8  # keep the photos' degradations and the occluders apart from the clip's


# Who enrols takes a better picture than a call's: sharper, brighter, and in colour.
PHOTOS = DegradeSettings(
    defocus=0.15,
    defocus_most_px=1.2,
    motion=0.1,
    motion_most_px=3,
    rescale=0.3,
    rescale_least=0.5,
    noise=0.4,
    colour=0.5,
    gamma_least=0.85,
    gamma_most=1.2,
    grey=0,
    erase=0,
    jpeg=0.6,
    h264=0,
    quality_least=50,
    quality_most=95,
)


class DataSettings(StrictModel):
    """What decides the samples; a state of one run is refused by a run with other settings."""

    seed: int = Field(0, ge=0, lt=2**32, description="decides every sample")
    size_px: int = Field(256, ge=32, le=1024, description="side of the crops")
    frames: int = Field(8, ge=2, description="frames of a video sample")
    sources: int = Field(1, ge=1, le=8, description="photos of the identity")
    images_a_batch: int = Field(16, ge=1, description="samples of an image batch, per rank")
    videos_a_batch: int = Field(2, ge=1, description="samples of a video batch, per rank")
    occlude: float = Field(0.25, ge=0, le=1, description="share of samples with something passing before the face")
    degrade: DegradeSettings | None = Field(DegradeSettings(), description="what camera and call do to the pictures")
    degrade_photos: DegradeSettings | None = Field(PHOTOS, description="what is done to the identity's photos")
    degrade_truth: bool = Field(True, description="the truth as the same bad camera would have seen it")
    aligned: bool = Field(True, description="crops; no: whole frames of that side, as the live path gets them")
    photo_px: int = Field(0, ge=0, le=2048, description="side of the photos of whole frames; 0: as the frames")


@dataclass(frozen=True, slots=True)
class ResumeState:
    """Where a run is: batches given, and samples of each kind given over all ranks."""

    step: int = 0
    images: int = 0
    videos: int = 0
    fingerprint: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ResumeState:
        """Raises SettingError for anything else."""
        try:
            state = cls(**json.loads(text))
            if not all(isinstance(getattr(state, one.name), type(one.default)) for one in fields(cls)):
                raise TypeError("a value of another type")
            if min(state.step, state.images, state.videos) < 0:
                raise ValueError("a number below 0")
        except (ValueError, TypeError) as error:
            raise SettingError(f"is no resume state of a dataset: {error}") from error
        return state


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples of one kind: the fields of `Sample` with B in front, and what was done to them.

    covered_BTHW  uint8, how much of target, truth and twin alike something in front covers; 255 wholly
    erased_BTHW   bool, what was erased
    origins       for each sample its source's name and its number there
    """

    kind: Kind
    target_BTHW3: Tensor
    truth_BTHW3: Tensor
    twin_BTHW3: Tensor
    sources_BSHW3: Tensor
    landmarks_BTN3: Tensor
    covered_BTHW: Tensor
    erased_BTHW: Tensor
    origins: tuple[tuple[str, int], ...]


TENSORS = tuple(one.name for one in fields(Batch) if one.name not in ("kind", "origins"))
Packed = tuple[Kind, list[NDArray[Any]], tuple[tuple[str, int], ...]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data of one rank.

    workers  processes that make batches ahead; 0 makes them here
    ahead    batches that wait in each worker's queue at most
    device   where batches end up, and where pictures are degraded when they are made here
    """

    settings: DataSettings
    sources: tuple[tuple[SourceSpec, float], ...]  # with weights
    rank: int = 0
    ranks: int = 1
    workers: int = 0
    ahead: int = 2
    device: str = "cpu"

    def maker(self) -> Maker:
        """What makes single samples and batches of this data; enter it to open the sources."""
        return Maker(self, ResumeState(fingerprint=self.fingerprint()))

    def fingerprint(self) -> str:
        """Of everything that decides the samples; not of ranks and workers, which do not."""
        described = [(spec.describe(), share) for spec, share in zip(self._specs, self._shares)]
        return hashlib.sha256(json.dumps([self.settings.model_dump(mode="json"), described]).encode()).hexdigest()

    def batches(self, state: ResumeState | None = None) -> Iterator[tuple[Batch, ResumeState]]:
        """Batches without end, each with the state that continues after it.

        Raises SettingError for a state of other data or settings, BadShard and DataMissing from the sources.
        """
        if not 0 <= self.rank < self.ranks:
            raise SettingError(f"rank {self.rank} of {self.ranks} ranks")
        if self.workers < 0 or self.ahead < 1:
            raise SettingError(f"{self.workers} workers with {self.ahead} batches ahead")
        fingerprint = self.fingerprint()
        start = state or ResumeState(fingerprint=fingerprint)
        if start.fingerprint != fingerprint:
            raise SettingError("the resume state belongs to other data or settings: start anew, or restore them")
        if self.workers:
            with Feed(_Packer(Maker(self, start)), start.step, self.workers, self.ahead) as feed:
                for step, packed in enumerate(feed, start.step):
                    yield _unpacked(packed, self.device), self.state_at(start, step + 1)
        with Maker(self, start) as maker:
            step = start.step
            while True:
                yield maker.make(step), self.state_at(start, step + 1)
                step += 1

    def state_at(self, start: ResumeState, step: int) -> ResumeState:
        """The state before batch `step` of a run that began at `start`."""
        images = (step + 1) // 2 - (start.step + 1) // 2
        videos = step // 2 - start.step // 2
        return ResumeState(
            step,
            start.images + images * self.settings.images_a_batch * self.ranks,
            start.videos + videos * self.settings.videos_a_batch * self.ranks,
            start.fingerprint,
        )

    @property
    def _specs(self) -> tuple[SourceSpec, ...]:
        return tuple(spec for spec, _ in self.sources)

    @property
    def _shares(self) -> tuple[int, ...]:
        try:
            return shares_of([weight for _, weight in self.sources])
        except ValueError as error:
            raise SettingError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Made:
    """One sample on its way into a batch."""

    sample: Sample
    covered_THW: Tensor
    erased_THW: Tensor
    origin: tuple[str, int]


class Maker:
    """Makes any batch of a rank. Opens its sources when it is entered; until then it can go to another process."""

    def __init__(self, dataset: Dataset, start: ResumeState) -> None:
        self._dataset, self._start = dataset, start
        self._shares = dataset._shares
        self._opened: dict[int, Source] = {}

    def __enter__(self) -> Maker:
        return self

    def __exit__(self, *_: object) -> None:
        for source in self._opened.values():
            source.close()
        self._opened.clear()

    def make(self, step: int) -> Batch:
        """Batch number `step` of the run."""
        dataset, settings = self._dataset, self._dataset.settings
        state = dataset.state_at(self._start, step)
        clips = step % 2 == 1
        size = settings.videos_a_batch if clips else settings.images_a_batch
        first = (state.videos if clips else state.images) + dataset.rank * size
        return _collated("video" if clips else "image", [self._sample(clips, first + n) for n in range(size)])

    def one(self, kind: Kind, number: int) -> Batch:
        """Sample `number` of its kind alone, as a batch of one: the same as in the batch that it comes in."""
        return _collated(kind, [self._sample(kind == "video", number)])

    def _sample(self, clips: bool, number: int) -> Made:
        settings = self._dataset.settings
        which, ordinal = source_of(settings.seed, clips, number, self._shares)
        spec = self._dataset._specs[which]
        if which not in self._opened:
            self._opened[which] = spec.open()
        frames = settings.frames if clips else 1
        wanted = Wanted(
            settings.seed, ordinal, frames, settings.sources, settings.size_px, settings.aligned, settings.photo_px
        )
        sample = _on(self._opened[which].make(wanted), "cpu" if self._dataset.workers else self._dataset.device)
        seed = (settings.seed, int(clips), number)
        sample, covered = _occluded(sample, settings.occlude, seed)
        erased = torch.zeros_like(covered, dtype=torch.bool)
        if settings.degrade is not None:
            sample, erased = _degraded(sample, settings, seed)
        if settings.degrade_photos is not None:
            sample = _photographed(sample, settings.seed, settings.degrade_photos)
        return Made(sample, covered, erased, (spec.name, ordinal))


class _Packer:
    """A maker whose batches travel between processes as plain arrays: shared memory would run out of file handles."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __enter__(self) -> _Packer:
        self._maker.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._maker.__exit__(*error)

    def make(self, number: int) -> Packed:
        batch = self._maker.make(number)
        tensors = (getattr(batch, name) for name in TENSORS)
        return batch.kind, [tensor.numpy() for tensor in tensors], batch.origins


def _unpacked(packed: Packed, device: str) -> Batch:
    kind, arrays, origins = packed
    tensors = {name: torch.from_numpy(array).to(device) for name, array in zip(TENSORS, arrays, strict=True)}
    return Batch(kind, **tensors, origins=origins)


def _on(sample: Sample, device: str) -> Sample:
    return Sample(*(getattr(sample, one.name).to(device) for one in fields(Sample)))


def _occluded(sample: Sample, share: float, seed: tuple[int, ...]) -> tuple[Sample, Tensor]:
    """Puts the same hand, thing or texture before target, truth and twin; and the mask, uint8 [T, H, W]."""
    rng = np.random.default_rng((*seed, OF_OCCLUDERS))
    target = sample.target_THW3
    if rng.random() >= share:
        return sample, torch.zeros(target.shape[:3], dtype=torch.uint8, device=target.device)
    pictures, landmarks = target.cpu().numpy(), sample.landmarks_TN3.cpu().numpy()
    face = face_of(landmarks, light_on(pictures[0], landmarks[0]))
    clip = occluder_clip(rng, face, target.shape[1])

    def behind(pictures: Tensor) -> Tensor:
        return torch.from_numpy(occluded(pictures.cpu().numpy(), clip)).to(target.device)

    in_front = replace(
        sample,
        target_THW3=behind(target),
        truth_THW3=behind(sample.truth_THW3),
        twin_THW3=behind(sample.twin_THW3),
    )
    return in_front, torch.from_numpy(np.array(clip.mask_THW)).to(target.device)


def _degraded(sample: Sample, settings: DataSettings, seed: tuple[int, ...]) -> tuple[Sample, Tensor]:
    """Target, truth and twin alike; and where nothing of them is left."""
    together = {"target": sample.target_THW3, "twin": sample.twin_THW3}
    if settings.degrade_truth:
        together["truth"] = sample.truth_THW3
    done = degrade(together, seed, settings.degrade)
    truth = done.pictures.get("truth", sample.truth_THW3)
    clip = replace(sample, target_THW3=done.pictures["target"], truth_THW3=truth, twin_THW3=done.pictures["twin"])
    return clip, done.erased_THW


def _photographed(sample: Sample, seed: int, settings: DegradeSettings) -> Sample:
    """Each photo of the identity degraded in its own way, the same photo always in the same."""
    photos = [
        degrade({"photo": photo[None]}, (seed, OF_SOURCES, _crc(photo)), settings).pictures["photo"]
        for photo in sample.sources_SHW3
    ]
    return replace(sample, sources_SHW3=torch.cat(photos))


def _crc(photo: Tensor) -> int:
    return zlib.crc32(photo.cpu().numpy().tobytes())


def _collated(kind: Kind, made: Sequence[Made]) -> Batch:
    samples = [one.sample for one in made]
    return Batch(
        kind,
        torch.stack([one.target_THW3 for one in samples]),
        torch.stack([one.truth_THW3 for one in samples]),
        torch.stack([one.twin_THW3 for one in samples]),
        torch.stack([one.sources_SHW3 for one in samples]),
        torch.stack([one.landmarks_TN3 for one in samples]),
        torch.stack([one.covered_THW for one in made]),
        torch.stack([one.erased_THW for one in made]),
        tuple(one.origin for one in made),
    )
