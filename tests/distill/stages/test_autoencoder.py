"""Learning pixels to latents and back: what is asked, what moves, and that what is trained is what is served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.examples.types import Shown
from distill.stages.autoencoder import AutoencoderStage, asked_of, divergence, make, moments, spread_of
from distill.stages.settings import AutoencoderSettings
from distill.training.draws import Draws
from distill.training.stage import Stage
from distill.training.watch import Watch
from engines.models.autoencoder import Autoencoder, build
from engines.models.config import AutoencoderConfig, ScheduleConfig
from engines.window import recent_order, recent_slot
from tests.distill.made_up import synthetic_batch
from tests.distill.stages.learning import small

SIZE_PX, FRAMES, SPREAD = 32, 4, 0.5
TINY = AutoencoderConfig(
    kind="tiny", widths=(16, 32), blocks=1, temporal_encoder=True, temporal_decoder=True, latent_channels=8, scale=0.7
)
KL = AutoencoderConfig(
    kind="kl",
    widths=(32, 32, 32, 32),
    blocks=1,
    temporal_encoder=True,
    temporal_decoder=True,
    latent_channels=8,
    scale=0.2,
)
PLAIN = AutoencoderSettings(proxies=0, masked=0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def built(config: AutoencoderConfig, seed: int = 0) -> Autoencoder:
    model = build(config)
    model.initialise(torch.Generator().manual_seed(seed))
    return model


def batch(kind: str = "video", seed: int = 0, count: int = 3) -> Shown:
    return synthetic_batch("video" if kind == "video" else "image", count, FRAMES, SIZE_PX, seed=seed)


def learn(stage: AutoencoderStage, batches: Sequence[Shown], steps: int, rate: float = 4e-3) -> list[float]:
    """The plainest loop: every player in turn; gives what the first one's pictures were, in dB."""
    optimisers = {name: torch.optim.AdamW(one.parameters(), rate) for name, one in stage.players.items()}
    heard = []
    for step in range(steps):
        shown = batches[step % len(batches)]
        for player in stage.plan(step):
            for optimiser in optimisers.values():
                optimiser.zero_grad()
            terms = stage.loss(player, shown, Draws(0, step, shown.numbers), step / steps)
            terms.total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(stage.players[player].parameters(), 1.0)
            optimisers[player].step()
            if player == "autoencoder":
                heard.append(float(terms.parts["psnr"]))
    return heard


def gradients(stage: AutoencoderStage, player: str, shown: Shown, progress: float = 1.0) -> dict[str, float]:
    """The length of every parameter's gradient, with the player's name before it."""
    for one in stage.players.values():
        one.zero_grad()
    stage.loss(player, shown, Draws(0, 0, shown.numbers), progress).total.backward()  # type: ignore[no-untyped-call]
    return {
        f"{name}.{part}": 0.0 if weight.grad is None else float(weight.grad.norm())
        for name, one in stage.players.items()
        for part, weight in one.named_parameters()
    }


def streamed(model: Autoencoder, x_BTCHW: Tensor, encoder: bool) -> Tensor:
    """Frame by frame, as a runtime keeps the memories."""
    memories = model.memories(x_BTCHW.shape[0], SIZE_PX, pictures=1)
    memories = memories[: model.encoder_memories] if encoder else memories[model.encoder_memories :]
    step = model.encode_frame if encoder else model.decode_frame
    past = [torch.zeros(memory.kept.shape) for memory in memories]
    results = []
    for t in range(x_BTCHW.shape[1]):
        order_B2 = torch.from_numpy(recent_order(t, 2)).expand(x_BTCHW.shape[0], 2)
        result, new = step(x_BTCHW[:, t], past, order_B2)
        for kept, slice_, memory in zip(past, new, memories, strict=True):
            kept.select(memory.axis, recent_slot(t, 2)).copy_(slice_)
        results.append(result)
    return torch.stack(results, 1)


@pytest.fixture(scope="module")
def learned() -> tuple[AutoencoderStage, Autoencoder, list[float]]:
    """A tiny one after 160 steps on stills and clips by turns, from latents four times as wide as they are to be."""
    torch.set_num_threads(1)
    model = built(TINY)
    with torch.no_grad():
        model.get_parameter("to_mean.weight").mul_(4)
    stage = AutoencoderStage(AutoencoderSettings(), model, SPREAD)
    heard = learn(stage, [batch(("image", "video")[n % 2], n, 8 - 5 * (n % 2)) for n in range(20)], 160)
    return stage, model.eval().requires_grad_(False), heard


def test_it_learns_truth_proxy_and_masked_picture(learned: tuple[AutoencoderStage, Autoencoder, list[float]]) -> None:
    _, model, heard = learned
    assert sum(heard[-9:]) / 9 > heard[0] + 10, heard
    fresh = batch("video", 9)
    for pictures in (fresh.truth_BT3SS, fresh.proxy_BT3SS, fresh.masked_BT3SS):
        made = model.decode(model.encode(pictures, causal=True), causal=True)
        assert float((made - pictures).square().mean().sqrt()) < 0.65 * float(pictures.std())


