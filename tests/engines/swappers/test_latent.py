"""The learned engines' way of a frame: what the graph sees, what is remembered and how long, how it is laid back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from engines.errors import EngineFault
from engines.face.align import crop, crop_from_frame, moved
from engines.face.region import face_region, planes
from engines.identity import Identity
from engines.settings import SwapSettings
from engines.swappers.base import Inputs
from engines.swappers.latent import LOST_S, Latent, LatentState, rough_crop
from engines.swappers.proxy import Proxy
from engines.types import Floats, Occlusion, Rgb, TrackedFace
from tests.engines.face.heads import DARK_SKIN, LIGHT_SKIN, Looks, albedo, identity, landmarks, photograph
from tests.engines.swappers.graphs import Faulty, echo_engine, shared, small_config, small_engine, swapper

FRAME_S = 1 / 25
PLAIN = SwapSettings(engine="tiny")
WORN = identity(DARK_SKIN)
OTHER = identity(LIGHT_SKIN, name="other")


def looks(number: int) -> Looks:
    return Looks(size_px=150, yaw_deg=3.0 * number, x_px=150 + 2 * number)


POINTS = [landmarks(looks(number)) for number in range(12)]
FRAMES = [photograph(points, albedo(LIGHT_SKIN)) for points in POINTS]


@pytest.fixture(scope="module")
def engine() -> Iterator[Latent]:
    """Real networks with random weights at 64 px."""
    made = small_engine()
    yield made
    made.close()
    made._shared.close()


def seen(number: int, occlusion: Occlusion | None = None, captured_s: float | None = None) -> Inputs:
    face = TrackedFace(1, POINTS[number], POINTS[number], 0.95)
    return Inputs(FRAMES[number], face, occlusion, number * FRAME_S if captured_s is None else captured_s)


def fresh(engine: Latent) -> LatentState:
    return cast("LatentState", engine.init())


def draw(
    engine: Latent,
    state: LatentState,
    inputs: Inputs,
    worn: Identity = WORN,
    settings: SwapSettings = PLAIN,
) -> Rgb:
    onto = inputs.rgb_HW3.copy()
    engine.draw(state, worn, inputs, settings, onto)
    return onto


def drawn(engine: Latent, numbers: Sequence[int], settings: SwapSettings = PLAIN) -> list[Rgb]:
    """What a fresh state makes of some frames."""
    state = fresh(engine)
    return [draw(engine, state, seen(number), settings=settings) for number in numbers]


def mask_in_frame(number: int, size_px: int = 64) -> Floats:
    """Where the region's mask lies in the frame, 0 or 1."""
    there = crop_from_frame(POINTS[number], size_px)
    mask = face_region(moved(POINTS[number], there), size_px).mask_SS
    y, x = np.mgrid[: FRAMES[number].shape[0], : FRAMES[number].shape[1]]
    at = np.stack([x, y], axis=2) @ there[:, :2].T + there[:, 2]
    column, row = np.clip(np.round(at), 0, size_px - 1).astype(int).transpose(2, 0, 1)
    there_HW: Floats = mask[row, column]
    return there_HW


def test_it_draws_within_the_region_and_nowhere_else(engine: Latent) -> None:
    for number, picture in enumerate(drawn(engine, range(6))):
        region = mask_in_frame(number) > 0
        changed = (picture != FRAMES[number]).any(axis=2)
        assert changed.sum() > 0.8 * region.sum()
        away_px = np.asarray(ndimage.distance_transform_edt(~region))
        assert away_px[changed].max() < 4.2, "one and a half of the crop's pixels, which are 2.7 of the frame's"
        assert picture.dtype == np.uint8


def test_the_past_matters_and_only_the_past(engine: Latent) -> None:
    """Frame 5 is drawn otherwise after other frames; the same frames give the same pictures, to the bit."""
    whole = drawn(engine, range(6))
    again = drawn(engine, range(6))
    short = drawn(engine, [0, 5])
    for one, other in zip(whole, again):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(short[0], whole[0])
    assert (short[1] != whole[5]).any()


