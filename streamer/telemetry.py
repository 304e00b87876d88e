"""Traces for OpenTelemetry, where they are wanted: one span for each call, and of some pictures one for each stage.

Needs the extra `telemetry` (opentelemetry-sdk). Its own exporters want another protobuf than mediapipe, so the spans go
out as OTLP's JSON by the standard library, in the SDK's thread.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.error import URLError

from engines import EngineUnavailable
from streamer.config import TelemetrySettings
from streamer.stats import STAGES
from streamer.transport.types import PictureTimes

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult

log = logging.getLogger(__name__)

SEND_S = 5.0
KINDS: dict[type, str] = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}


class CallTrace(Protocol):
    """The trace of one call."""

    def picture(self, times: PictureTimes, shows: str) -> None:
        """A picture was sent. On the event loop; cheap for most."""

    def end(self, why: str) -> None: ...


class Traces(Protocol):
    """Where traces go."""

    def call(self, number: int, engine: str) -> CallTrace: ...

    def close(self) -> None:
        """Sends what is left. Waits for it: not on the event loop."""


class _NoTrace:
    def picture(self, times: PictureTimes, shows: str) -> None:
        """Nobody wants it."""

    def end(self, why: str) -> None:
        """Nobody wants it."""


class NoTraces:
    """Nobody collects traces."""

    def call(self, number: int, engine: str) -> CallTrace:
        return _NoTrace()

    def close(self) -> None:
        """Nothing is left."""


def open_traces(settings: TelemetrySettings) -> Traces:
    """Raises EngineUnavailable, with the command that mends it, where the extra is not installed."""
    if settings.otlp_endpoint is None:
        return NoTraces()
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise EngineUnavailable(
            "traces need OpenTelemetry: run `pip install 'vividstream[telemetry]'`, or leave --otlp-endpoint out"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "vividstream"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(settings.otlp_endpoint)))
    return _OpenTelemetry(provider, settings.trace_every)


class _OpenTelemetry:
    def __init__(self, provider: Any, every: int) -> None:
        self._provider, self._every = provider, every

    def call(self, number: int, engine: str) -> CallTrace:
        return _Call(self._provider.get_tracer("vividstream"), number, engine, self._every)

    def close(self) -> None:
        self._provider.shutdown()


class _Call:
    def __init__(self, tracer: Any, number: int, engine: str, every: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer, self._every, self._seen = tracer, every, 0
        self._span = tracer.start_span("call", attributes={"vividstream.call": number, "vividstream.engine": engine})
        self._context = set_span_in_context(self._span)

    def picture(self, times: PictureTimes, shows: str) -> None:
        self._seen += 1
        if self._seen % self._every != 1 % self._every or times.sent_s is None:
            return
        from opentelemetry.trace import set_span_in_context

        offset_ns = time.time_ns() - time.monotonic_ns()

        def unix_ns(at_s: float) -> int:
            return round(at_s * 1e9) + offset_ns

        before_s = times.first_packet_s
        span = self._tracer.start_span(
            "picture", context=self._context, start_time=unix_ns(before_s), attributes={"vividstream.shows": shows}
        )
        inside = set_span_in_context(span)
        for stage, name in STAGES.items():
            at_s: float | None = getattr(times, name)
            if at_s is not None:
                self._tracer.start_span(stage, context=inside, start_time=unix_ns(before_s)).end(unix_ns(at_s))
                before_s = at_s
        span.end(unix_ns(times.sent_s))

    def end(self, why: str) -> None:
        self._span.set_attribute("vividstream.ended", why)
        self._span.set_attribute("vividstream.pictures", self._seen)
        self._span.end()


def _exporter(endpoint: str) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class JsonExporter(SpanExporter):
        """OTLP over HTTP, as JSON. A collector that is away costs its traces, and one line in the log a minute."""

        complain_s = float("-inf")

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            try:
                _post(endpoint, as_otlp(spans))
            except (OSError, URLError) as error:
                if time.monotonic() - self.complain_s > 60:
                    self.complain_s = time.monotonic()
                    log.warning("traces cannot be sent: %s", error)
                return SpanExportResult.FAILURE
            return SpanExportResult.SUCCESS

    return JsonExporter()


def _post(endpoint: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(endpoint, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=SEND_S):
        pass


def as_otlp(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """ExportTraceServiceRequest, in OTLP's JSON: ids in hex, times as decimal strings."""
    if not spans:
        return {"resourceSpans": []}
    found = [_span(span) for span in spans]
    scope = {"scope": {"name": "vividstream"}, "spans": found}
    resource = {"attributes": _attributes(spans[0].resource.attributes)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None
    parent = {} if span.parent is None else {"parentSpanId": f"{span.parent.span_id:016x}"}
    return {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        **parent,
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
    }


def _attributes(values: Any) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {KINDS[type(value)]: str(value) if type(value) is int else value}}
        for key, value in values.items()
        if type(value) in KINDS
    ]
