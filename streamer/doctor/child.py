"""The process in which checks run: `python -m streamer.doctor.child` (see `fence`)."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from typing import Any

from streamer.doctor.checks import CHECKS, Check
from streamer.doctor.finding import Found, fail, quoted
from streamer.doctor.settings import DoctorSettings


def main() -> None:
    """Reads the order, runs its checks, writes what they found."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    logging.disable(logging.CRITICAL)
    order = json.load(sys.stdin)
    config = DoctorSettings.model_validate_json(json.dumps(order["config"]))
    by_name = {check.name: check for check in CHECKS}
    for name in order["checks"]:
        _say(answers, {"begin": name})
        _say(answers, {"found": [one.as_json() for one in looked(by_name[name], config)]})


def looked(check: Check, config: DoctorSettings) -> tuple[Found, ...]:
    """What the check found; where it raises, that it failed, and with what."""
    try:
        return tuple(check.look(config))
    except Exception as error:  # noqa: BLE001 the boundary: a check's own fault is a finding
        traceback.print_exc()
        again = quoted("vividstream", "doctor", "--only", check.name)
        return (fail(f"the check itself failed: {type(error).__name__}: {error}", again),)


def _say(answers: Any, values: dict[str, Any]) -> None:
    answers.write(json.dumps(values, default=str) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
