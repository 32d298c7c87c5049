"""OpenTelemetry: metrics and a span for every answer of a model. Needs the extra: pip install 'edgelm[otel]'.

Names are those of the semantic conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai), as a
server has them, which here is the same process. No text of a customer, and no answer, is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from time import time_ns
from typing import TYPE_CHECKING, Any

from edgelm.extras import extra
from edgelm_runtime.results import EmbeddingResult, TextResult

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import TracerProvider

# Seconds. The conventions begin at 10 ms; a review takes 1.
BOUNDARIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
TOKEN_BOUNDARIES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)


def instrument(
    model: Any, *, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
) -> Callable[[], None]:
    """Record every further answer of a model (of `edgelm.load`) until the function that is returned is called.

    Providers are the program's own; None are the global ones. Metrics: `gen_ai.server.request.duration`,
    `gen_ai.server.time_to_first_token`, `gen_ai.server.time_per_output_token` (seconds), `gen_ai.client.token.usage`.
    A span has the stages in milliseconds as `edgelm.timings.*`, and stands below the caller's own where that is in the
    thread that answers. Raises MissingExtra where opentelemetry-api is not installed.
    """
    with extra("otel"):
        from opentelemetry import metrics, trace

    meter = metrics.get_meter("edgelm", version("edgelm"), meter_provider)
    tracer = trace.get_tracer("edgelm", version("edgelm"), tracer_provider)
    instruments = _Instruments(meter)

    def seen(result: Any) -> None:
        end = time_ns()
        attributes = _attributes(result)
        instruments.record(result, attributes)
        span = tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {result.bundle}",
            start_time=end - int(result.timings["total"] * 1e6),
            attributes={**attributes, **_details(result)},
        )
        span.end(end)

    end: Callable[[], None] = model.observe(seen)
    return end


class _Instruments:
    """The histograms of one model."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str) -> Any:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=list(BOUNDARIES))

        self._duration = seconds("gen_ai.server.request.duration", "From a text to its answer")
        self._first = seconds("gen_ai.server.time_to_first_token", "From a text to the answer's first token")
        self._token = seconds("gen_ai.server.time_per_output_token", "From one token of an answer to the next")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens read and written",
            explicit_bucket_boundaries_advisory=list(TOKEN_BOUNDARIES),
        )

    def record(self, result: Any, attributes: Mapping[str, str]) -> None:
        self._duration.record(result.timings["total"] / 1000, attributes)
        for kind, count in _tokens(result).items():
            self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        first = result.timings.get("time_to_first_token")
        if first is not None:
            self._first.record(first / 1000, attributes)
            if result.tokens > 1:
                self._token.record(result.timings["decode"] / 1000 / (result.tokens - 1), attributes)


def _attributes(result: Any) -> dict[str, str]:
    """What metrics are split by: few values each."""
    names = {TextResult: "text_completion", EmbeddingResult: "embeddings"}
    return {
        "gen_ai.operation.name": names.get(type(result), "classify"),
        "gen_ai.provider.name": "edgelm",
        "gen_ai.request.model": result.bundle,
    }


def _tokens(result: Any) -> dict[str, int]:
    if isinstance(result, TextResult):
        return {"input": result.prompt_tokens, "output": result.tokens}
    return {"input": result.tokens}


def _details(result: Any) -> dict[str, Any]:
    """What only a span has: numbers, the language and why the answer ended; never a text."""
    usage = {f"gen_ai.usage.{kind}_tokens": count for kind, count in _tokens(result).items()}
    stages = {f"edgelm.timings.{stage}": value for stage, value in result.timings.items()}
    ended = {"gen_ai.response.finish_reasons": [result.finish_reason]} if isinstance(result, TextResult) else {}
    return {**usage, **stages, **ended, "edgelm.language": result.language, "edgelm.windows": result.windows}
