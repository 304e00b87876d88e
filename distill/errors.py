"""Errors of this package, below engines.VividError.

VividError
├── DataMissing     a folder or file that data is made from is not there
├── BadClip         a video that cannot be used; names the file and why
├── BadShard        a shard that is cut, damaged or of another format; names the file
└── NotWritten      a file that cannot be written: the disk is full, the folder is read-only; names the file
"""

from __future__ import annotations

from engines import VividError


class DataMissing(VividError):
    """A folder or file that data is made from is not there."""


class BadClip(VividError):
    """A video that cannot be used."""


class BadShard(VividError):
    """A shard that is cut, damaged or of another format."""


class NotWritten(VividError):
    """A file that cannot be written."""
