"""Stage 3: who learns from what, through which step, on which noise; and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.evaluate.on_examples import streamed
from distill.network import Conditions
from distill.stages import rollout
from distill.stages.few_steps import decoded
from distill.stages.rollout import RolloutStage
from distill.stages.settings import RolloutSettings
from distill.streaming import Roll, stream
from distill.training.draws import Draws
from distill.training.learner import Learner
from distill.training.ranks import Ranks
from distill.training.settings import MachineSettings, TrainSettings
from engines import SettingError
from engines.models.swapper import MOST_LOG_GAIN, Swapper
from engines.noise import noise
from tests.distill.stages.students import Memory, descend, given_of, gradients, shown_of, swapper_of
from tests.engines.models.specks import lively

CPU = torch.device("cpu")
ALONE: dict[str, Any] = {"latent": 0.0, "picture": 0.0, "perceptual": 0.0, "adversarial": 0.0}


def stage_of(student: Swapper | None = None, **settings: Any) -> RolloutStage:
    student = student or swapper_of()
    teacher = Swapper(student.config)
    teacher.load_state_dict(student.state_dict())
    return rollout.make(RolloutSettings(**settings), student, teacher, CPU, "teacher")


def test_a_supervised_student_nears_the_truth() -> None:
    """In latents, and in pictures through the decoder."""
    cases: tuple[dict[str, Any], ...] = ({"picture": 0.0, "perceptual": 0.0}, {"latent": 0.0})
    for alone in cases:
        stage = stage_of(adversarial=0.0, **alone)
        losses = descend(stage, shown_of(stage.student, batch=1, frames=2), 8)
        assert losses[-1] < 0.9 * losses[0]


def changing(memory: Memory = "clean_pass") -> Swapper:
    """A student who draws light, and has not learned any."""
    config = swapper_of(memory=memory).config
    lit = config.autoencoder.model_copy(update={"light": 16})
    return lively(config.model_copy(update={"draws": "change", "autoencoder": lit}))


def test_a_change_begins_at_the_proxy_and_is_learned_with_its_decoder() -> None:
    student = changing()
    student.draw_nothing()
    stage = stage_of(student, latent=0.0, adversarial=0.0)
    shown = shown_of(student, batch=1, frames=2)
    shown = replace(shown, truth_BT3SS=(shown.proxy_BT3SS + 1) * 0.7 - 1)  # in another light
    given = given_of(student, shown)
    made = decoded(student, stage.rolled(given, Draws(0, 0, shown.numbers)), shown)
    assert torch.equal(made, shown.proxy_BT3SS)
    before = {name: weight.clone() for name, weight in student.autoencoder.named_parameters()}
    losses = descend(stage, shown, 8)
    assert losses[-1] < 0.9 * losses[0]
    moved = {name for name, weight in student.autoencoder.named_parameters() if not torch.equal(weight, before[name])}
    assert {name.split(".")[0] for name in moved} == {"decoder"}
    assert {"decoder.gain.weight", "decoder.conv_out.weight"} <= moved


def test_light_multiplies_the_proxy_and_leaves_black_alone() -> None:
    student, proxy = changing(), torch.rand(1, 3, 8, 8) * 2 - 1
    gain = torch.full_like(proxy, 0.4)
    lit = student.drawn(gain, proxy)
    ratio = (lit + 1) / (proxy + 1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1.47813), atol=1e-3, rtol=0)  # exp(1.5 tanh(0.4 / 1.5))
    black = torch.full_like(proxy, -1.0)
    assert torch.equal(student.drawn(gain, black), black)
    strongest = student.drawn(gain * 100, proxy)
    assert ((strongest + 1) / (proxy + 1)).max() < math.exp(MOST_LOG_GAIN) + 1e-3


@pytest.mark.parametrize("weight", ["latent", "matching"])
def test_a_change_has_no_latents_to_compare(weight: str) -> None:
    settings = {"latent": 0.0, "adversarial": 0.0} | {weight: 1.0}
    with pytest.raises(SettingError, match=f"set stage.{weight}=0"):
        stage_of(changing(), **settings)


def test_what_is_changed_in_training_is_what_a_stream_shows() -> None:
    student = changing("memory_encoder").eval()
    shown = shown_of(student, batch=1, frames=3)
    given, latent_px = given_of(student, shown), student.config.latent_px
    drawn = torch.from_numpy(noise(0, 0, (1, 1, student.config.denoiser.latent_channels, latent_px, latent_px)))
    with torch.no_grad():
        made = decoded(student, stream(student, given, drawn[:, None].expand(-1, 3, -1, -1, -1, -1)), shown)
    assert (made - shown.proxy_BT3SS).abs().max() > 0.05
    torch.testing.assert_close(streamed(student)(shown), made.clamp(-1, 1), atol=1e-4, rtol=1e-4)


def test_a_still_is_a_clip_of_one_frame() -> None:
    stage = stage_of()
    shown = shown_of(stage.student, "image")
    parts = stage.loss("student", shown, Draws(0, 0, shown.numbers), 0.0).parts
    assert set(parts) == {"latent", "picture", "perceptual", "adversarial"}  # nothing changes in time
    assert not stage.watch(shown, Draws(0, 0, shown.numbers)).clips


def test_every_exit_step_gets_gradient_and_all_frames_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    student = swapper_of(steps=3, memory="last_step")
    stage = stage_of(student, adversarial=0.0, picture=0.0, perceptual=0.0)
    shown = shown_of(student, batch=1, frames=2)
    exits: dict[int | None, list[float]] = {}

    def listening(swapper: Swapper, given: Conditions, noise: Tensor, roll: Roll) -> Tensor:
        looked: list[Tensor] = []
        hook = student.denoiser.register_forward_pre_hook(lambda _, given: looked.append(given[1]))
        made = stream(swapper, given, noise, roll)
        hook.remove()
        exits[roll.exit] = [float(time) for times in looked for time in times]
        return made

    monkeypatch.setattr(rollout, "stream", listening)
    for seed in range(9):
        found = gradients(stage, shown, seed=seed)
        assert found["denoiser.conv_in.weight"].abs().max() > 0
    own = list(student.config.schedule.times)
    assert exits == {exit_: pytest.approx(2 * own[: exit_ + 1]) for exit_ in range(3)}


def test_noise_is_the_same_in_all_frames_as_it_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    for law, same in (("same", True), ("per_frame", False)):
        stage = stage_of(noise=law, adversarial=0.0)
        shown = shown_of(stage.student)
        heard: list[Tensor] = []

        def listening(_: Swapper, given: Conditions, noise: Tensor, __: Roll, heard: list[Tensor] = heard) -> Tensor:
            heard.append(noise)
            return given.x0_BTChw

        monkeypatch.setattr(rollout, "stream", listening)
        stage.rolled(given_of(stage.student, shown), Draws(0, 0, shown.numbers))
        noise = heard[0]
        assert torch.equal(noise[:, 0], noise[:, 1]) == same
        assert not torch.equal(noise[0], noise[1])


def test_critic_and_student_learn_from_each_other_alone() -> None:
    stage = stage_of(latent=0.0, picture=0.0, perceptual=0.0, adversarial=1.0)
    shown = shown_of(stage.student)
    assert stage.plan(0) == ("critic", "student")
    found = gradients(stage, shown, "critic")
    assert all(value.abs().max() > 0 for name, value in found.items() if name != "score.bias")  # it is in both scores
    assert all(weight.grad is None for weight in stage.players["student"].parameters())
    learner = Learner(stage, TrainSettings(), MachineSettings(), Ranks())
    learner.gradients("student", shown, learner.draws(0, shown.numbers), 0.0)
    assert stage.players["student"].get_parameter("denoiser.conv_out.weight").grad is not None
    before = [weight.clone() for weight in stage.players["critic"].parameters()]
    optimiser = torch.optim.Adam(stage.players["critic"].parameters(), 1e-2)
    hinges = []
    for _ in range(4):
        optimiser.zero_grad()
        terms = stage.loss("critic", shown, Draws(0, 0, shown.numbers), 0.0)
        torch.autograd.backward(terms.total)
        optimiser.step()
        hinges.append(float(terms.parts["hinge"]))
    assert hinges[-1] < hinges[0]
    assert any(not torch.equal(a, b) for a, b in zip(before, stage.players["critic"].parameters(), strict=True))


def test_the_student_moves_once_for_five_of_the_fake_network() -> None:
    stage = stage_of(matching=1.0, fake_updates=5)
    moves = [player for step in range(20) for player in stage.plan(step)]
    assert {name: moves.count(name) for name in stage.players} == {"student": 4, "critic": 20, "fake": 20}
    assert stage_of().plan(0) == stage_of().plan(1) == ("critic", "student")


def test_matching_pushes_only_where_fake_and_real_differ() -> None:
    """The fake network begins as the real one: no push. Then it learns what the student makes, and pushes away."""
    stage = stage_of(matching=1.0, fake_updates=1, **ALONE)
    shown = shown_of(stage.student)
    at_first = max(float(value.abs().max()) for value in gradients(stage, shown).values())
    real = {name: value.clone() for name, value in stage.frozen["teacher"].state_dict().items()}
    optimiser, losses = torch.optim.Adam(stage.players["fake"].parameters(), 3e-3), []
    for _ in range(6):
        optimiser.zero_grad()
        loss = stage.loss("fake", shown, Draws(0, 0, shown.numbers), 0.0).total
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, real[name]) for name, value in stage.frozen["teacher"].state_dict().items())
    later = float(gradients(stage, shown)["denoiser.conv_out.weight"].abs().max())
    assert at_first < 1e-4 * later


def test_the_matched_teacher_sees_the_whole_window() -> None:
    """A change of the last frame changes what it says of the first."""
    stage = stage_of(matching=1.0, **ALONE)
    shown = shown_of(stage.student)
    given = given_of(stage.student, shown)
    assert stage.teacher is not None
    look, t = stage._bidirectional(stage.teacher.denoiser, given), torch.full((2, 3), 0.8)
    x = given.x0_BTChw.clone()
    with torch.no_grad():
        before = look(x, t)[:, 0]
        x[:, -1] += 1
        assert (look(x, t)[:, 0] - before).abs().max() > 1e-4


def test_the_matched_teacher_has_its_own_tokens() -> None:
    """Causal adaptation has trained the student's face encoder on."""
    student, teacher = swapper_of(), swapper_of()
    with torch.no_grad():
        for weight in student.face_encoder.parameters():
            weight.mul_(1.1)
    stage = rollout.make(RolloutSettings(matching=1.0), student, teacher, CPU, "teacher")
    shown = shown_of(student)
    seen = stage._with_the_teachers_tokens(shown, given_of(student, shown))
    assert torch.equal(seen.tokens_BTLD, given_of(teacher, shown).tokens_BTLD)
    assert not torch.equal(seen.tokens_BTLD, given_of(student, shown).tokens_BTLD)


