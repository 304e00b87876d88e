"""Traces and logs: what leaves is what the formats say, nothing when nobody asked, and nobody's secret."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from streamer.config import ServerConfig, TelemetrySettings
from streamer.logs import JsonLines
from streamer.stats import STAGES
from streamer.telemetry import NoTraces, open_traces
from streamer.transport.types import PictureTimes
from tests.streamer.calls import Camera, calling, gone, plain, served


def test_without_a_collector_there_are_no_traces() -> None:
    traces = open_traces(TelemetrySettings())
    assert isinstance(traces, NoTraces)
    trace = traces.call(1, "stub")
    trace.picture(PictureTimes(0.0, 0.0), "drawn")
    trace.end("")


async def test_a_call_is_traced_to_a_collector_stage_by_stage() -> None:
    pytest.importorskip("opentelemetry.sdk")
    got: list[dict[str, Any]] = []

    async def collect(request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        got.append(await request.json())
        return web.json_response({})

    collector = web.Application()
    collector.router.add_post("/v1/traces", collect)
    async with TestServer(collector, host="127.0.0.1") as there:
        settings = TelemetrySettings(otlp_endpoint=str(there.make_url("/v1/traces")), trace_every=10)
        async with served(ServerConfig(telemetry=settings)) as client, calling(client) as caller:
            await caller.start(Camera([plain((9, 9, 9))]))
            await caller.pictures(40)
            call = caller.call
            await client.delete(f"/session/{call}")
            await gone(client, call)
    assert call not in json.dumps(got)
    spans = [span for batch in got for part in batch["resourceSpans"][0]["scopeSpans"] for span in part["spans"]]
    whole = next(span for span in spans if span["name"] == "call")
    pictures = [span for span in spans if span["name"] == "picture"]
    assert 2 <= len(pictures) <= 10
    assert all(picture["parentSpanId"] == whole["spanId"] for picture in pictures)
    stages = [span for span in spans if span.get("parentSpanId") == pictures[0]["spanId"]]
    assert [stage["name"] for stage in sorted(stages, key=lambda one: int(one["endTimeUnixNano"]))] == list(STAGES)
    for stage in stages:
        since, until = int(stage["startTimeUnixNano"]), int(stage["endTimeUnixNano"])
        assert int(pictures[0]["startTimeUnixNano"]) <= since <= until <= int(pictures[0]["endTimeUnixNano"])


async def test_a_collector_that_is_away_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("opentelemetry.sdk")
    settings = TelemetrySettings(otlp_endpoint="http://127.0.0.1:9/v1/traces", trace_every=1)
    async with served(ServerConfig(telemetry=settings)) as client, calling(client) as caller:
        await caller.start(Camera([plain((9, 9, 9))]))
        await caller.pictures(20)
    assert sum("traces cannot be sent" in record.getMessage() for record in caplog.records) <= 1


def test_a_line_of_the_log_is_json_with_what_the_caller_added() -> None:
    record = logging.LogRecord("streamer.peer", logging.INFO, "", 0, "call %s ended: %s", ("abc", 'it "ended"\n'), None)
    record.__dict__.update({"call": 3, "age_p50_ms": None})
    said = json.loads(JsonLines().format(record))
    assert (said["call"], said["age_p50_ms"], said["level"], said["logger"]) == (3, None, "info", "streamer.peer")
    assert said["message"] == 'call abc ended: it "ended"\n'
    try:
        raise ValueError("broken")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["error"]
