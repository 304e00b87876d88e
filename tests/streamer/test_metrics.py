"""/metrics of a real call: readable by Prometheus, complete, and without anybody's secret."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import defaultdict

from streamer.loop_lag import LoopLag
from streamer.metrics import Family
from streamer.stats import STAGES, Histogram
from tests.streamer.calls import Camera, Tone, calling, gone, plain, served

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$')
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\.)*)"')


def read(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, as Prometheus' text format has them (0.0.4). Fails on anything that is not in that format."""
    kinds: dict[str, str] = {}
    found: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name not in kinds, f"{name} twice"
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            sample = SAMPLE.match(line)
            assert sample, line
            name, labels = sample[1], dict(LABEL.findall(sample[2] or ""))
            family = re.sub("_(bucket|sum|count)$", "", name)
            assert kinds.get(name, kinds.get(family)) in ("gauge", "counter", "histogram"), line
            assert labels not in [one for one, _ in found[name]], f"{line} twice"
            found[name].append((labels, float(sample[3])))
    return found


async def test_metrics_of_a_call_can_be_read_and_say_everything() -> None:
    async with served() as client, calling(client) as caller:
        await caller.start(Camera([plain((200, 40, 40))]), Tone())
        await caller.until(lambda: len(caller.reports) >= 3)
        response = await client.get("/metrics")
        found = read(await response.text())
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        await client.delete(f"/session/{caller.call}")
        await gone(client, caller.call)
        after = read(await (await client.get("/metrics")).text())

    ages = {
        (labels["stage"], labels["quantile"]): value
        for labels, value in found["vividstream_stage_age_seconds"]
    }  # fmt: skip
    assert set(ages) == {(stage, quantile) for stage in STAGES for quantile in ("0.5", "0.95", "0.99")}
    medians = [ages[stage, "0.5"] for stage in STAGES]
    assert medians == sorted(medians), "each stage is later than the one before"
    assert 0 < medians[-1] < 0.5
    what = {labels["what"]: value for labels, value in found["vividstream_received_total"]}
    assert what["packets"] > 50
    assert {"nacks", "plis", "recovered"} <= set(what)
    sent = {labels["what"]: value for labels, value in found["vividstream_sent_total"]}
    assert sent["pictures"] > 30
    assert {labels["way"]: value > 500 for labels, value in found["vividstream_bits_per_second"]} == {
        "in": True, "out": True,
    }  # fmt: skip
    assert found["vividstream_loop_lag_seconds_count"][0][1] > 10
    assert found["vividstream_camera_silent"] == [({"call": "1"}, 0.0)]
    # What ended is still counted, and its own series are gone.
    assert "vividstream_fps" not in after
    whole = [value for labels, value in after["vividstream_picture_age_seconds_count"] if labels["stage"] == "sent"]
    assert whole[0] >= sent["pictures"] - 40
    assert after["vividstream_calls_total"] == [({}, 1.0)]


def test_a_histogram_is_cumulative_and_in_seconds() -> None:
    histogram = Histogram((5, 10))
    for value_ms in (1.0, 5.0, 7.0, 100.0):
        histogram.add(value_ms)
    family = Family("x_seconds", "help", "histogram")
    family.add_histogram(histogram, ("stage", 'a "b"\\'))
    found = read(family.text())
    assert [value for _, value in found["vividstream_x_seconds_bucket"]] == [2, 3, 4]
    assert [labels["le"] for labels, _ in found["vividstream_x_seconds_bucket"]] == ["0.005", "0.01", "+Inf"]
    assert math.isclose(found["vividstream_x_seconds_sum"][0][1], 0.113)


async def test_the_lag_of_a_loop_that_is_held_up_is_seen() -> None:
    lag = LoopLag()
    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0.15)
    time.sleep(0.25)  # noqa: ASYNC251  what must never happen
    await asyncio.sleep(0.05)
    watching.cancel()
    assert max(lag.window.values(time.monotonic())) > 100