def test_two_people_share_the_engine_and_never_a_memory(engine: Latent) -> None:
    """Interleaved, with other identities, one of them with a frame more here and there: each as if alone."""
    numbers = ([0, 1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4, 3])
    alone = []
    for which, worn in zip(numbers, (WORN, OTHER)):
        state = fresh(engine)
        alone.append([draw(engine, state, seen(n, captured_s=i * FRAME_S), worn) for i, n in enumerate(which)])
    states = [fresh(engine), fresh(engine)]
    order = [0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1]
    done = [0, 0]
    for call in order:
        at = done[call]
        picture = draw(engine, states[call], seen(numbers[call][at], captured_s=at * FRAME_S), (WORN, OTHER)[call])
        np.testing.assert_array_equal(picture, alone[call][at])
        done[call] += 1


def test_two_sessions_in_one_graph_of_two_rows_get_what_they_get_alone(engine: Latent) -> None:
    """Each in its own thread, so that frames meet in one run; within a level, since sums may be ordered otherwise."""
    graph = shared(small_config(), batch=2)
    graph.enter()
    pair = [Latent("tiny", graph), Latent("tiny", graph)]
    numbers = ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0])

    def live(call: int) -> list[Rgb]:
        state = fresh(pair[call])
        worn = (WORN, OTHER)[call]
        return [draw(pair[call], state, seen(n, captured_s=i * FRAME_S), worn) for i, n in enumerate(numbers[call])]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(live, range(2)))
    for call, worn in enumerate((WORN, OTHER)):
        state = fresh(engine)
        for index, number in enumerate(numbers[call]):
            alone = draw(engine, state, seen(number, captured_s=index * FRAME_S), worn)
            assert np.abs(together[call][index].astype(int) - alone).max() <= 1
    assert graph.statistics().frames == 20
    for one in pair:
        one.close()
    graph.close()


def test_a_state_that_is_let_go_frees_its_row(engine: Latent) -> None:
    before = engine._shared.statistics().places
    state = fresh(engine)
    draw(engine, state, seen(0))
    assert engine._shared.statistics().places == before + 1
    del state
    assert engine._shared.statistics().places == before
    np.testing.assert_array_equal(drawn(engine, [3])[0], drawn(engine, [3])[0])


