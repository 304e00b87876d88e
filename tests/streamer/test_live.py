"""A live picture: what reaches a sink is drawn and young, or the standby card; nobody watching costs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engines import EngineFault, IdentityError, MediaError, Rgb, SettingError, Status, StepResult, SwapSettings
from streamer import live as live_module
from streamer import stage as stage_module
from streamer.audit.log import audit_log
from streamer.camera.sink import PixelFormat, Shape
from streamer.capture.source import open_source
from streamer.errors import SinkError
from streamer.live import Live, LivePlan
from streamer.stage import CARD_TEXT
from tests.streamer.calls import Loader, negative
from tests.streamer.clips import Clip, index_of, make

SIZE_PX = (64, 48)
WAIT_S = 20.0


@dataclass
class Shelf:
    """A sink that keeps what was written, with as many readers as the test says."""

    name: str = "shelf"
    watching: int | None = 1
    refuses: str = ""
    breaks_at: int = -1
    held_px: tuple[int, int] | None = None
    got: list[Rgb] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def open(self, width_px: int, height_px: int, fps: float, pixel_format: PixelFormat | None) -> Shape:
        if self.refuses:
            raise SinkError(self.refuses)
        self.opened += 1
        width_px, height_px = self.held_px or (width_px, height_px)
        return Shape(width_px, height_px, fps, pixel_format or "yuyv")

    def write(self, rgb_HW3: Rgb, captured_s: float) -> None:
        if len(self.got) == self.breaks_at:
            self.breaks_at = -1
            raise SinkError("the shelf broke")
        assert 0 <= time.monotonic() - captured_s < 5
        self.got.append(np.array(rgb_HW3))

    def readers(self) -> int | None:
        return self.watching

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in a call takes tenths here."""
    monkeypatch.setattr(stage_module, "IDLE_S", 0.4)
    monkeypatch.setattr(live_module, "ENDED_CARD_S", 0.3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("live") / "clip.mp4", Clip(stamps=tuple(range(0, 600, 100)), size_px=SIZE_PX))


