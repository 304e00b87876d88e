"""Settings that cannot teach what they are meant to are refused, with the reason; a run that goes wrong is stopped.

The figures: docs/log.md, "objectives and solvers"; tests/distill/losses/ measures them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from distill.errors import CannotConverge

Objective = Literal["regression", "consistency", "fixed_grid", "continuous", "policy", "progressive", "dmd"]
Sight = Literal["causal", "bidirectional"]

HORIZONS = 5  # of a target network's average, over all of the grid, that a run has to last
WORSE = 1.5  # than its best so far, for an error to count as rising


def check_teacher(objective: Objective, student: Sight, teacher: Sight) -> None:
    """Raises CannotConverge where a causal student is to say, sample by sample, what a bidirectional teacher says."""
    if objective == "dmd" or student == "bidirectional" or teacher == "causal":
        return
    raise CannotConverge(
        f"{objective} with a bidirectional teacher cannot teach a causal student: the teacher's answer for a frame "
        "depends on the noise and conditions of later frames, which the student cannot see, so the best it can do is "
        "their blurred mean. Of frames in sequence that loses 35 to 65 % of what is new in each (AR(1), closed form). "
        "Distil from the causal teacher (`--stage causal` makes one); the bidirectional one is right for dmd, which "
        "compares distributions"
    )


def check_fixed_grid(steps: int, levels: int, target_ema: float | None, *, stop_gradient: bool = False) -> None:
    """Raises CannotConverge for consistency on a fixed grid that would not come to its fixed point.

    steps           optimiser steps of the run
    levels          N
    target_ema      the rate mu of the target network's average; None: the student itself is the target
    stop_gradient   the latter was asked for
    """
    if target_ema is None:
        if not stop_gradient:
            raise CannotConverge(
                f"a fixed grid of {levels} steps without a target network: errors feed themselves from level to level "
                "(median error 1.2 to 1.5 where an average of rate 0.95 gives 0.05). Set target_ema=0.95, take the "
                "curriculum (objective=consistency), or ask for it with stop_gradient=true"
            )
        return
    if not 0 < target_ema < 1:
        raise CannotConverge(f"target_ema is the rate of an average, between 0 and 1, not {target_ema}")
    needed = round(HORIZONS * levels / (1 - target_ema))
    if steps < needed:
        slowest = 1 - HORIZONS * levels / steps
        cure = f"target_ema={slowest:.3g} or less, or " if slowest > 0 else ""
        raise CannotConverge(
            f"{steps} steps are too few for a grid of {levels} with a target average of rate {target_ema}: each level "
            f"learns from the one below through that average, {HORIZONS} x {levels} / (1 - {target_ema}) = {needed} "
            f"steps. Set {cure}steps={needed}, or take the curriculum (objective=consistency)"
        )


def rising(errors: Sequence[float], window: int = 3) -> bool:
    """Whether a validation error (to the teacher's own chain, oldest first) has left its best for good: each of the
    last `window` is at least half as much again as the best before them. A run on a fixed grid stops there."""
    if len(errors) <= window:
        return False
    best = min(errors[:-window])
    return all(not error < WORSE * best for error in errors[-window:])
