"""Tests in turns: who must be alone is, and gets there though others keep coming."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from tests.turns import turn

OTHERS, FOR_S = 3, 0.6


def test_alone_is_alone_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    """Locks of one process's several openings exclude each other as those of several processes do."""
    running: Counter[str] = Counter()
    done: Counter[str] = Counter()
    together: list[Counter[str]] = []
    counting, end_s = threading.Lock(), time.monotonic() + FOR_S

    def tests(kind: str) -> None:
        while time.monotonic() < end_s:
            with turn(tmp_path, kind == "alone"):
                with counting:
                    running[kind] += 1
                    together.append(+running)
                time.sleep(0.01)
                with counting:
                    running[kind] -= 1
                    done[kind] += 1

    threads = [threading.Thread(target=tests, args=(kind,)) for kind in ["alone", *["other"] * OTHERS]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [seen for seen in together if seen["alone"] and sum(seen.values()) > 1]
    assert max(seen["other"] for seen in together) > 1, "others run at the same time"
    assert done["alone"] >= 5, f"{done} in {FOR_S} s"
