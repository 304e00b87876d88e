"""The small parts of objectives: times, distances, neighbours, the critic."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from distill.losses.adversarial import Critic, approximate_r1, of_critic, of_maker
from distill.losses.denoising import Denoising, neighbour_loss
from distill.losses.distances import Distance
from distill.losses.lcm import bounded
from distill.times import (
    NEAREST,
    NOISIEST,
    among,
    angle,
    closer,
    even_times,
    lognormal,
    shifted_times,
    time_at,
    uniform,
)
from engines.schedule import Schedule
from tests.distill.losses.worlds import NOISE_ROWS, UNIT, VELOCITY_ROWS, column

ROWS = torch.arange(1000, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_both_schedules_walk_the_same_circle() -> None:
    phi = angle(VELOCITY_ROWS, ROWS)
    assert torch.allclose(phi.cos(), VELOCITY_ROWS.alpha(ROWS))
    assert torch.allclose(phi.sin(), VELOCITY_ROWS.sigma(ROWS))
    assert bool((phi.diff() > 0).all())
    assert torch.equal(angle(UNIT, phi), phi)


def test_the_row_of_an_angle_is_the_nearest_one() -> None:
    phi = angle(NOISE_ROWS, ROWS)
    assert torch.equal(time_at(NOISE_ROWS, phi), ROWS)
    between = phi[:-1] + 0.4 * phi.diff()
    assert torch.equal(time_at(NOISE_ROWS, between), ROWS[:-1])
    assert torch.equal(time_at(NOISE_ROWS, between + 0.2 * phi.diff()), ROWS[1:])
    ends = column((-1.0, 0.0, 1.55, 4.0)).reshape(2, 2)
    assert time_at(NOISE_ROWS, ends).tolist() == [[0.0, 0.0], [999.0, 999.0]]


def test_grids_begin_with_noise_and_end_clean() -> None:
    fifty = even_times(NOISE_ROWS, 50)
    assert fifty[:3] == (999.0, 979.0, 959.0)
    assert fifty[-3:] == (39.0, 19.0, 0.0)
    assert even_times(UNIT, 2) == (math.pi / 2, math.pi / 4, 0.0)
    shifted = shifted_times(48, 5.0)
    assert len(shifted) == 49
    assert shifted[0] == pytest.approx(math.pi / 2)
    assert shifted[-1] == 0.0
    assert math.tan(shifted[24]) == pytest.approx(5.0)


def test_the_curriculum_halves_its_step_seven_times() -> None:
    """First r = t/2, last 127 t/128, in equal parts of the run."""
    t = column((0.4, 1.5))
    steps = [float((1 - closer(UNIT, t, (i + 0.5) / 7) / t)[0]) for i in range(7)]
    assert steps == pytest.approx([2.0 ** -(i + 1) for i in range(7)])
    assert torch.equal(closer(UNIT, t, 1.0), t * 127 / 128)
    assert torch.equal(closer(UNIT, t, 0.0), t / 2)
    for progress in (0.0, 0.5, 1.0):
        rows = closer(NOISE_ROWS, ROWS[1:], progress)
        assert bool((rows < ROWS[1:]).all())
        assert bool((rows >= 0).all())
    late = angle(NOISE_ROWS, closer(NOISE_ROWS, column((500.0,)), 1.0)) / angle(NOISE_ROWS, column((500.0,)))
    assert float(late) == pytest.approx(127 / 128, abs=2e-3)


def test_times_are_drawn_as_they_say() -> None:
    normal = torch.randn(20_000, generator=generator())
    for schedule in (UNIT, NOISE_ROWS):
        phi = angle(schedule, lognormal(schedule, normal, mean=-0.4, deviation=1.4))
        assert float(phi.tan().log().median()) == pytest.approx(-0.4, abs=0.05)
        spread = phi.tan().log().quantile(0.84) - phi.tan().log().median()
        assert float(spread) == pytest.approx(1.4, abs=0.06)
    trig = lognormal(UNIT, normal * 9)
    assert float(trig.min()) == pytest.approx(NEAREST)
    assert float(trig.max()) == pytest.approx(NOISIEST)
    numbers = torch.rand(20_000, generator=generator())
    rows = uniform(NOISE_ROWS, numbers)
    assert {float(rows.min()), float(rows.max())} == {0.0, 999.0}
    assert torch.equal(rows, rows.round())
    assert float(uniform(UNIT, numbers).mean()) == pytest.approx(math.pi / 4, abs=0.01)
    assert torch.bincount(among(numbers, 4)).tolist()[0] == 0
    assert torch.bincount(among(numbers, 4)).min().item() == 0
    assert bool((torch.bincount(among(numbers, 4))[1:] > 4800).all())
    assert among(torch.tensor([1.0 - 2**-24]), 50).item() == 50


def test_distances_are_of_whole_samples() -> None:
    d = torch.randn(4, 3, 5, 5, generator=generator(), dtype=torch.float64)
    square = d.square().flatten(1).mean(1)
    assert torch.allclose(Distance("squared")(d, 1), square)
    assert torch.allclose(Distance("huber", 0.03)(d, 1), (square + 0.03**2).sqrt() - 0.03)
    assert torch.allclose(
        Distance("huber_per_element", 0.03)(d, 1), ((d.square() + 0.03**2).sqrt() - 0.03).flatten(1).mean(1)
    )
    for kind in ("squared", "huber", "huber_per_element"):
        distance = Distance(kind, 0.03)
        assert distance(d, 2).shape == (4, 3)
        assert distance(d, 4).shape == d.shape
        assert torch.allclose(distance(d, 1, 1.0), distance(d, 1, torch.ones(4, 1, 5, 5)))
        left = torch.zeros(4, 1, 5, 5, dtype=torch.float64)
        left[..., :2] = 2.5
        assert torch.allclose(distance(d, 1, left), distance(torch.cat([d[..., :2]], -1), 1), rtol=1e-9)
        assert float(distance(torch.zeros(2, 3), 1).abs().max()) == 0


def test_a_huber_distance_has_a_gradient_of_one_size() -> None:
    """Small or large, a sample pulls alike: that is why it is robust; and none at zero, which a plain norm has not."""
    for size in (0.0, 0.1, 100.0):
        d = torch.full((1, 16), size, dtype=torch.float64, requires_grad=True)
        gradient = torch.autograd.grad(Distance("huber", 1e-3)(d, 1).sum(), d)[0]
        assert float(gradient.norm() * 4) == pytest.approx(0.0 if size == 0 else 1.0, abs=1e-3)


def test_neighbour_loss_is_the_error_of_differences_in_time_height_and_width() -> None:
    error = torch.randn(2, 3, 4, 5, 6, generator=generator(), dtype=torch.float64)
    t, y, x = error[:, 1:] - error[:, :-1], error[..., 1:, :] - error[..., :-1, :], error[..., 1:] - error[..., :-1]
    by_hand = t.square().mean() + y.square().mean() + x.square().mean()
    assert torch.allclose(neighbour_loss(error), by_hand)
    assert torch.allclose(neighbour_loss(error, torch.ones(2, 3, 1, 5, 6)), by_hand)
    assert float(neighbour_loss(error + 3)) == pytest.approx(float(by_hand)), "an offset is no difference"
    still = neighbour_loss(error[:, :1])
    assert torch.allclose(still, (y[:, :1].square().mean() + x[:, :1].square().mean()))
    left = torch.zeros(2, 3, 1, 5, 6, dtype=torch.float64)
    left[..., :3] = 2
    of_two = torch.tensor([2.0, 2.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    one_row = neighbour_loss(error[:, :1, :, :1], left[:, :1, :, :1])
    assert torch.allclose(one_row, (of_two * x[:, :1, :, :1].square()).mean())


def test_flicker_costs_what_an_offset_does_not() -> None:
    """Two networks with the same error in each frame: one's is steady, the other's changes its sign."""
    x0 = torch.zeros(1, 4, 2, 8, 8, dtype=torch.float64)
    t = torch.full((1, 4), 0.8, dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0]).double().reshape(1, 4, 1, 1, 1)
    noise = torch.zeros_like(x0)

    def loss(error: Tensor, neighbours: float) -> float:
        return float(Denoising(neighbours=neighbours)(lambda x, t: x * 0 + error, UNIT, x0, noise, t))

    steady, flickering = torch.full_like(sign, 0.1), 0.1 * sign
    assert loss(steady, 0.0) == pytest.approx(loss(flickering, 0.0))
    assert loss(steady, 1.0) == pytest.approx(loss(steady, 0.0))
    assert loss(flickering, 1.0) == pytest.approx(loss(flickering, 0.0) * 5)


def test_the_region_counts_as_it_is_weighted() -> None:
    x0 = torch.zeros(1, 1, 1, 4, 4, dtype=torch.float64)
    t = torch.full((1, 1), 0.8, dtype=torch.float64)
    weight = torch.full((1, 1, 1, 4, 4), 0.5, dtype=torch.float64)
    weight[..., :2, :] = 1.5

    def loss(rows: slice) -> float:
        error = torch.zeros_like(x0)
        error[..., rows, :] = 1
        return float(Denoising()(lambda x, t: x * 0 + error, UNIT, x0, x0, t, weight))

    assert loss(slice(0, 2)) == pytest.approx(3 * loss(slice(2, 4)))


@pytest.mark.parametrize("schedule", [UNIT, Schedule("trig"), NOISE_ROWS, VELOCITY_ROWS], ids=str)
def test_min_snr_is_the_same_weight_of_x0_whatever_the_network_predicts(schedule: Schedule) -> None:
    """An error d of x0 costs min(SNR, 5) d^2 (in units of sigma_d)."""
    unit = schedule.sigma_data if schedule.kind == "trig" else 1.0
    for phi, snr in ((0.2, 5.0), (0.8, 1 / math.tan(0.8) ** 2), (1.4, 1 / math.tan(1.4) ** 2)):
        t = time_at(schedule, column((phi,)))
        exactly = angle(schedule, t)
        snr = min(5.0, float(exactly.tan() ** -2))
        x0, noise, off = column((0.3,)), column((-0.7,)), 0.1 * unit
        x_t = schedule.noisy(x0, noise, t)
        wrong = x0 + off
        output = schedule.target(wrong, (x_t - schedule.alpha(t) * wrong) / schedule.sigma(t), t)

        def says(x: Tensor, t: Tensor, output: Tensor = output) -> Tensor:
            return output

        loss = Denoising("min_snr", 5.0)(says, schedule, x0, noise, t)
        assert float(loss) == pytest.approx(snr * 0.01, rel=1e-6)
        assert float(Denoising("x0")(says, schedule, x0, noise, t)) == pytest.approx(0.01, rel=1e-6)


def test_lcms_boundary_is_a_hard_switch() -> None:
    """c_skip = 1, 6.9e-6 and c_out = 0, 1 at rows 0 and 19."""
    zero, one = column((0.0, 0.0)), column((1.0, 1.0))
    rows = column((0.0, 19.0))
    at = bounded(lambda x, t: NOISE_ROWS.target(zero, one, t), NOISE_ROWS, NOISE_ROWS.sigma(rows), rows)
    # x = sigma and noise 1 mean x0 = 0: what is left is c_skip x
    assert float(at[0]) == pytest.approx(float(NOISE_ROWS.sigma(rows)[0]))
    assert float(at[1] / NOISE_ROWS.sigma(rows)[1]) == pytest.approx(6.925e-6, rel=1e-3)
    whole = bounded(lambda x, t: zero, NOISE_ROWS, NOISE_ROWS.alpha(rows), rows)  # x0 = 1, no noise
    assert float(whole[1]) == pytest.approx(1.0, abs=1e-4)


def test_the_hinge_asks_for_a_margin_and_no_more() -> None:
    scores = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert of_critic(scores, torch.full((5,), -1.0)).item() == pytest.approx((3 + 2 + 1) / 5)
    assert of_critic(torch.ones(5), scores).item() == pytest.approx((1 + 2 + 3) / 5)
    assert of_maker(scores).item() == 0
    assert of_critic(torch.tensor([5.0]), torch.tensor([-5.0])).item() == 0


def test_a_critic_sees_frames_and_their_changes() -> None:
    critic = Critic(3, (8, 16)).initialise(0)
    clip = torch.randn(2, 4, 3, 16, 16, generator=generator())
    scores = critic(clip)
    assert scores.shape == (2, 4, 1, 4, 4)
    assert critic(clip[:, :1]).shape == (2, 1, 1, 4, 4)
    assert torch.allclose(critic(clip[:, :1]), scores[:, :1], atol=1e-6), "the first frame is a still's"
    assert not torch.allclose(critic(clip[:, 1:2]), scores[:, 1:2]), "a later one is judged with the one before"
    assert torch.allclose(critic(clip[1:]), scores[1:], atol=1e-6), "rows do not mix"
    later = clip.clone()
    later[:, 3] += 1
    assert torch.allclose(critic(later)[:, :3], scores[:, :3], atol=1e-6)
    again = Critic(3, (8, 16)).initialise(0)
    assert torch.equal(again(clip), scores)
    assert 0.05 < scores.std().item() < 5


def test_a_critic_learns_to_tell_smooth_clips_from_lively_ones() -> None:
    """And its maker's loss then points to more life: the sign is right."""
    torch.set_num_threads(1)
    critic = Critic(2, (8, 16)).initialise(1)
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3, betas=(0.0, 0.99))
    source = generator(1)
    for _ in range(60):
        real = torch.randn(4, 3, 2, 8, 8, generator=source)
        made = real.mean(1, keepdim=True).expand_as(real)
        loss = of_critic(critic(real), critic(made)) + approximate_r1(
            critic, real, torch.randn(real.shape, generator=source)
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    real = torch.randn(16, 3, 2, 8, 8, generator=source)
    made = real.mean(1, keepdim=True).expand_as(real)
    with torch.no_grad():
        assert critic(real).mean() > critic(made).mean() + 0.5
        assert of_maker(critic(real)) < of_maker(critic(made))
