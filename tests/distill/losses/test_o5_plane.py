"""O5: every way of consistency comes to the flow's map; O6: settings that cannot are refused, and indeed they do not.

By default with a quarter of the reference's work and a fifth of its steps; `-m long` with all of both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from distill.errors import CannotConverge
from distill.losses.guards import check_fixed_grid, rising
from tests.distill.losses.plane import (
    KNOTS,
    SMALL,
    Judge,
    Loss,
    Net,
    Scale,
    continuous,
    curriculum,
    fitted,
    fixed_grid,
    fresh,
    policy,
    trained,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.of()


@pytest.fixture(scope="module")
def start() -> Net:
    return fitted(SMALL, 500)


def stopped(errors: list[float]) -> bool:
    """Whether a run that looks at its error now and then would have ended early."""
    return any(rising(errors[: i + 1]) for i in range(len(errors)))


def test_o5_the_undistilled_start_is_no_consistency_function(judge: Judge, start: Net) -> None:
    assert judge.error(start) > 1.0
    assert judge.energy(start, 1) > 0.3
    assert judge.agreement(start) < 0.9


@pytest.mark.parametrize(
    ("loss", "steps", "error", "energy"), [(curriculum, 1000, 0.2, 0.03), (continuous, 600, 0.4, 0.06)]
)
def test_o5_consistency_in_a_short_run(
    judge: Judge, start: Net, loss: Loss, steps: int, error: float, energy: float
) -> None:
    net = trained(start, loss, steps)
    assert judge.error(net) < error
    assert judge.energy(net, 1) < energy
    assert judge.energy(net, 2) < energy
    assert judge.agreement(net) > 0.93


def test_o5_a_policy_in_a_short_run(judge: Judge) -> None:
    net = trained(fresh(SMALL, 2 * KNOTS), policy, 400)
    assert judge.error(net) < 0.45
    assert judge.energy(net, 1) < 0.06
    assert judge.agreement(net) > 0.93


def test_o6_a_fixed_grid_with_its_own_answers_as_target_diverges_and_is_stopped(judge: Judge, start: Net) -> None:
    """Refused unless it is asked for; if it is, the rising error is seen. The curriculum has the same target."""
    with pytest.raises(CannotConverge, match="stop_gradient=true"):
        check_fixed_grid(400, 50, None)
    check_fixed_grid(400, 50, None, stop_gradient=True)
    errors: list[float] = []
    net = trained(start, fixed_grid, 400, watch=lambda average: errors.append(judge.error(average)))
    assert judge.error(net) > 0.5
    assert stopped(errors)


def test_o6_an_average_that_is_too_slow_learns_nothing_and_is_refused(judge: Judge, start: Net) -> None:
    with pytest.raises(CannotConverge, match="250000"):
        check_fixed_grid(400, 50, 0.999)
    errors: list[float] = []
    net = trained(start, fixed_grid, 400, rate=0.999, watch=lambda average: errors.append(judge.error(average)))
    assert judge.error(net) > 1.0
    assert not stopped(errors), "it stands still, which only the refusal beforehand tells"


def test_o6_the_rule() -> None:
    check_fixed_grid(5000, 50, 0.95)
    check_fixed_grid(500, 10, 0.9)
    check_fixed_grid(1, 10, None, stop_gradient=True)
    with pytest.raises(CannotConverge, match="without a target network"):
        check_fixed_grid(10**6, 10, None)
    for steps, levels, rate in ((4999, 50, 0.95), (5000, 50, 0.99), (5000, 51, 0.95), (499, 10, 0.9)):
        with pytest.raises(CannotConverge, match=r"steps are too few.*Set .*steps=\d+"):
            check_fixed_grid(steps, levels, rate)
    for rate in (0.0, 1.0, -0.1, 1.5):
        with pytest.raises(CannotConverge, match="between 0 and 1"):
            check_fixed_grid(10**6, 50, rate)
    with pytest.raises(CannotConverge, match=r"target_ema=0\.95 or less"):
        check_fixed_grid(5000, 50, 0.99)


def test_o6_what_counts_as_rising() -> None:
    assert not rising([])
    assert not rising([1.0, 0.5, 0.3])
    assert not rising([1.0, 0.5, 0.9, 0.4, 0.9])
    assert not rising([1.0, 0.5, 0.6, 0.6, 0.6]), "no more than noise"
    assert rising([1.0, 0.5, 0.8, 0.9, 1.4])
    assert rising([1.0, 0.5, float("nan"), float("nan"), float("inf")])


@pytest.fixture(scope="module")
def whole_start() -> Net:
    return fitted(Scale(), 2500)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("loss", "rate", "error", "energy"),
    [(curriculum, None, 0.05, 0.003), (continuous, None, 0.05, 0.003), (fixed_grid, 0.95, 0.08, 0.005)],
    ids=["curriculum", "continuous", "fixed grid, average 0.95"],
)
def test_o5_consistency(
    judge: Judge, whole_start: Net, loss: Loss, rate: float | None, error: float, energy: float
) -> None:
    net = trained(whole_start, loss, 5000, rate)
    assert judge.error(net) < error
    assert judge.energy(net, 1) < energy
    assert judge.agreement(net) > 0.98


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_o5_a_policy(judge: Judge) -> None:
    net = trained(fresh(Scale(), 2 * KNOTS), policy, 5000)
    assert judge.error(net) < 0.05
    assert judge.energy(net, 1) < 0.003
    assert judge.agreement(net) > 0.98


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rate", [None, 0.999], ids=["stop-gradient", "average 0.999"])
def test_o6_what_is_refused_fails_o5(judge: Judge, whole_start: Net, rate: float | None) -> None:
    with pytest.raises(CannotConverge):
        check_fixed_grid(5000, 50, rate)
    errors: list[float] = []
    net = trained(whole_start, fixed_grid, 5000, rate, watch=lambda average: errors.append(judge.error(average)))
    assert judge.error(net) > 0.4
    assert stopped(errors) == (rate is None)
