"""A profile for a scraper: Prometheus' text exposition format 0.0.4, in base units (seconds, bytes, ratios).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import Summary

_MS = 1e-3
_QUANTILES = {"0.5": "p50", "0.9": "p90", "0.95": "p95", "0.99": "p99", "1": "max"}
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """A metric: its samples are (suffix of the name, labels, value)."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, Labels, float], ...]


def exposition(report: Report) -> str:
    """All that was measured; what was not has no metric."""
    subject = report.subject
    common = {"bundle": subject.bundle, "task": subject.task, "variant": subject.variant, "device": subject.device}
    families = (family for part in (_about, _answers, _generation, _rates, _resources) for family in part(report))
    return "".join(line + "\n" for family in families if family.samples for line in _lines(family, common))


def _lines(family: Family, common: Labels) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for suffix, labels, value in family.samples:
        joined = ",".join(f'{name}="{_quoted(text)}"' for name, text in {**common, **labels}.items())
        yield f"{family.name}{suffix}{{{joined}}} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    return repr(float(value))


def _summary(name: str, text: str, summaries: Iterable[tuple[Labels, Summary]], unit: float = _MS) -> Family:
    """Quantiles and counts; there is no sum, because a report does not keep one."""
    samples: list[tuple[str, Labels, float]] = []
    for labels, found in summaries:
        samples += [("", {**labels, "quantile": q}, unit * getattr(found, field)) for q, field in _QUANTILES.items()]
        samples.append(("_count", labels, found.count))
    return Family(name, "summary", text, tuple(samples))


def _gauge(name: str, text: str, *samples: tuple[Labels, float | None]) -> Family:
    known = tuple(("", labels, value) for labels, value in samples if value is not None)
    return Family(name, "gauge", text, known)


def _about(report: Report) -> Iterator[Family]:
    subject, machine = report.subject, report.machine
    yield _gauge("edgelm_profile_info", "What was profiled, and where.", ({
        "sha256": subject.sha256, "precision": subject.precision, "provider": subject.provider,
        "threads": str(subject.threads), "edgelm": subject.edgelm, "onnxruntime": subject.onnxruntime,
        "cpu": machine.cpu, "isa": " ".join(machine.isa), "cores": str(machine.cores), "system": machine.system,
    }, 1))  # fmt: skip
    yield _gauge("edgelm_profile_timestamp_seconds", "When it was profiled, since the epoch.", ({}, _time(report)))
    yield _gauge("edgelm_profile_duration_seconds", "How long the profile took.", ({}, report.seconds))
    yield _gauge("edgelm_profile_complete", "1, or 0 where it was interrupted.", ({}, float(report.complete)))
    if report.trust is not None:
        valid = float(report.trust.verdict == "VALID")
        yield _gauge("edgelm_profile_valid", "1 where the verdict is VALID, 0 where it is NOISY.", ({}, valid))


def _time(report: Report) -> float | None:
    try:
        return datetime.fromisoformat(report.created).timestamp()
    except (ValueError, OverflowError):
        return None


def _answers(report: Report) -> Iterator[Family]:
    if report.steady is not None:
        stages = [({"stage": name}, found) for name, found in report.steady.stages.items()]
        yield _summary("edgelm_answer_seconds", "From a text to its answer.", [({}, report.steady.total)])
        yield _summary("edgelm_stage_seconds", "What an answer spends in each stage.", stages)
    if report.cold is not None:
        stages = [({"stage": name}, found) for name, found in report.cold.stages.items()]
        yield _summary(
            "edgelm_cold_start_seconds", "From no process to its end after one answer.", [({}, report.cold.total)]
        )
        yield _summary("edgelm_cold_start_stage_seconds", "What a cold start spends in each stage.", stages)


def _generation(report: Report) -> Iterator[Family]:
    found = report.generation
    if found is None:
        return
    first, further = found.time_to_first_token, found.time_per_output_token
    yield _summary("edgelm_time_to_first_token_seconds", "From a text to the first token.", [({}, first)])
    yield _summary("edgelm_time_per_output_token_seconds", "From a token to the next.", [({}, further)])
    yield _summary("edgelm_tokens_per_second", "Tokens written a second.", [({}, found.tokens_per_second)], 1)
    yield _summary("edgelm_output_tokens", "Tokens of an answer.", [({}, found.output_tokens)], 1)
    yield _gauge("edgelm_lookup_accepted_ratio", "Proposed tokens that were right.", ({}, found.lookup))
    yield _gauge("edgelm_prefix_hit_ratio", "Prompts whose beginning was known.", ({}, found.prefix_hits))


def _rates(report: Report) -> Iterator[Family]:
    rates = {(one.batch, one.threads): one.texts_per_second.p50 for one in report.throughput or ()}
    yield _gauge("edgelm_texts_per_second", "Texts answered a second, the median.", *(
        ({"batch": str(batch), "threads": str(threads)}, rate) for (batch, threads), rate in rates.items()
    ))  # fmt: skip
    scenarios = report.scenarios
    if scenarios is None:
        return
    if scenarios.single_stream is not None:
        p90 = _MS * scenarios.single_stream.latency.p90
        yield _gauge("edgelm_single_stream_seconds", "One text at a time, the 90th percentile.", ({}, p90))
    if scenarios.server is not None:
        server = scenarios.server
        yield _gauge("edgelm_server_texts_per_second", "The highest arrival rate within the limit.", ({}, server.rate))
        yield _gauge(
            "edgelm_server_limit_seconds", "What the 99th percentile had to stay below.", ({}, _MS * server.limit)
        )
    if scenarios.offline is not None:
        rate = scenarios.offline.texts_per_second.p50
        yield _gauge("edgelm_offline_texts_per_second", "All texts there at once, the median.", ({}, rate))


def _resources(report: Report) -> Iterator[Family]:
    if report.memory is not None:
        memory = report.memory
        yield _gauge(
            "edgelm_resident_memory_bytes", "Resident memory of a process that does nothing but answer.",
            ({"when": "imported"}, memory.imported), ({"when": "loaded"}, memory.loaded),
            ({"when": "peak"}, memory.peak),
        )  # fmt: skip
        growth = None if memory.growth is None else memory.growth / 1000
        yield _gauge("edgelm_memory_growth_bytes_per_answer", "Growth after the first answers.", ({}, growth))
    if report.energy is not None:
        joules = report.energy.joules_per_answer
        yield _gauge("edgelm_answer_joules", "Energy of an answer, the whole processor.", ({}, joules))
    if report.ceiling is not None:
        share = report.ceiling.share
        yield _gauge("edgelm_ceiling_ratio", "The part reached of what this machine could do.", ({}, share))