@pytest.mark.parametrize("learns", [True, False])
def test_the_face_encoder_learns_if_it_may(learns: bool) -> None:
    stage = stage_of(face_encoder=learns, adversarial=0)
    moved = {name for name, gradient in gradients(stage, shown_of(stage.student)).items() if gradient.any()}
    assert any(name.startswith("face_encoder") for name in moved) == learns
    assert any(name.startswith("denoiser") for name in moved)
    assert ("face_encoder" in stage.frozen) != learns, "what is frozen is watched"


def test_what_cannot_be_is_refused() -> None:
    student, teacher = swapper_of(), swapper_of()
    for given, stage in ((None, ""), (teacher, "causal")):
        with pytest.raises(SettingError, match="of the stage teacher"):
            rollout.make(RolloutSettings(matching=1.0), student, given, CPU, stage)
    with pytest.raises(SettingError, match="nothing would be learned"):
        stage_of(student, **ALONE)
    with torch.no_grad():
        next(teacher.autoencoder.parameters()).add_(1e-3)
    with pytest.raises(SettingError, match="autoencoder"):
        rollout.make(RolloutSettings(matching=1.0), student, teacher, CPU, "teacher")


def test_it_goes_on_as_it_stopped() -> None:
    """With critic and fake network; to the bit."""

    def learner() -> tuple[Learner, RolloutStage]:
        stage = stage_of(matching=0.5, fake_updates=1)
        return Learner(stage, TrainSettings(learning_rate=1e-3, warm_up_steps=0), MachineSettings(), Ranks()), stage

    def go(one: Learner, stage: RolloutStage, step: int) -> None:
        for player in stage.plan(step):
            one.move(player, shown, one.draws(step, shown.numbers), 0.0)
        one.average()

    whole, of_whole = learner()
    shown = shown_of(of_whole.student, batch=1, frames=2)
    go(whole, of_whole, 0)
    kept = {name: value.clone() for name, value in whole.tensors().items()}
    go(whole, of_whole, 1)
    again, of_again = learner()
    again.load(kept)
    go(again, of_again, 1)
    one, other = whole.tensors(), again.tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
