"""Errors of this package, below engines.VividError.

VividError
├── DataMissing     a folder or file that data is made from is not there
├── BadClip         a video that cannot be used; names the file and why
│   └── NothingLeft     none of several videos can be used
├── BadShard        a shard that is cut, damaged or of another format; names the file
├── NotWritten      a file that cannot be written: the disk is full, the folder is read-only; names the file
├── CannotConverge  settings of training that cannot teach what they are meant to; says why
└── TrainingStopped a run that ended before its end; the last good checkpoint is as it was
    ├── RunBusy         another process works in the folder; says which
    ├── OtherRun        the folder holds a run of another configuration; names the fields that differ
    ├── NotFinite       a loss or gradient is no finite number; names the file with the batch
    ├── TooLittleMemory a step does not fit; says what would make it fit
    ├── WillNotLearn    the loss on one batch did not fall
    └── RankLost        another process of the run died or fell silent
"""

from __future__ import annotations

from collections.abc import Sequence

from engines import VividError


class DataMissing(VividError):
    """A folder or file that data is made from is not there."""


class BadClip(VividError):
    """A video that cannot be used."""


class NothingLeft(BadClip):
    """None of several videos can be used. refused: a line for each, which names it and says why."""

    def __init__(self, message: str, refused: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.refused = tuple(refused)


class BadShard(VividError):
    """A shard that is cut, damaged or of another format."""


class NotWritten(VividError):
    """A file that cannot be written."""


class CannotConverge(VividError):
    """Settings of training that cannot teach what they are meant to."""


class TrainingStopped(VividError):
    """A run that ended before its end. The last good checkpoint is as it was; mostly the same command goes on."""


class RunBusy(TrainingStopped):
    """Another process trains in the same folder."""


class OtherRun(TrainingStopped):
    """The folder holds a run of another configuration, or of other frozen networks."""


class NotFinite(TrainingStopped):
    """A loss or a gradient is no finite number."""


class TooLittleMemory(TrainingStopped):
    """A step does not fit into memory."""


class WillNotLearn(TrainingStopped):
    """The loss on one batch, seen again and again, did not fall."""


class RankLost(TrainingStopped):
    """Another process of the run died or fell silent."""
