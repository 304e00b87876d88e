"""What comes with the package: small enough, described, proved, and in everybody's first picture without a download."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from engines import IdentityStore, Status, SwapSettings, load, store, weights
from engines.bench.puppet import Puppet
from engines.machine import Machine, multiplies_8_bits
from engines.registry import choose
from engines.store import Wanted

MOST_BYTES = 40_000_000
NEEDS_8_BITS = pytest.mark.skipif(not multiplies_8_bits(), reason="this processor has no instructions for 8 bits")
TINY = Wanted("tiny", "ort", precision="int8")


@pytest.fixture(autouse=True)
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new installation: nothing but what came with it."""
    monkeypatch.delenv(store.STORE_VARIABLE, raising=False)
    monkeypatch.setattr(store, "default_store", lambda: tmp_path)


def test_no_file_is_larger_than_a_repository_bears() -> None:
    sizes = {path: path.stat().st_size for path in store.SHIPPED.rglob("*") if path.is_file()}
    assert sizes
    assert max(sizes.values()) <= MOST_BYTES


def test_the_weights_say_what_they_are() -> None:
    path = store.shipped_weights("tiny")
    assert path is not None
    card = weights.check(path).card
    assert card.licence == "Apache-2.0"
    assert (card.stage, card.untrained, card.config.draws) == ("rollout", (), "change")
    assert card.revision not in ("", "unknown")
    assert "rendered people, who do not exist" in card.data
    assert card.metrics
    assert weights.card_path(path).is_file()


def test_the_engine_is_made_of_them_and_bound_to_nothing() -> None:
    path = store.shipped_weights("tiny")
    assert path is not None
    (entry,), broken = store.entries(store.SHIPPED)
    key = entry.manifest.key
    assert not broken
    assert (key.name, key.runtime, key.precision) == ("tiny", "ort", "int8")
    assert (key.machine, key.versions) == (Machine(), {})
    assert key.weights_sha256 == weights.inspect(path).sha256
    assert entry.manifest.weights.source == store.OF_THE_PACKAGE
    store.check_files(entry)


@NEEDS_8_BITS
def test_it_draws_without_a_download_and_without_torch() -> None:
    people = IdentityStore(None)
    session = load(SwapSettings(engine="tiny", label=False, label_off_reason="a test"))
    plain = load(SwapSettings(engine="proxy", label=False, label_off_reason="a test"))
    pictures = []
    for one in (session, plain):
        one.set_identity(people.load("amara"))
        state, puppet = one.init(), Puppet(people.load("henrik"), 240, 320, 25.0, 0)
        results = [
            one.step(state, rgb, number / 25) for number, rgb in enumerate(itertools.islice(puppet.frames(10), 10))
        ]
        assert results[-1].status == Status.DRAWN
        pictures.append(results[-1].rgb_HW3.astype(int))
        one.close()
    apart = np.abs(pictures[0] - pictures[1])
    assert apart.max() > 4, "the network changed nothing"
    assert apart.mean() < 8, "it is light on the proxy's face, and nothing else in the picture"


def test_the_choice_of_auto_can_run_here() -> None:
    name, why = choose("auto")
    assert name in ("proxy", "tiny")
    assert why