def test_latents_end_where_the_schedule_wants_them(learned: tuple[AutoencoderStage, Autoencoder, list[float]]) -> None:
    _, model, _ = learned
    shown = batch("image", 11, 16)
    latents = model.encode(shown.truth_BT3SS, still=True)
    deviation = latents.transpose(1, 2).transpose(0, 1).flatten(1).std(1)
    assert float(latents.std()) == pytest.approx(SPREAD, rel=0.25)
    assert bool((deviation > 0.4 * SPREAD).all()), deviation
    assert float(latents.mean().abs()) < 0.3 * SPREAD


def test_what_was_trained_on_clips_is_what_a_stream_computes(
    learned: tuple[AutoencoderStage, Autoencoder, list[float]],
) -> None:
    _, model, _ = learned
    pictures = batch("video", 12).truth_BT3SS
    latents = model.encode(pictures, causal=True)
    made = model.decode(latents, causal=True)
    assert float((streamed(model, pictures, True) - latents).abs().max()) < 1e-5
    assert float((streamed(model, latents, False) - made).abs().max()) < 1e-5
    assert float((model.decode(latents, still=True) - made).abs().max()) > 1e-3  # the temporal branch does something


@pytest.mark.parametrize("config", [TINY, KL], ids=["tiny", "kl"])
def test_stills_leave_the_temporal_branch_alone_and_clips_do_not(config: AutoencoderConfig) -> None:
    stage = AutoencoderStage(PLAIN, built(config), SPREAD)
    temporal = {"tiny": (".time.",), "kl": (".temporal.", ".time_mixer.", "time_conv_out")}[config.kind]
    for kind in ("image", "video"):
        for name, length in gradients(stage, "autoencoder", batch(kind)).items():
            if any(word in name for word in temporal):
                assert (length > 0) == (kind == "video"), name
            else:
                assert length > 0 or name.endswith("to_k.bias"), name  # a softmax does not see a constant


def test_clips_pass_causally() -> None:
    """A later frame changes nothing in the earlier ones' latents, and they are decoded in the causal form."""
    model = built(TINY)
    stage = AutoencoderStage(replaced(PLAIN, latent_noise=0), model, SPREAD)
    given = spied(model)
    shown = batch()
    changed = shown.truth_BT3SS.clone()
    changed[:, -1] += 0.5
    for one in (shown, replace(shown, truth_BT3SS=changed)):
        stage.loss("autoencoder", one, Draws(0, 0, one.numbers), 0.0)
    before, after = given
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def spied(model: Autoencoder) -> list[Tensor]:
    """The latents that the model is given to decode from now on."""
    given: list[Tensor] = []
    decode = model.decode

    def spy(latents: Tensor, still: bool = False, causal: bool = False) -> Tensor:
        assert still or causal
        given.append(latents)
        return decode(latents, still=still, causal=causal)

    model.decode = spy  # type: ignore[method-assign]
    return given


def replaced(settings: AutoencoderSettings, **changes: object) -> AutoencoderSettings:
    return AutoencoderSettings.model_validate(settings.model_dump() | changes)


def test_the_lot_takes_the_pictures_in_their_shares() -> None:
    shown = synthetic_batch("image", 4, size_px=16)
    settings = AutoencoderSettings(proxies=0.3, masked=0.2)
    kinds = {"truth": shown.truth_BT3SS, "proxy": shown.proxy_BT3SS, "masked": shown.masked_BT3SS}
    counts, mixed = dict.fromkeys(kinds, 0), 0
    for step in range(100):
        asked = asked_of(shown, Draws(0, step, shown.numbers), settings)
        drawn = set()
        for row in range(4):
            (kind,) = (name for name, one in kinds.items() if torch.equal(asked.pictures[row], one[row]))
            counts[kind] += 1
            drawn.add(kind)
            inside = asked.weight[row][shown.mask_BT1SS[row] == 1].mean() / asked.weight[row, 0, 0, 0, 0]
            assert float(inside) == pytest.approx(1, abs=1e-5) if kind == "masked" else float(inside) > 2.5
        mixed += len(drawn) > 1
    assert mixed > 50  # each row draws for itself
    assert [counts[kind] / 400 for kind in ("truth", "proxy", "masked")] == pytest.approx([0.5, 0.3, 0.2], abs=0.07)


