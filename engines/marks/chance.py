"""How likely is it that an unmarked picture fits the mark's signs so well? A bound that nothing was fitted for.

A score is a sum over chips, sign times what the picture holds there, over the root of the sum of squares of what it
holds there. The signs are as good as thrown with a coin, and no unmarked picture was made with them in mind; so,
whatever the picture, and whatever was done to it before the signs were looked at, such a sum exceeds t no more often
than 3.179 times as often as a Gaussian does (two equal chips are all of it: above the root of 2 one in four times):

    V. Bentkus, D. Dzindzalieta, "A tight Gaussian bound for weighted sums of Rademacher random variables"
    (Bernoulli 21, 2015), theorem 1.1.

What was looked at is counted, every size, shift and word, as if all were independent (Boole), so chances are too large
rather than too small.
"""

from __future__ import annotations

import math

from engines.marks.pattern import CHIPS, SYNC_CHIPS
from engines.marks.payload import PAYLOAD_BITS

BOUND_LOG10 = -math.log10(2 * math.erfc(1))  # one over four Gaussian tails at the root of 2
WORDS_LOG10 = PAYLOAD_BITS * math.log10(2)
# To be marked: by known chips, the code or both together; where an uncropped mark lies or anywhere, on the mean of all
# frames or on what stands still, or in turned frames. Each way is given an equal share of the alarm.
WAYS = 3 * (2 * 2 + 1)
ALARM = 1e-6  # false alarms a clip
_OF_KNOWN, _OF_CODE = math.sqrt(SYNC_CHIPS / CHIPS), math.sqrt(1 - SYNC_CHIPS / CHIPS)


def tail_log10(score: float) -> float:
    """Chance that a Gaussian is above `score` standard deviations, as a power of ten."""
    if score < 5:
        return math.log10(0.5 * math.erfc(score / math.sqrt(2)))
    return (-score * score / 2 - math.log(score * math.sqrt(2 * math.pi))) / math.log(10)


def chance_log10(score: float, looks_log10: float) -> float:
    """At most so likely, as a power of ten, is one such score among so many looks. At most 0."""
    return min(tail_log10(score) + BOUND_LOG10 + looks_log10, 0.0)


def found_log10(known: float, looks: float) -> float:
    """Chance of such a score of the known chips at one of all places that are looked at."""
    return chance_log10(known, math.log10(looks * WAYS))


def read_log10(known: float, code: float, looks: float, places: int) -> float:
    """Chance of a word as near as that to what was read, at a place with that score of the known chips.

    code: score of the word's own chips. Either it counts alone, at the `places` that were read: they were chosen by
    the known chips, whose signs say nothing of the others'. Or both count as one sum over all chips, at every place.
    """
    alone = chance_log10(code, math.log10(places * WAYS) + WORDS_LOG10)
    together = _OF_KNOWN * known + _OF_CODE * code
    return min(alone, chance_log10(together, math.log10(looks * WAYS) + WORDS_LOG10))


def needed(looks: float) -> float:
    """The score of the known chips that ALARM asks for."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if found_log10(middle, looks) > math.log10(ALARM) else (low, middle)
    return high
