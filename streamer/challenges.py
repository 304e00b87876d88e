"""What people were asked to say and do in a clip, kept until they did or until it is too late."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from engines import (
    Challenge,
    ConsentMissing,
    SettingError,
    new_challenge,
    records_directory,
    records_trouble,
    write_whole,
)

GOOD_FOR = timedelta(minutes=30)
MOST_OPEN = 100
OPEN_FILE = "challenges.json"


class Challenges:
    """One file among the installation's records. Each challenge is good once, for half an hour."""

    def __init__(self) -> None:
        self._path = records_directory() / OPEN_FILE

    def make(self, now: datetime) -> Challenge:
        challenge = new_challenge(now.isoformat(timespec="seconds"))
        self._write([*self._open(now)[-MOST_OPEN:], challenge])
        return challenge

    def find(self, code: str, now: datetime) -> Challenge:
        """Raises ConsentMissing for one that was never asked, was used or is too old."""
        for challenge in self._open(now):
            if challenge.code == code.strip().lower():
                return challenge
        raise ConsentMissing(f'challenge "{code}": not asked here in the last half hour; `vividstream consent phrase`')

    def use_up(self, code: str) -> None:
        self._write([one for one in self._read() if one.code != code.strip().lower()])

    def _open(self, now: datetime) -> list[Challenge]:
        return [one for one in self._read() if timedelta(0) <= now - datetime.fromisoformat(one.asked) <= GOOD_FOR]

    def _read(self) -> list[Challenge]:
        try:
            values = json.loads(self._path.read_bytes())
            return [Challenge.read({**one, "turns": tuple(one["turns"])}) for one in values]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, SettingError) as error:
            raise ConsentMissing(f"{self._path}: cannot be read; delete it to begin anew") from error

    def _write(self, challenges: list[Challenge]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            values = [one.model_dump(mode="json") for one in challenges]
            write_whole(self._path, json.dumps(values).encode("ascii"))
        except OSError as error:
            raise ConsentMissing(f"cannot be written: {records_trouble(self._path, error)}") from error
