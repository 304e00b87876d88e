"""The dataset: what comes in which order, on which rank, after which kill, and from every real source."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.align_batch import crop_batch, crops_from_frames, moved_batch
from distill.data import TENSORS, Batch, Dataset, DataSettings, ResumeState, _occluded
from distill.degrade import DegradeSettings
from distill.errors import BadShard, DataMissing
from distill.feed import WorkerDied
from distill.prepare.run import prepare
from distill.prepare.settings import PrepareSettings
from distill.shards import open_shards
from distill.sources.base import Sample, SourceSpec, Wanted
from distill.sources.order import BLOCK, nth, shares_of, source_of
from distill.sources.rendered import RenderedPeople
from distill.sources.shards import PreparedShards
from distill.sources.stills import MovingStills
from engines import SettingError
from engines.face.align import crop, moved
from tests.distill.numbers import SMALL, Numbers, dataset, digest
from tests.engines.face.test_align import pattern, points


def take(data: Dataset, count: int, state: ResumeState | None = None) -> list[tuple[Batch, ResumeState]]:
    batches = data.batches(state)
    taken = list(islice(batches, count))
    assert isinstance(batches, Iterator)
    batches.close()  # type: ignore[attr-defined]
    return taken


def digests(taken: list[tuple[Batch, ResumeState]]) -> list[str]:
    return [digest(batch) for batch, _ in taken]


def test_images_and_videos_alternate() -> None:
    taken = take(dataset(), 6)
    assert [batch.kind for batch, _ in taken] == ["image", "video"] * 3
    image, video = taken[0][0], taken[1][0]
    assert image.target_BTHW3.shape == (4, 1, 32, 32, 3)
    assert video.target_BTHW3.shape == (2, 3, 32, 32, 3)
    assert video.erased_BTHW.shape == (2, 3, 32, 32)
    assert [(state.step, state.images, state.videos) for _, state in taken][:3] == [(1, 4, 0), (2, 4, 2), (3, 8, 2)]


def test_every_state_continues_with_the_very_next_sample() -> None:
    whole = take(dataset(), 9)
    for at in range(8):
        state = ResumeState.from_json(whole[at][1].to_json())
        assert digests(take(dataset(), 8 - at, state)) == digests(whole[at + 1 :])


def test_any_number_of_workers_gives_the_same() -> None:
    settings = SMALL.model_copy(update={"degrade": DegradeSettings()})
    here = take(dataset(settings), 7)
    assert digests(take(dataset(settings, workers=3), 7)) == digests(here)
    resumed = take(dataset(settings, workers=2), 3, here[3][1])
    assert digests(resumed) == digests(here[4:])
    assert [state for _, state in resumed] == [state for _, state in here[4:]]


def origins(data: Dataset, count: int, state: ResumeState | None = None) -> list[tuple[str, str, int]]:
    return [(batch.kind, *origin) for batch, _ in take(data, count, state) for origin in batch.origins]


def each_sample(data: Dataset, steps: int) -> dict[tuple[str, str, int], bytes]:
    """The pixels of every single sample, by its origin."""
    return {
        (batch.kind, *origin): b"".join(getattr(batch, name)[n].numpy().tobytes() for name in TENSORS)
        for batch, _ in take(data, steps)
        for n, origin in enumerate(batch.origins)
    }


def test_a_sample_is_the_same_on_whatever_rank_it_lands() -> None:
    settings = SMALL.model_copy(update={"degrade": DegradeSettings()})
    alone = each_sample(dataset(settings), 12)
    together = each_sample(dataset(settings, rank=0, ranks=3), 4) | each_sample(dataset(settings, rank=1, ranks=3), 4)
    together |= each_sample(dataset(settings, rank=2, ranks=3), 4)
    assert together == alone
    assert len(set(alone.values())) == len(alone) == 6 * 4 + 6 * 2


@pytest.mark.parametrize(
    ("rank", "ranks", "workers", "ahead"), [(2, 2, 0, 2), (-1, 1, 0, 2), (0, 1, -1, 2), (0, 1, 1, 0)]
)
def test_impossible_ranks_and_workers_are_refused(rank: int, ranks: int, workers: int, ahead: int) -> None:
    with pytest.raises(SettingError):
        next(replace(dataset(), rank=rank, ranks=ranks, workers=workers, ahead=ahead).batches())


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_are_disjoint_and_together_complete(ranks: int) -> None:
    steps = 40
    of_ranks = [origins(dataset(rank=rank, ranks=ranks), steps) for rank in range(ranks)]
    together = [one for of_rank in of_ranks for one in of_rank]
    assert len(set(together)) == len(together), "no sample twice"
    alone = origins(dataset(), steps * ranks)
    assert set(together) == set(alone), "the same samples that one rank would have had"


def test_another_number_of_ranks_goes_on_where_the_others_were() -> None:
    states = [take(dataset(rank=rank, ranks=2), 6)[-1][1] for rank in range(2)]
    assert states[0] == states[1], "one state serves all ranks"
    before = [one for rank in range(2) for one in origins(dataset(rank=rank, ranks=2), 6)]
    after = [one for rank in range(3) for one in origins(dataset(rank=rank, ranks=3), 8, states[0])]
    assert set(before).isdisjoint(after)
    numbers = sorted(number for kind, name, number in before + after if (kind, name) == ("image", "a"))
    assert numbers == list(range(len(numbers))), "none left out"


def test_weights_hold() -> None:
    assert shares_of([1]) == (BLOCK,)
    assert shares_of([2, 1]) == (80, 40)
    assert sum(shares_of([1, 1e-9, 3, 0])) == BLOCK
    assert shares_of([1, 1e-9, 3, 0]) == (30, 1, 89, 0)
    for wrong in ([], [0, 0], [-1, 2], [float("nan")]):
        with pytest.raises(ValueError, match="weights"):
            shares_of(wrong)
    drawn = [source_of(5, False, n, (80, 40)) for n in range(3 * BLOCK)]
    for source, share in enumerate((80, 40)):
        assert [ordinal for which, ordinal in drawn if which == source] == list(range(3 * share))
    with pytest.raises(SettingError, match="weights"):
        take(Dataset(SMALL, ((Numbers(), 0.0),)), 1)


def test_every_item_comes_once_an_epoch_each_time_in_another_order() -> None:
    epochs = [[nth(1, True, epoch * 50 + n, 50) for n in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_refuses_a_state_of_other_data() -> None:
    state = take(dataset(), 1)[0][1]
    other = SMALL.model_copy(update={"frames": 4})
    with pytest.raises(SettingError, match="other data or settings"):
        take(dataset(other), 1, state)
    with pytest.raises(SettingError, match="other data or settings"):
        take(Dataset(SMALL, ((Numbers("c"), 1.0),)), 1, state)
    for text in ("", "[]", '{"step": "x"}', '{"steps": 1}', '{"step": -1}'):
        with pytest.raises(SettingError, match="resume state"):
            ResumeState.from_json(text)


def test_a_worker_that_fails_says_so() -> None:
    with pytest.raises(WorkerDied, match="planted"):
        take(Dataset(SMALL, ((Numbers(breaks_at=9), 1.0),), workers=1), 9)
    with pytest.raises(WorkerDied, match="status 7"):
        take(Dataset(SMALL, ((Numbers(exits_at=9), 1.0),), workers=1), 9)
    missing = Dataset(SMALL, ((RenderedPeople(Path("/nowhere")), 1.0),), workers=1)
    with pytest.raises(DataMissing, match="nowhere"):
        take(missing, 1)


KILLED = """
import sys, time
from tests.distill.numbers import SMALL, dataset, digest
from distill.data import ResumeState
from distill.degrade import DegradeSettings
from pathlib import Path