def test_the_same_draws_give_the_same_loss_and_others_do_not() -> None:
    stage, shown = AutoencoderStage(PLAIN, built(TINY), SPREAD), batch()
    losses = [float(stage.loss("autoencoder", shown, Draws(0, n, shown.numbers), 0).total.detach()) for n in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_noise_on_latents_is_measured_in_their_spread() -> None:
    """The decoder is given latents that are off by the posterior's width and by up to `latent_noise`."""
    shown = batch("image", count=16)
    for scale, spread in ((0.7, 0.5), (1.4, 2.0)):
        model = built(TINY.model_copy(update={"scale": scale}))
        given = spied(model)
        stage = AutoencoderStage(replaced(PLAIN, latent_noise=0.4), model, spread)
        stage.loss("autoencoder", shown, Draws(0, 0, shown.numbers), 0)
        off = (given[0] - model.encode(shown.truth_BT3SS, still=True)).detach().flatten(1).std(1)
        assert 0.05 * spread < float(off.mean()) < 0.4 * spread
        assert float(off.max()) < 0.45 * spread + 0.1 * scale
        assert float(off.max() / off.min()) > 1.5  # another level in each row


def test_the_critic_learns_from_the_start_and_counts_later() -> None:
    stage = AutoencoderStage(replaced(PLAIN, adversarial=0.1), built(TINY), SPREAD)
    shown = batch()
    assert tuple(stage.plan(0)) == ("autoencoder", "critic")
    of_critic = gradients(stage, "critic", shown)
    del of_critic["critic.score.bias"]  # it shifts both sides alike
    assert all((length > 0) == name.startswith("critic.") for name, length in of_critic.items()), of_critic
    early, late = gradients(stage, "autoencoder", shown, 0.2), gradients(stage, "autoencoder", shown, 0.9)
    assert early["autoencoder.decoder.conv_out.weight"] != late["autoencoder.decoder.conv_out.weight"]
    terms = stage.loss("autoencoder", shown, Draws(0, 0, shown.numbers), 0.2)
    assert float(terms.parts["adversarial"]) == 0
    assert "critic" not in AutoencoderStage(PLAIN, built(TINY), SPREAD).players


def test_the_small_one_takes_over_the_large_ones_latents() -> None:
    large = built(TINY.model_copy(update={"scale": 0.45}), 5)
    assert isinstance(large, Autoencoder)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    stage = AutoencoderStage(PLAIN, built(TINY), SPREAD, large)

    def apart(shown: Shown) -> tuple[float, float]:
        wanted = large.encode(shown.truth_BT3SS, still=True)
        small = stage.players["autoencoder"]
        assert isinstance(small, Autoencoder)
        with torch.no_grad():
            latents = small.encode(shown.truth_BT3SS, still=True)
            made = small.decode(wanted, still=True)
        return float((latents - wanted).std() / wanted.std()), float((made - shown.truth_BT3SS).square().mean())

    fresh = batch("image", 40, 8)
    first = apart(fresh)
    learn(stage, [batch("image", seed, 8) for seed in range(20, 30)], 120)
    latents, picture = apart(fresh)
    assert latents < 0.6 * first[0]
    assert picture < 0.25 * first[1]
    assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())
    assert all(weight.grad is None for weight in large.parameters())
    assert set(stage.frozen) == {"large"}


def test_the_large_ones_pictures_can_be_the_aim() -> None:
    large, shown = built(KL, 5), batch("image")
    stages = [AutoencoderStage(replaced(PLAIN, match_pictures=on), built(TINY), SPREAD, large) for on in (False, True)]
    truth, theirs = (
        stage.loss("autoencoder", shown, Draws(0, 0, shown.numbers), 0).parts["pixels"] for stage in stages
    )
    assert float(truth) != float(theirs)


def test_latents_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels, those of the small one 8"):
        AutoencoderStage(PLAIN, built(TINY), SPREAD, built(KL.model_copy(update={"latent_channels": 4})))


def test_divergence_and_moments_are_zero_at_what_they_ask_for() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 3, 8, 32, 32, generator=generator)
    assert float(moments(latents)) < 1e-3
    assert float(moments(3 * latents)) > 1
    assert float(moments(latents + 1)) == pytest.approx(1, abs=0.05)
    off = latents * torch.linspace(0.5, 2, 8)[:, None, None]  # all together they would look well
    assert float(moments(off)) > 0.1
    prior = 2.5
    as_wide = torch.full((9,), 2 * math.log(prior))
    assert float(divergence(torch.zeros(9), as_wide, prior)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(torch.ones(9), as_wide, prior)) == pytest.approx(0.5)


def test_the_schedule_says_how_wide_latents_are() -> None:
    assert spread_of(ScheduleConfig(kind="trig", sigma_data=0.7)) == 0.7
    assert spread_of(ScheduleConfig(kind="ddpm", times=(999.0,))) == 1.0


def test_it_is_a_stage_of_the_swapper_that_can_be_watched() -> None:
    swapper = small()
    stage = make(AutoencoderSettings(), swapper, None)
    assert stage.players["autoencoder"] is swapper.autoencoder
    typed: Stage = stage
    assert not typed.extra_state()
    assert isinstance(stage, Watch)
    for kind in ("image", "video"):
        shown = batch(kind)
        with torch.no_grad():
            seen = stage.watch(shown, Draws(0, 0, shown.numbers))
        assert seen.grids["pictures"].shape == (6 * SIZE_PX, 3 * SIZE_PX, 3)
        assert set(seen.clips) == ({"truth"} if kind == "video" else set())
        assert set(seen.metrics) == {f"{kind}-rms", f"{kind}-tone", f"{kind}-latents"}  # of both kinds, side by side
        assert seen.metrics[f"{kind}-rms"] > 0
