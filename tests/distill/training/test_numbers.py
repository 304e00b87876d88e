"""The loop's arithmetic: precision, averages, accumulation, rates, and what it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.examples.types import Shown
from distill.training import checkpoint
from distill.training.draws import Draws
from distill.training.ema import Average
from distill.training.learner import Learner, parts_of
from distill.training.loop import train
from distill.training.optimiser import optimiser, set_rate
from distill.training.pace import Due, Pace, learning_rate
from distill.training.ranks import Ranks
from distill.training.settings import TrainSettings
from distill.training.stage import Terms
from engines import SettingError
from tests.distill.training.made_up import QUIET, Counted, MadeUp, Watched, settings

SLOW = {"learning_rate": 2e-6, "schedule": "constant", "warm_up_steps": 0, "averages": (0.99, 0.999)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Wandering:
    """Weights about 0.02 large, in bf16's reach and not in reach of bf16's steps; the loss is a steady slope."""

    name = "wandering"
    frozen: Mapping[str, nn.Module] = {}

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(16, 16, bias=False)
        nn.init.uniform_(self.net.weight, 0.016, 0.03)
        self.players: Mapping[str, nn.Module] = {"net": self.net}

    def plan(self, step: int) -> Sequence[str]:
        return ("net",)

    def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
        out = self.net(shown.identity_BI)
        assert out.dtype == torch.bfloat16  # autocast
        return Terms(out.float().mean())

    def after_step(self, step: int, progress: float) -> None:
        pass

    def extra_state(self) -> Mapping[str, Tensor]:
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        pass


def fed() -> Shown:
    shown = Counted(1, size_px=8).batch(0)
    ones = torch.ones(1, 16)
    return Shown(
        shown.kind, shown.target_BT3SS, shown.masked_BT3SS, shown.proxy_BT3SS, shown.truth_BT3SS, shown.mask_BT1SS,
        shown.alpha_BT1SS, shown.attribute_BT3AA, shown.texture_B3AA, ones, shown.numbers,
    )  # fmt: skip


def test_o12_a_thousand_steps_of_two_millionths_move_weights_and_averages() -> None:
    """With the rate that distillation ends with; bf16 weights would stand still, and so would a bf16 average."""
    stage = Wandering()
    learner = Learner(stage, settings(precision="bfloat16", steps=1000, **SLOW), QUIET, Ranks())
    first = stage.net.weight.detach().clone()
    low = nn.Parameter(first.bfloat16())
    other = optimiser("net", nn.ParameterList([low]), settings(**SLOW))
    low_average = first.bfloat16()
    shown = fed()
    for step in range(1000):
        learner.move("net", shown, learner.draws(step, shown.numbers), step / 1000)
        learner.average()
        low.grad = torch.ones_like(low)
        set_rate(other, 2e-6)
        other.step()
        low_average.lerp_(stage.net.weight.detach().bfloat16(), 0.01)

    moved = first - stage.net.weight.detach()
    torch.testing.assert_close(moved, torch.full_like(moved, 2e-3), rtol=0.01, atol=0)
    assert stage.net.weight.dtype == torch.float32
    horizons = {decay: (first - one.state()["weight"]).mean().item() for decay, one in learner.averages.items()}
    assert horizons[0.99] == pytest.approx(2e-6 * (1000 - 100), rel=0.02)  # an average lags by 1 / (1 - decay) steps
    assert 0.3 * 2e-3 < horizons[0.999] < horizons[0.99]
    assert all(one.state()["weight"].dtype == torch.float32 for one in learner.averages.values())
    assert torch.equal(low.detach(), first.bfloat16())  # why the masters are float32
    assert (low_average.float() - first.bfloat16().float()).abs().max() < 2e-4  # one unit in the last place


def test_a_run_by_the_clock_goes_on_from_the_time_it_has_spent_and_can_be_gone_through_again(tmp_path: Path) -> None:
    given = settings(minutes=0.5, steps=1)

    def clock() -> float:
        return next(ticks) * 0.1

    ticks = count()
    machine = QUIET.model_copy(update={"save_steps": 5})
    first = train(MadeUp(), Counted(fails_at=None), given, tmp_path / "a", machine=machine, clock=clock, quiet=True)
    assert first.finished
    lines = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    progress = [line["progress"] for line in lines]
    assert progress == sorted(progress)
    assert 0 <= progress[0] < 0.05 < 0.95 < progress[-1] < 1
    assert lines[-1]["net/rate"] < 0.1 * max(line["net/rate"] for line in lines)  # the schedule ends with the time

    again = QUIET.model_copy(update={"replay": tmp_path / "a" / "log.jsonl"})
    train(MadeUp(), Counted(), given, tmp_path / "b", machine=again, quiet=True)
    one, _ = checkpoint.newest(tmp_path / "a" / "checkpoints")
    two, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert one is not None
    assert two is not None
    assert one.place.step == two.place.step == len(lines)
    ours, theirs = one.tensors(), two.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_sitting_goes_on_with_the_time_that_earlier_ones_left() -> None:
    now_s = 100.0
    pace = Pace.of(settings(minutes=10), lambda: now_s)
    pace.start(spent_s=240.0)
    assert pace.progress(7) == pytest.approx(0.4)
    now_s = 160.0
    assert pace.progress(8) == pytest.approx(0.5)
    now_s = 1000.0
    assert pace.progress(9) == 1.0


def test_a_log_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("not JSON\n")
    with pytest.raises(SettingError, match="is no log whose progress"):
        Pace.of(settings(), time.monotonic, tmp_path / "log.jsonl")


def test_due_by_steps_and_by_minutes() -> None:
    now_s = 0.0
    due = Due(0, None, 2.0, lambda: now_s)
    assert not due.now(1)
    now_s = 121.0
    assert due.now(2)
    assert not due.now(3)
    assert [Due(3, 3, 2.0, lambda: now_s).now(step) for step in (3, 4, 5, 6, 9)] == [False, False, False, True, True]


def test_the_rate_rises_then_falls_by_half_a_cosine() -> None:
    given = settings(learning_rate=1.0, warm_up_steps=3)
    assert [learning_rate(given, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate(given, 9, 0.5) == pytest.approx(0.5)
    assert learning_rate(given, 9, 1.0) == pytest.approx(0.0)
    assert learning_rate(settings(schedule="constant", learning_rate=1.0), 9, 1.0) == 1.0


@pytest.mark.parametrize("parts", [2, 3, 9])
def test_accumulated_gradients_are_the_whole_batchs(parts: int) -> None:
    shown = Counted(5).batch(1)
    assert sum(len(part) for part in parts_of(shown, parts)) == 5
    found = []
    for accumulate in (1, parts):
        learner = Learner(MadeUp(), settings(clip=1e9, accumulate=accumulate), QUIET, Ranks())
        values = learner.gradients("net", shown, learner.draws(1, shown.numbers), 0.5)
        found.append((values, [weight.grad for weight in learner.weights["net"]]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_factors_turn_parts_down_and_off() -> None:
    given = settings(factors={"net": 0.5, "net.first": 0.1, "net.last": 0.0}, warm_up_steps=0, weight_decay=0.01)
    stage = MadeUp()
    before = {name: tensor.clone() for name, tensor in stage.net.state_dict().items()}
    learner = Learner(stage, given, QUIET, Ranks())
    shown = Counted().batch(1)
    learner.move("net", shown, learner.draws(0, shown.numbers), 0.0)
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in stage.net.state_dict().items()}
    assert moved["last.weight"] == moved["unit"] == 0
    assert moved["first.weight"] == pytest.approx(1e-4, rel=0.02)  # Adam's first step is the rate
    assert moved["norm.weight"] == pytest.approx(5e-4, rel=0.02)
    decays = {group["weight_decay"] for group in learner.optimisers["net"].param_groups if group["factor"] == 0.1}
    assert decays == {0.01, 0.0}  # kernels do, biases do not


def test_every_move_in_a_step_draws_anew_and_other_players_keep_still() -> None:
    """As adversarial stages do: a critic twice, then the one that comes out."""

    class Two(MadeUp):
        def __init__(self) -> None:
            super().__init__()
            self.critic = nn.Conv2d(3, 1, 3)
            self.players = {"net": self.net, "critic": self.critic}
            self.drawn: list[tuple[str, float]] = []

        def plan(self, step: int) -> Sequence[str]:
            return ("critic", "critic", "net")

        def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
            self.drawn.append((player, float(draws.uniform("t", 1)[0, 0])))
            assert self.critic.weight.requires_grad == (player == "critic")
            terms = super().loss("net", shown, draws, progress)
            return Terms(terms.total + self.critic(shown.truth_BT3SS[:, 0]).mean(), terms.parts)

    stage = Two()
    learner = Learner(stage, settings(), QUIET, Ranks())
    shown = Counted().batch(0)
    before = stage.net.first.weight.detach().clone()
    plan = stage.plan(0)
    for turn, player in enumerate(plan[:2]):
        learner.move(player, shown, learner.draws(0, shown.numbers, plan[:turn].count(player)), 0.0)
    assert torch.equal(stage.net.first.weight, before)
    assert all(weight.grad is None for weight in stage.net.parameters())
    learner.move("net", shown, learner.draws(0, shown.numbers, 0), 0.0)
    assert not torch.equal(stage.net.first.weight, before)
    names, values = zip(*stage.drawn, strict=True)
    assert names == ("critic", "critic", "net")
    assert values[0] == values[2] != values[1]
    assert list(learner.averages) == [0.999]


def test_an_average_lends_its_weights_and_gives_the_own_ones_back() -> None:
    stage = MadeUp()
    average = Average(stage.net, 0.9, warm_up=False)
    first = stage.net.first.weight.detach().clone()
    with torch.no_grad():
        stage.net.first.weight += 1
    average.update()
    own = stage.net.first.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(stage.net.first.weight.detach(), first + 0.1)
    assert torch.equal(stage.net.first.weight, own)


def test_looks_are_at_the_same_with_the_same_noise(tmp_path: Path) -> None:
    machine = QUIET.model_copy(update={"watch_steps": 10, "best": "image-error", "save_steps": 10})
    outcome = train(Watched(), Counted(), settings(), tmp_path, machine=machine, quiet=True)
    assert set(outcome.metrics) == {"image-error", "video-error"}
    pictures = sorted(path.name for path in (tmp_path / "watch" / "step-000000010").iterdir())
    assert pictures == ["image-1-step.png", "video-1-step.png", "video-roll-out.webp"]
    best, _ = checkpoint.newest(tmp_path / "checkpoints", "best-")
    assert best is not None
    assert best.metrics["image-error"] == outcome.metrics["image-error"]
    plain = train(MadeUp(), Counted(), settings(), tmp_path / "plain", machine=QUIET, quiet=True)
    watched, _ = checkpoint.newest(tmp_path / "checkpoints")
    unwatched, _ = checkpoint.newest(tmp_path / "plain" / "checkpoints")
    assert watched is not None
    assert unwatched is not None
    assert plain.finished
    ours, theirs = watched.tensors(), unwatched.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # looking changes nothing
    unknown = machine.model_copy(update={"best": "fvd"})
    with pytest.raises(SettingError, match='measures no "fvd"; it has image-error, video-error'):
        train(Watched(), Counted(), settings(), tmp_path / "other", machine=unknown, quiet=True)


def test_a_step_of_the_loop_costs_little(tmp_path: Path) -> None:
    """Processor time of everything but data, loss and backward pass: a small network is not held up."""
    shown = Counted(1, size_px=8).batch(0)

    class Once(Counted):
        def batch(self, step: int) -> Shown:
            return shown

    class Free(Wandering):
        def loss(self, player: str, shown: Shown, draws: Draws, progress: float) -> Terms:
            return Terms(self.net.weight.sum())

    start_s = time.process_time()
    train(Free(), Once(), TrainSettings(steps=300), tmp_path, machine=QUIET, quiet=True)
    each_s = (time.process_time() - start_s) / 300
    assert each_s < 3e-3