if __name__ == "__main__":
    state_file = Path(sys.argv[1])
    data = dataset(SMALL.model_copy(update={"degrade": DegradeSettings()}), workers=2)
    state = ResumeState.from_json(state_file.read_text()) if state_file.exists() else None
    for batch, state in data.batches(state):
        print(state.step, digest(batch), flush=True)  # used first, then remembered as used
        part = state_file.with_suffix(".part")
        part.write_text(state.to_json())
        part.replace(state_file)
"""


def run_until_killed(script: Path, state_file: Path, lines: int) -> tuple[list[str], list[int]]:
    """What the process printed, and the process ids of its workers, all killed without warning."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(script), str(state_file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    printed = [process.stdout.readline().strip() for _ in range(lines)]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    printed += process.stdout.read().split("\n")[:-1]
    process.stdout.close()
    process.wait()
    return [line for line in printed if line.strip()], [int(child) for child in children]


@pytest.mark.timeout(240)
def test_killed_it_continues_with_the_very_next_sample(tmp_path: Path) -> None:
    script, state_file = tmp_path / "train.py", tmp_path / "state.json"
    script.write_text(KILLED)
    printed: list[str] = []
    children: list[int] = []
    for lines in (5, 6):
        more, workers = run_until_killed(script, state_file, lines)
        stored = json.loads(state_file.read_text())["step"]
        printed += [line for line in more if int(line.split()[0]) <= stored]
        children += workers
    settings = SMALL.model_copy(update={"degrade": DegradeSettings()})
    whole = take(dataset(settings), len(printed))
    seen = {int(line.split()[0]): line.split()[1] for line in printed}
    assert len(printed) >= 9
    assert sorted(seen) == [int(line.split()[0]) for line in printed], "no sample twice, none left out"
    assert list(seen.values()) == digests(whole)[: len(seen)]
    assert len(children) >= 4
    deadline_s = time.monotonic() + 10
    while any(not is_ended(child) for child in children) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert all(is_ended(child) for child in children), "workers outlived their parent"


