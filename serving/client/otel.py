"""Spans and metrics of OpenTelemetry. It needs the package opentelemetry-api: the extra `opentelemetry`."""

from collections.abc import Mapping
from typing import Any

from serving.client.hooks import Attempt

NAME = "serving.client"
#: Seconds of attempts, by OpenTelemetry's name for calls of clients.
HISTOGRAM = "rpc.client.duration"


class OpenTelemetry:
    """A hook: each attempt is a span of the current trace, which goes on to the server, and a value of a histogram.

    Args:
        tracer_provider, meter_provider: None for those of the process.

    Raises:
        ImportError: opentelemetry-api is missing.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics, propagate, trace
        except ImportError as error:
            raise ImportError("opentelemetry-api is missing: pip install opentelemetry-api") from error
        self._trace, self._inject = trace, propagate.inject
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._seconds = meter.create_histogram(HISTOGRAM, unit="s", description="Seconds of the attempts of calls.")
        self._spans: dict[Attempt, Any] = {}

    def started(self, attempt: Attempt) -> Mapping[str, str]:
        """Begins a span. Returns the headers by which the server learns of it."""
        attributes = _attributes(attempt) | {
            "courier.request_id": attempt.request_id,
            "courier.attempt": attempt.number,
        }
        span = self._tracer.start_span(
            f"{attempt.method} {attempt.model}", kind=self._trace.SpanKind.CLIENT, attributes=attributes
        )
        self._spans[attempt] = span
        headers: dict[str, str] = {}
        self._inject(headers, context=self._trace.set_span_in_context(span))
        return headers

    def ended(self, attempt: Attempt, code: str, seconds: float) -> None:
        """Ends the span."""
        self._seconds.record(seconds, _attributes(attempt) | {"rpc.status": code})
        span = self._spans.pop(attempt)
        span.set_attribute("rpc.status", code)
        if code not in ("OK", "CANCELLED"):  # A hedged attempt that was not needed is no failure.
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, code))
        span.end()


def _attributes(attempt: Attempt) -> dict[str, Any]:
    """What groups of attempts have in common. The ID of a request would make a series of each."""
    return {
        "rpc.system": "rest" if "://" in attempt.endpoint else "grpc",
        "rpc.method": attempt.method,
        "server.address": attempt.endpoint,
        "courier.model": attempt.model,
        "courier.signature": attempt.signature or "",
        "courier.label": attempt.label or "",
    }