def until(ready: Callable[[], object]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


@contextmanager
def living(
    clip: Path,
    shelf: Shelf,
    draw: Callable[[Rgb, float], StepResult] = negative,
    loop: bool = True,
    hold_s: float = 1.0,
    draw_always: bool = False,
) -> Iterator[Live]:
    """With a longer hold than usual: other tests keep the machine busy."""
    settings = LivePlan(SwapSettings(), "amara", size_px=SIZE_PX, hold_s=hold_s, draw_always=draw_always)
    live = Live(open_source(str(clip), loop=loop), [shelf], settings, Loader(draw))
    try:
        live.start()
        yield live
    finally:
        live.close()


def is_raw(rgb_HW3: Rgb) -> bool:
    """Whether it is the clip's picture as the camera gave it: its lower half is dark, a negative's is bright."""
    return bool(np.median(rgb_HW3[30:, :, 1]) < 40) and bool(rgb_HW3[30:, 60, 0].mean() > 70)


def is_drawn(rgb_HW3: Rgb) -> bool:
    return bool(np.median(rgb_HW3[30:, :, 1]) > 200)


def facts_of(line: dict[str, object]) -> dict[str, object]:
    facts = line["facts"]
    assert isinstance(facts, dict)
    return facts


def dropped_as_too_old(live: Live) -> int:
    dropped = live.numbers()["dropped"]
    assert isinstance(dropped, dict)
    return int(dropped.get("too_old", 0))


def test_the_check_notices_a_raw_picture(clip: Path) -> None:
    shelf = Shelf()
    with living(clip, shelf, lambda rgb, at: StepResult(rgb.copy(), Status.DRAWN, 1)):
        until(lambda: any(is_raw(one) for one in shelf.got))


def test_first_the_card_then_what_was_drawn_never_the_picture_itself(clip: Path) -> None:
    shelf = Shelf()
    with living(clip, shelf) as live:
        until(lambda: sum(is_drawn(one) for one in shelf.got) > 8)
        assert live.showing.status is Status.DRAWN
        assert live.showing.age.count > 0
    assert not is_drawn(shelf.got[0])
    assert not any(is_raw(one) for one in shelf.got)
    assert shelf.closed


def test_an_engine_that_fails_gives_the_card(clip: Path) -> None:
    def draw(rgb: Rgb, at: float) -> StepResult:
        raise EngineFault("the engine tripped")

    shelf = Shelf()
    with living(clip, shelf, draw) as live:
        until(lambda: len(shelf.got) > 4)
        assert live.showing.status is None
        assert live.showing.why == "the engine tripped"
    assert not any(is_raw(one) or is_drawn(one) for one in shelf.got)


def test_an_engine_that_hangs_gives_the_card_within_the_hold(clip: Path) -> None:
    hang, drawn = threading.Event(), threading.Event()

    def draw(rgb: Rgb, at: float) -> StepResult:
        if drawn.is_set():
            hang.wait(WAIT_S)
        return negative(rgb)

    shelf = Shelf()
    with living(clip, shelf, draw) as live:
        until(lambda: any(is_drawn(one) for one in shelf.got))
        drawn.set()
        until(lambda: live.showing.status is None)
        assert not is_drawn(shelf.got[-1])
        assert "too slow or stuck" in live.showing.why
        assert live.numbers()["stuck_ms"] != 0
        hang.set()
    assert not any(is_raw(one) for one in shelf.got)


def test_a_picture_that_is_too_old_is_not_shown(clip: Path) -> None:
    def draw(rgb: Rgb, at: float) -> StepResult:
        time.sleep(0.2)
        return negative(rgb)

    shelf = Shelf()
    with living(clip, shelf, draw, hold_s=0.1) as live:
        until(lambda: dropped_as_too_old(live) > 1)
    assert not any(is_drawn(one) for one in shelf.got)


def test_nobody_watching_closes_the_source_and_draws_nothing(clip: Path) -> None:
    drawn = []

    def draw(rgb: Rgb, at: float) -> StepResult:
        drawn.append(at)
        return negative(rgb)

    shelf = Shelf()
    with living(clip, shelf, draw) as live:
        until(lambda: any(is_drawn(one) for one in shelf.got))
        shelf.watching = 0
        until(lambda: live.numbers()["idle"])
        until(lambda: live.showing.why == "nobody watches")
        before = len(drawn)
        time.sleep(0.6)
        assert len(drawn) == before
        assert not is_drawn(shelf.got[-1])
        shelf.watching = 1
        until(lambda: len(drawn) > before)
        until(lambda: is_drawn(shelf.got[-1]))


@pytest.mark.parametrize("asked_for", [True, False], ids=["asked for", "nobody can say"])
def test_it_goes_on_where_asked_to_or_where_nobody_can_say_who_watches(clip: Path, asked_for: bool) -> None:
    shelf = Shelf(watching=0 if asked_for else None)
    with living(clip, shelf, draw_always=asked_for) as live:
        time.sleep(1.0)
        assert not live.numbers()["idle"]
        assert is_drawn(shelf.got[-1])


def test_the_panic_key_shows_the_card_at_once(clip: Path) -> None:
    shelf = Shelf()
    with living(clip, shelf) as live:
        until(lambda: is_drawn(shelf.got[-1]))
        live.pause(True)
        until(lambda: live.showing.status is None)
        count = len(shelf.got)
        until(lambda: len(shelf.got) > count + 2)
        assert not any(is_drawn(one) for one in shelf.got[count:])
        assert live.showing.why == "paused by you"
        live.pause(False)
        until(lambda: is_drawn(shelf.got[-1]))


def test_another_identity_between_two_pictures_is_logged_first(clip: Path) -> None:
    shelf = Shelf()
    with living(clip, shelf) as live:
        until(lambda: is_drawn(shelf.got[-1]))
        live.swap_identity("henrik")
        assert live.showing.identity == "henrik"
        with pytest.raises(IdentityError, match=r'unknown identity "\.\./x"'):
            live.swap_identity("../x")
        assert live.showing.identity == "henrik"
    lines = [(line["event"], facts_of(line).get("identity")) for line in audit_log().read()][-3:]
    assert lines == [("session begun", "amara"), ("identity worn", "henrik"), ("session ended", None)]


def test_another_engine_is_made_beside_the_one_that_draws(clip: Path) -> None:
    shelf, loader = Shelf(), Loader(negative)
    live = Live(open_source(str(clip), loop=True), [shelf], LivePlan(SwapSettings(), "amara", size_px=SIZE_PX), loader)
    try:
        live.start()
        live.swap_engine("proxy")
        assert [one.closed for one in loader.made] == [1, 0]
        assert loader.made[1].identity is loader.made[0].identity
        count = len(shelf.got)
        until(lambda: len(shelf.got) > count and is_drawn(shelf.got[-1]))
        with pytest.raises(SettingError, match='engine "passthrough" is not to be had here'):
            live.swap_engine("passthrough")
        with pytest.raises(SettingError, match='did you mean "proxy"'):
            live.swap_engine("prxy")
    finally:
        live.close()
    assert [one.closed for one in loader.made] == [1, 1]


def test_a_film_that_is_over_ends_with_the_card(clip: Path) -> None:
    shelf = Shelf()
    with living(clip, shelf, loop=False) as live:
        assert live.wait(WAIT_S)
        assert live.showing.source.why == "clip.mp4 is over"
    assert not is_drawn(shelf.got[-1])


def test_a_sink_that_breaks_is_opened_again(clip: Path) -> None:
    shelf = Shelf(breaks_at=5)
    with living(clip, shelf) as live:
        until(lambda: shelf.opened == 2)
        until(lambda: is_drawn(shelf.got[-1]))
        assert live.numbers()["sinks"][0]["losses"] == 1  # type: ignore[index]


def test_a_sink_that_is_held_to_another_size_gets_it(clip: Path) -> None:
    shelf = Shelf(held_px=(96, 54))
    with living(clip, shelf):
        until(lambda: len(shelf.got) > 3)
    assert {one.shape for one in shelf.got} == {(54, 96, 3)}


@pytest.mark.parametrize(
    ("identity", "engine", "source", "refuses", "error", "said"),
    [
        (None, "auto", None, "", IdentityError, "whose face"),
        ("nobody", "auto", None, "", IdentityError, "unknown identity"),
        ("amara", "warp", None, "", SettingError, "unknown engine"),
        ("amara", "auto", None, "no such device", SinkError, "no such device"),
        ("amara", "auto", "none.mp4", "", MediaError, "no such file"),
    ],
)
def test_what_cannot_begin_says_why_and_leaves_nothing_open(
    clip: Path, identity: str | None, engine: str, source: str | None, refuses: str, error: type[Exception], said: str
) -> None:
    shelf = Shelf(refuses=refuses)
    threads = threading.active_count()
    live = Live(
        open_source(source or str(clip)), [shelf], LivePlan(SwapSettings(engine=engine), identity), Loader(negative)
    )
    with pytest.raises(error, match=said):
        live.start()
    assert live.wait(0)
    assert threading.active_count() == threads
    assert all(not is_raw(one) for one in shelf.got)


def test_a_broken_identity_file_is_one_sentence_and_no_picture(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "ada.safetensors").write_bytes(b"not an identity at all")
    shelf = Shelf()
    plan = LivePlan(SwapSettings(), "ada", identities_dir=tmp_path, size_px=SIZE_PX)
    live = Live(open_source(str(clip)), [shelf], plan, Loader(negative))
    with pytest.raises(IdentityError, match=r"ada\.safetensors") as refused:
        live.start()
    assert "\n" not in str(refused.value)
    assert not shelf.got


def test_the_card_says_to_wait() -> None:
    assert CARD_TEXT == "One moment, please"


def test_the_clip_is_what_the_checks_take_it_for(clip: Path) -> None:
    from tests.streamer.clips import play

    pictures = play(clip).pictures
    assert [index_of(one) for one in pictures] == [0, 1, 2, 3, 4, 5]
    assert all(is_raw(one) for one in pictures)
    assert all(is_drawn(negative(one).rgb_HW3) for one in pictures)
