"""Spans and metrics: by a stand-in for opentelemetry-api, or by the package with its SDK where they are installed."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from serving.client.client import CourierClient
from serving.client.otel import HISTOGRAM, OpenTelemetry
from serving.client.retries import Retries
from tests.serving.client.replicas import Failure, GrpcReplica, doubled


class Span:
    """What the stand-in keeps of a span, in the words of the SDK."""

    def __init__(self, number, name, kind, attributes):
        self.name, self.kind, self.attributes, self.ended = name, kind, dict(attributes), False
        self.context = SimpleNamespace(span_id=number, trace_id=7)
        self.status = SimpleNamespace(status_code="UNSET")

    def set_attribute(self, name, value):
        self.attributes[name] = value

    def set_status(self, status):
        self.status = status

    def end(self):
        self.ended = True


def stand_in(spans, values):
    """The modules of opentelemetry-api that the hook uses."""

    def start_span(name, kind, attributes):
        spans.append(Span(len(spans) + 1, name, kind, attributes))
        return spans[-1]

    def inject(headers, context):
        headers["traceparent"] = f"00-{context.context.trace_id:032x}-{context.context.span_id:016x}-01"

    def record(value, attributes):
        values.append((value, attributes))

    histogram = SimpleNamespace(record=record)
    parts = {
        "trace": SimpleNamespace(
            get_tracer=lambda name, tracer_provider: SimpleNamespace(start_span=start_span),
            set_span_in_context=lambda span: span,
            SpanKind=SimpleNamespace(CLIENT="CLIENT"),
            StatusCode=SimpleNamespace(ERROR="ERROR"),
            Status=lambda status_code, description: SimpleNamespace(status_code=status_code),
        ),
        "metrics": SimpleNamespace(
            get_meter=lambda name, meter_provider: SimpleNamespace(
                create_histogram=lambda name, unit, description: histogram
            )
        ),
        "propagate": SimpleNamespace(inject=inject),
    }
    package = ModuleType("opentelemetry")
    vars(package).update(parts)
    return {"opentelemetry": package, **{f"opentelemetry.{name}": part for name, part in parts.items()}}


def with_stand_in(monkeypatch):
    """(hook, its spans, the attributes of what its histogram got)."""
    spans, values = [], []
    for name, module in stand_in(spans, values).items():
        monkeypatch.setitem(sys.modules, name, module)
    return OpenTelemetry(), lambda: spans, lambda: [attributes for _, attributes in values]


def with_sdk():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))

    def points():
        (resource,) = reader.get_metrics_data().resource_metrics
        (metric,) = resource.scope_metrics[0].metrics
        assert metric.name == HISTOGRAM
        return [dict(point.attributes) for point in metric.data.data_points for _ in range(point.count)]

    return OpenTelemetry(tracers, MeterProvider([reader])), spans.get_finished_spans, points


def test_spans_and_values_of_attempts(monkeypatch):
    has_sdk = importlib.util.find_spec("opentelemetry") and importlib.util.find_spec("opentelemetry.sdk")
    hook, spans, points = with_sdk() if has_sdk else with_stand_in(monkeypatch)
    server = GrpcReplica().start()

    def respond(asked):
        if len(server.asked) == 1:
            raise Failure("UNAVAILABLE")
        return doubled(asked)

    server.respond = respond
    with CourierClient(
        server.target, hooks=[hook], retries=Retries(first_wait_seconds=0), timeout_seconds=10
    ) as client:
        client.predict("m", "s", {"x": np.ones(1)}, request_id="mine")
    server.close()
    failed, answered = spans()
    assert failed.name == answered.name == "Predict m" and "CLIENT" in str(answered.kind)
    for number, (span, code, status) in enumerate([(failed, "UNAVAILABLE", "ERROR"), (answered, "OK", "UNSET")], 1):
        assert span.attributes["rpc.status"] == code and status in str(span.status.status_code)
        assert span.attributes["courier.attempt"] == number and span.attributes["courier.request_id"] == "mine"
        assert span.attributes["server.address"] == server.target and span.attributes["courier.label"] == "stable"
    sent = [asked.headers["traceparent"].split("-")[1:3] for asked in server.asked]
    assert sent == [[f"{s.context.trace_id:032x}", f"{s.context.span_id:016x}"] for s in (failed, answered)]
    assert [point["rpc.status"] for point in points()] == ["UNAVAILABLE", "OK"]
    assert all("courier.request_id" not in point for point in points())
    assert not hook._spans


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match="pip install opentelemetry-api"):
        OpenTelemetry()