def is_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_the_batch_crop_is_the_live_crop() -> None:
    for px_per_cm, size_px in ((6.0, 256), (16.0, 256), (33.0, 256)):
        faces = np.stack([points(px_per_cm, (20, 5, angle), 420, 360) for angle in (-20, 10)])
        frames = np.stack([pattern(720, 840), pattern(720, 840)[:, ::-1]])
        there = crops_from_frames(faces, size_px)
        cut = crop_batch(torch.from_numpy(frames.copy()), there, size_px).numpy()
        for n in range(2):
            live = crop(frames[n], there[n], size_px)
            assert np.abs(cut[n].astype(int) - live.astype(int)).mean() < 0.6
            assert np.abs(cut[n].astype(int) - live.astype(int)).max() <= 3
            np.testing.assert_allclose(moved_batch(faces, there)[n], moved(faces[n], there[n]), atol=0.01)


def real_source(name: str, shared_data: Path, folder: Path) -> Dataset:
    if name == "shards":
        prepared = PrepareSettings.read({"output": folder, "consent": "tests", "licence": "MIT", "frames": 8})
        prepare([shared_data / "clips" / "single_face.mp4"], prepared)
    settings = DataSettings(
        size_px=128, frames=2, sources=2, images_a_batch=1, videos_a_batch=1, occlude=0, degrade=None
    )
    specs: dict[str, SourceSpec] = {
        "rendered": RenderedPeople(shared_data),
        "stills": MovingStills(shared_data, shared_data / "synth_faces"),
        "shards": PreparedShards(folder),
    }
    return Dataset(settings, ((specs[name], 1.0),))


@pytest.fixture(scope="module")
def rendered_batches(shared_data: Path) -> list[tuple[Batch, ResumeState]]:
    """The first two of rendered people; target, truth and twin are three people there."""
    return take(real_source("rendered", shared_data, Path()), 2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["rendered", "stills", "shards"])
def test_real_sources_give_aligned_faces_and_the_same_bytes_again(
    name: str, shared_data: Path, tmp_path: Path, rendered_batches: list[tuple[Batch, ResumeState]]
) -> None:
    data = real_source(name, shared_data, tmp_path)
    first = rendered_batches if name == "rendered" else take(data, 2)
    assert digests(take(data, 1, first[0][1])) == digests(first[1:])
    for batch, _ in first:
        assert batch.sources_BSHW3.shape[1:] == (2, 128, 128, 3)
        eyes = batch.landmarks_BTN3[0, :, [33, 263], :2].mean(dim=1)
        mouth = batch.landmarks_BTN3[0, :, [13, 14], :2].mean(dim=1)
        assert ((eyes - 63.5).norm(dim=1) < 40).all()
        assert (mouth[:, 1] > eyes[:, 1] + 8).all(), "upright"
        changed = (batch.target_BTHW3.float() - batch.truth_BTHW3.float()).abs().mean()
        assert (changed > 0.5) == (name != "shards")


