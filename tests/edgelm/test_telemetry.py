"""A program that uses OpenTelemetry sees durations, tokens and spans of its answers, and no text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import edgelm
from edgelm.telemetry import instrument

DATA = Path(__file__).parent.parent / "data"
TEXT = "a secret review of a customer"


class Program:
    """The providers of a program, and what they were given."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self.meters = MeterProvider([self._reader])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))

    def points(self) -> dict[str, list[Any]]:
        """The points of every metric by its name."""
        data = self._reader.get_metrics_data()
        assert data is not None
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: list(metric.data.data_points) for metric in scope.metrics}

    @property
    def spans(self) -> tuple[Any, ...]:
        return self._exporter.get_finished_spans()


def test_a_classifier_is_recorded_without_its_text() -> None:
    program = Program()
    model = edgelm.load(DATA / "tiny-classifier", task="sentiment")
    end = instrument(model, meter_provider=program.meters, tracer_provider=program.tracers)
    result = model(TEXT)
    model.batch([TEXT, TEXT])
    end()
    model(TEXT)
    points = program.points()
    assert set(points) == {"gen_ai.server.request.duration", "gen_ai.client.token.usage"}
    (duration,) = points["gen_ai.server.request.duration"]
    assert duration.count == 3
    assert duration.sum > result.timings["total"] / 1000
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "classify",
        "gen_ai.provider.name": "edgelm",
        "gen_ai.request.model": "tiny-classifier",
    }
    (tokens,) = points["gen_ai.client.token.usage"]
    assert (tokens.sum, tokens.attributes["gen_ai.token.type"]) == (3 * result.tokens, "input")
    first, *_ = program.spans
    assert len(program.spans) == 3
    assert first.name == "classify tiny-classifier"
    assert first.end_time - first.start_time == int(result.timings["total"] * 1e6)
    assert first.attributes["edgelm.timings.infer"] == result.timings["infer"]
    assert "secret" not in first.to_json()


def test_a_writer_has_the_times_of_its_tokens() -> None:
    program = Program()
    model = edgelm.load(DATA / "tiny-generator", task="summary")
    instrument(model, meter_provider=program.meters, tracer_provider=program.tracers)
    with program.tracers.get_tracer("till").start_as_current_span("sale") as sale:
        result = model(TEXT, max_new_tokens=8, ignore_eos=True)
    points = program.points()
    by_kind = {point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage"]}
    assert by_kind == {"input": result.prompt_tokens, "output": 8}
    (first,) = points["gen_ai.server.time_to_first_token"]
    assert first.sum == pytest.approx(result.timings["time_to_first_token"] / 1000)
    (token,) = points["gen_ai.server.time_per_output_token"]
    assert token.sum == pytest.approx(result.timings["decode"] / 1000 / 7)
    answer, *_ = program.spans
    assert answer.name == f"text_completion {result.bundle}"
    assert answer.parent.span_id == sale.get_span_context().span_id
    assert answer.attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert result.text.strip() not in answer.to_json() or not result.text.strip()


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    model = edgelm.load(DATA / "tiny-classifier", task="sentiment")
    with pytest.raises(edgelm.MissingExtra, match=r"edgelm\[otel\]"):
        instrument(model)
