"""What was done in a folder already: the record by which a rerun goes on instead of beginning again.

`prepare.json` holds the settings of the folder's clips and one report for each video; it is replaced whole after every
video. The shards' manifest is written from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from distill.errors import BadShard, NotWritten
from distill.prepare.clip_settings import clip_settings
from distill.prepare.process import VideoReport
from distill.prepare.settings import PrepareSettings
from distill.shards import Entry, open_shard, write_manifest, written_whole
from engines import SettingError

RECORD_NAME = "prepare.json"


@dataclass(slots=True)
class Record:
    """The reports of a folder by the sha256 of the video; `remade` says which shards have to be made again, and why."""

    settings: PrepareSettings
    reports: dict[str, VideoReport] = field(default_factory=dict)
    remade: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, settings: PrepareSettings) -> Record:
        """Reads the folder's record and checks every shard in it: what is missing, cut or damaged is to be made again.

        Raises SettingError where the folder holds clips made with other settings, BadShard for an unreadable record,
        NotWritten where the output is no folder.
        """
        if settings.output.exists() and not settings.output.is_dir():
            raise NotWritten(f"{settings.output}: is a file; shards need a folder")
        path = settings.output / RECORD_NAME
        record = cls(settings)
        if not path.exists():
            return record
        try:
            stored = json.loads(path.read_bytes())
            made_with, reports = stored["settings"], [VideoReport.from_json(one) for one in stored["videos"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadShard(f"{path}: is no record of prepared videos: {error}") from error
        changed = sorted(name for name, value in clip_settings(settings).items() if made_with.get(name) != value)
        if changed:
            raise SettingError(f"{settings.output}: holds clips made with another {changed[0]}; take a new folder")
        for report in reports:
            if not record._damaged(report.shards):
                record.reports[report.sha256] = report
        return record

    def _damaged(self, entries: list[Entry]) -> bool:
        bad = []
        for entry in entries:
            try:
                open_shard(self.settings.output / entry.name, entry)
            except BadShard as error:
                bad.append(str(error))
        self.remade += bad
        return bool(bad)

    def add(self, report: VideoReport) -> None:
        """Writes the record with one more video, then the manifest. Raises NotWritten."""
        self.reports[report.sha256] = report
        videos = [one.as_json() for one in sorted(self.reports.values(), key=lambda one: one.video)]
        with written_whole(self.settings.output / RECORD_NAME) as file:
            file.write(json.dumps({"settings": clip_settings(self.settings), "videos": videos}, indent=1).encode())
        write_manifest(self.settings.output, [entry for one in self.reports.values() for entry in one.shards])