def test_a_shard_cut_in_half_is_skipped_named_and_noticed_on_resume(shared_data: Path, tmp_path: Path) -> None:
    settings = PrepareSettings.read(
        {"output": tmp_path, "consent": "tests", "licence": "MIT", "frames": 8, "shard_clips": 4}
    )
    prepare([shared_data / "clips" / "single_face.mp4"], settings)
    wanted = DataSettings(size_px=128, frames=8, images_a_batch=2, videos_a_batch=1, occlude=0, degrade=None)
    data = Dataset(wanted, ((PreparedShards(tmp_path), 1.0),))
    state = take(data, 1)[0][1]
    half = sorted(tmp_path.glob("*.tar"))[1]
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    (line,) = PreparedShards(tmp_path).bad()
    assert str(half) in line
    assert len(take(data, 2)) == 2
    with pytest.raises(SettingError, match="other data"):
        take(data, 1, state)
    with pytest.raises(BadShard, match="16 were asked for"):
        take(Dataset(wanted.model_copy(update={"frames": 16}), data.sources), 2)
    for shard in open_shards(tmp_path)[0]:
        shard.path.write_bytes(b"")
    with pytest.raises(BadShard, match="no shard in it can be used"):
        take(data, 1)


def test_target_and_truth_are_degraded_alike_and_photos_apart() -> None:
    only_colour = DegradeSettings(defocus=0, motion=0, rescale=0, noise=0, colour=1, grey=0, erase=1, jpeg=0, h264=0)
    batch = take(dataset(SMALL.model_copy(update={"degrade": only_colour})), 2)[1][0]
    same: Tensor = batch.target_BTHW3[0] == batch.twin_BTHW3[0]
    assert same.all()
    assert batch.erased_BTHW.any()
    assert not torch.equal(batch.sources_BSHW3[0, 0], batch.target_BTHW3[0, 0])
    plain = take(dataset(SMALL.model_copy(update={"degrade": only_colour, "degrade_truth": False})), 2)[1][0]
    untouched = take(dataset(), 2)[1][0]
    assert torch.equal(plain.truth_BTHW3, untouched.truth_BTHW3)
    assert {one.name for one in fields(Batch)} == {*TENSORS, "kind", "origins"}


def test_a_portrait_that_cannot_be_read_is_left_out(
    shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    source = MovingStills(shared_data, tmp_path).open()
    wanted = Wanted(seed=0, ordinal=0, frames=1, sources=1, size_px=64)
    with pytest.raises(DataMissing, match="no portrait in it can be moved"):
        source.make(wanted)
    assert f"left out: {tmp_path / 'a.jpg'}" in caplog.text
    source.close()
    (tmp_path / "b.jpg").write_bytes((shared_data / "synth_faces" / "t0018_schnell.jpg").read_bytes())
    source = MovingStills(shared_data, tmp_path).open()
    assert source.make(wanted).target_THW3.shape == (1, 64, 64, 3)
    source.close()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_as_many_samples_are_covered_as_asked(share: float) -> None:
    landmarks = torch.from_numpy(points(3.0, (0, 0, 0), 24, 24)[:468])[None]
    clip = torch.full((1, 48, 48, 3), 128, dtype=torch.uint8)
    sample = Sample(clip, clip, clip, clip, landmarks)
    changed = [_occluded(sample, share, (7, 0, n))[0] is not sample for n in range(120)]
    assert np.mean(changed) == pytest.approx(share, abs=0.1 if 0 < share < 1 else 0)


def test_what_passes_before_the_face_covers_target_and_truth_alike(
    shared_data: Path, tmp_path: Path, rendered_batches: list[tuple[Batch, ResumeState]]
) -> None:
    plain = real_source("rendered", shared_data, tmp_path)
    covered_always = plain.settings.model_copy(update={"occlude": 1.0})
    in_front = Dataset(covered_always, plain.sources)
    behind, before = rendered_batches, take(in_front, 2)
    assert digests(take(in_front, 1, before[0][1])) == digests(before[1:])
    shares = []
    for (without, _), (batch, _) in zip(behind, before, strict=True):
        solid = batch.covered_BTHW == 255
        assert not torch.equal(without.target_BTHW3[solid], without.truth_BTHW3[solid]) or not solid.any()
        assert torch.equal(batch.target_BTHW3[solid], batch.truth_BTHW3[solid])
        assert torch.equal(batch.target_BTHW3[solid], batch.twin_BTHW3[solid])
        changed = (batch.target_BTHW3 != without.target_BTHW3).any(-1)
        shares.append(float(changed.float().mean()))
        assert torch.equal(batch.sources_BSHW3, without.sources_BSHW3), "photos stay free"
        assert not without.covered_BTHW.any()
    assert max(shares) > 0.05