CHANGES: dict[str, Callable[[Latent, LatentState], Rgb]] = {
    "another identity": lambda engine, state: draw(engine, state, seen(4), OTHER),
    "other settings": lambda engine, state: draw(engine, state, seen(4), settings=SwapSettings(tone="driver")),
    "another seed": lambda engine, state: draw(engine, state, seen(4), settings=SwapSettings(seed=3)),
    "lost for over a second": lambda engine, state: draw(
        engine, state, seen(4, captured_s=3 * FRAME_S + LOST_S + 0.01)
    ),
    "a jump back in time": lambda engine, state: draw(engine, state, seen(4, captured_s=0.0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_past_is_forgotten_when_it_no_longer_holds(engine: Latent, change: str) -> None:
    """And then the memories are as fresh ones: what is drawn afterwards is what a new state draws."""
    state = fresh(engine)
    for number in range(4):
        draw(engine, state, seen(number))
    CHANGES[change](engine, state)
    assert state.resets == 1
    assert state.frame == 1


def test_a_reset_row_equals_a_fresh_one(engine: Latent) -> None:
    """The proxy remembers the driver's light on purpose, so the driver must look alike at the reset."""
    state = fresh(engine)
    for number in range(5):
        draw(engine, state, seen(0, captured_s=number * FRAME_S), OTHER)
    after = [draw(engine, state, seen(0, captured_s=(5 + number) * FRAME_S)) for number in range(5)]
    assert state.resets == 1
    other = fresh(engine)
    expected = [draw(engine, other, seen(0, captured_s=number * FRAME_S)) for number in range(5)]
    for one, two in zip(after, expected):
        assert np.abs(one.astype(int) - two).max() <= 8, "the proxy's own memory moves a level or two"
        assert np.abs(one.astype(int) - two).mean() < 0.2


@pytest.mark.parametrize("gap_s", [0.1, LOST_S - 0.05])
def test_a_face_that_was_away_for_a_moment_goes_on(engine: Latent, gap_s: float) -> None:
    state = fresh(engine)
    for number in range(4):
        draw(engine, state, seen(number))
    draw(engine, state, seen(4, captured_s=3 * FRAME_S + gap_s))
    assert state.resets == 0
    assert state.frame == 5


def test_tokens_are_computed_once_per_identity(engine: Latent, monkeypatch: pytest.MonkeyPatch) -> None:
    engine._tokens.clear()
    runs: list[int] = []
    identity_graph = engine._shared.graphs.identity
    run = identity_graph.run

    def count(*given: Any) -> object:
        runs.append(1)
        return run(*given)

    monkeypatch.setattr(identity_graph, "run", count)
    state = fresh(engine)
    engine.prepare(WORN, PLAIN)
    assert len(runs) == 1
    for number in range(4):
        draw(engine, state, seen(number))
    assert len(runs) == 1
    draw(engine, state, seen(4), OTHER)
    draw(engine, state, seen(5))
    assert len(runs) == 2, "both are kept"
    draw(engine, state, seen(6), settings=SwapSettings(texture_weight=1.1))
    assert len(runs) == 3, "the texture's weight is in the tokens"
    draw(engine, state, seen(7), settings=SwapSettings(attribute_weight=1.1))
    assert len(runs) == 3


@pytest.mark.parametrize(
    "settings",
    [
        SwapSettings(texture_weight=1.5),
        SwapSettings(attribute_weight=1.5),
        SwapSettings(seed=2**63 - 1),
        SwapSettings(tone="driver"),
    ],
    ids=lambda settings: str(settings.model_dump(exclude_defaults=True)),
)
def test_every_setting_changes_the_picture(engine: Latent, settings: SwapSettings) -> None:
    assert (drawn(engine, [0], settings)[0] != drawn(engine, [0])[0]).any()


def test_noise_is_fixed_unless_asked_otherwise() -> None:
    """With W = 1 a still driver gives a still picture, or, with new noise in every frame, a lively one."""
    engine = small_engine(small_config(frames=1))
    for noise, alike in (("fixed", True), ("per_frame", False)):
        state, settings = fresh(engine), SwapSettings(noise="fixed" if alike else "per_frame")
        pictures = [draw(engine, state, seen(0, captured_s=n * FRAME_S), settings=settings) for n in range(12)]
        moved_by = np.abs(pictures[-1].astype(int) - pictures[-2]).mean()
        assert (moved_by < 0.05) == alike, noise
    engine.close()
    engine._shared.close()


@pytest.mark.parametrize(("size_px", "steps", "memory"), [(128, 1, "clean_pass"), (64, 2, "memory_encoder")])
def test_other_shapes_draw_too(size_px: int, steps: int, memory: Literal["clean_pass", "memory_encoder"]) -> None:
    engine = small_engine(small_config(size_px, memory, steps))
    pictures = drawn(engine, range(3))
    assert all((picture != frame).any() for picture, frame in zip(pictures, FRAMES))
    engine.close()
    engine._shared.close()


def test_what_is_in_front_of_the_face_stays_as_it_is(engine: Latent) -> None:
    grid = np.zeros((28, 32), np.uint8)
    mouth = POINTS[0][[13, 14], :2].mean(axis=0) / 10
    grid[int(mouth[1]) - 1 : int(mouth[1]) + 4, int(mouth[0]) - 2 : int(mouth[0]) + 3] = 255
    occlusion = Occlusion(grid, np.array([[0.1, 0, 0], [0, 0.1, 0]], np.float32), 0.1)
    picture = draw(engine, fresh(engine), seen(0, occlusion))
    rows, columns = np.nonzero(ndimage.binary_erosion(grid))
    for row, column in zip(rows, columns):
        place = np.s_[row * 10 - 2 : row * 10 + 3, column * 10 - 2 : column * 10 + 3]
        np.testing.assert_array_equal(picture[place], FRAMES[0][place])
    assert (picture != FRAMES[0]).any()


def proxy_alone(numbers: Sequence[int], size_px: int) -> list[Rgb]:
    """The proxy's drawings on the crops."""
    proxy, pictures = Proxy(), []
    state = proxy.init()
    for number in numbers:
        there = crop_from_frame(POINTS[number], size_px)
        plan = proxy.plan(state, WORN, seen(number), PLAIN)
        pictures.append(rough_crop(proxy, state, plan, there, crop(FRAMES[number], there, size_px)))
    proxy.close()
    return pictures


@pytest.mark.parametrize("size_px", [256, 512])
def test_a_network_that_returns_the_proxy_gives_the_proxy_s_picture(size_px: int) -> None:
    """Crop and paste alone: inside of the feather the proxy's picture, softened by sampling; outside the camera's."""
    engine = echo_engine(size_px)
    for number, (picture, rough) in enumerate(zip(drawn(engine, range(6)), proxy_alone(range(6), size_px))):
        there = crop_from_frame(POINTS[number], size_px)
        region = face_region(moved(POINTS[number], there), size_px)
        back = crop(picture, there, size_px).astype(int)
        expected = rough.astype(int)
        camera = crop(FRAMES[number], there, size_px).astype(int)
        solid, outside = region.alpha_SS == 1, region.mask_SS == 0
        assert np.abs(back - expected)[solid].mean() < 1.0
        assert np.abs(back - camera)[outside].mean() < 0.05
        assert np.abs(camera - expected)[solid].mean() > 20, "or nothing is said"
    engine.close()
    engine._shared.close()


def test_the_graph_sees_what_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    given: list[dict[str, NDArray[Any]]] = []
    step = engine._shared.graphs.step
    run = step.run

    def watch(state: Any, inputs: dict[str, NDArray[Any]], slots: Any) -> object:
        given.append({name: array.copy() for name, array in (inputs | slots).items()})
        return run(state, inputs, slots)

    monkeypatch.setattr(step, "run", watch)
    drawn(engine, range(6))
    for number, inputs in enumerate(given):
        there = crop_from_frame(POINTS[number], 64)
        own = planes(crop(FRAMES[number], there, 64))
        mask = inputs["mask"][0, 0]
        assert set(np.unique(mask)) >= {0.0, 1.0}
        np.testing.assert_array_equal(inputs["masked"][..., mask == 0], own[..., mask == 0])
        assert np.ptp(inputs["masked"][..., mask == 1], axis=-1).max() == 0, "one colour: nothing of the face"
        for name in ("masked", "proxy", "attribute"):
            assert inputs[name].dtype == np.float32
            assert inputs[name].min() >= -1
            assert inputs[name].max() <= 1
        assert np.isinf(inputs["bias"]).sum() == max(3 - number, 0)
        assert inputs["window"][0] == [0, 1, 2, 1, 2, 1][number]
    np.testing.assert_array_equal(given[0]["noise"], given[5]["noise"])
    np.testing.assert_allclose(given[0]["weights"], [[0.6, 0.6]])
    engine.close()
    engine._shared.close()


@pytest.mark.parametrize("how", ["nan", "inf", "raises", "faults"])
def test_a_fault_is_said_and_the_past_is_forgotten(how: str) -> None:
    engine = small_engine(runtime=Faulty)
    step = engine._shared.graphs.step
    assert isinstance(step, Faulty)
    step.wrong = {3: how}
    state, clean = fresh(engine), drawn(small := small_engine(), [4, 5])
    for number in range(3):
        draw(engine, state, seen(number))
    onto = FRAMES[3].copy()
    with pytest.raises(EngineFault):
        engine.draw(state, WORN, seen(3), PLAIN, onto)
    np.testing.assert_array_equal(onto, FRAMES[3], "nothing is half drawn")
    assert state.frame == 0
    for number, expected in zip((4, 5), clean):
        off = np.abs(draw(engine, state, seen(number)).astype(int) - expected)
        assert np.percentile(off, 95) <= 8, "as a fresh state; but the proxy remembers the light"
    assert state.frame == 2
    for one in (engine, small):
        one.close()
        one._shared.close()


def test_weights_that_are_no_numbers_never_draw() -> None:
    """A NaN planted in a real layer: every frame is a fault, whatever the runtime checks."""
    config = small_config()
    broken = swapper(config)
    parameter = dict(broken.denoiser.named_parameters())
    next(value for value in parameter.values() if value.dim() == 4).data.view(-1)[7] = float("nan")

    def step() -> object:
        from engines.models.step import SwapStep

        return SwapStep(broken, 1)

    engine = Latent("tiny", shared(config, step))  # type: ignore[arg-type]
    state = fresh(engine)
    for number in range(3):
        onto = FRAMES[number].copy()
        with pytest.raises(EngineFault, match="no numbers"):
            engine.draw(state, WORN, seen(number), PLAIN, onto)
        np.testing.assert_array_equal(onto, FRAMES[number])
    engine.close()
    engine._shared.close()


def test_landmarks_that_are_no_numbers_are_refused(engine: Latent) -> None:
    broken = POINTS[0].copy()
    broken[5] = np.nan
    inputs = replace(seen(0), face=TrackedFace(1, broken, broken, 0.9))
    with pytest.raises(ValueError, match="finite"):
        draw(engine, fresh(engine), inputs)
    with pytest.raises(EngineFault, match="needs an identity"):
        engine.draw(fresh(engine), None, seen(0), PLAIN, FRAMES[0].copy())
    with pytest.raises(EngineFault, match="its own state"):
        engine.draw(Proxy().init(), WORN, seen(0), PLAIN, FRAMES[0].copy())


# ---- a network that draws a change


def by_proxy(number: int) -> Rgb:
    proxy = Proxy()
    onto = FRAMES[number].copy()
    proxy.draw(proxy.init(), WORN, seen(number), PLAIN, onto)
    proxy.close()
    return onto


def by_change(number: int, brighter: float, occlusion: Occlusion | None = None) -> Rgb:
    engine = echo_engine(128, "change", brighter)
    made = draw(engine, fresh(engine), seen(number, occlusion))
    engine.close()
    engine._shared.close()
    return made


def test_no_change_is_the_proxy_of_the_frame_to_the_bit() -> None:
    """At the frame's own sharpness, and outside of the region too, where the proxy has toned skin and moved the jaw."""
    np.testing.assert_array_equal(by_change(3, 0.0), by_proxy(3))


def test_a_change_is_added_within_the_new_outline_and_nowhere_else() -> None:
    gained = by_change(3, 0.2).astype(int) - by_proxy(3)
    proxy = Proxy()
    moved_px = proxy.plan(proxy.init(), WORN, seen(3), PLAIN).moved_px
    proxy.close()
    middle = moved_px[[1, 50, 280], :2].round().astype(int)  # nose and cheeks
    assert gained[middle[:, 1], middle[:, 0]] == pytest.approx(np.full((3, 3), 25.5), abs=1.0)
    height, width = gained.shape[:2]
    mesh = np.zeros((height, width), bool)
    rows, columns = np.clip(moved_px[:468, [1, 0]].round().astype(int).T, 0, np.array([[height - 1], [width - 1]]))
    mesh[rows, columns] = True
    away_px = np.asarray(ndimage.distance_transform_edt(~ndimage.binary_closing(mesh, iterations=40)))
    assert not gained[away_px > 8].any(), "0.3 cm are 4 pixels here"


def test_what_stands_in_front_is_changed_as_little_as_it_is_covered() -> None:
    size = 64
    covered = np.zeros((size, size), np.uint8)
    covered[size // 2 :] = 255
    height, width = FRAMES[3].shape[:2]
    into = np.array([[size / width, 0, 0], [0, size / height, 0]], np.float32)
    lower = np.s_[height // 2 + 8 :]
    made = by_change(3, 0.4, Occlusion(covered, into, 0.5))
    np.testing.assert_array_equal(made[lower], FRAMES[3][lower])
    assert (made[: height // 2 - 8] != FRAMES[3][: height // 2 - 8]).any()
