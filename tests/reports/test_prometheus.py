"""The metrics of a profile, read by the parser of Prometheus' own client library."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from edgelm.reports.prometheus import exposition
from edgelm_runtime.profile import report as parts
from edgelm_runtime.profile.reading import parse_report
from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import summarize
from tests.runtime.profile.filled import FILLED, ODD, PATHS, edited


def read(report: Report) -> dict[str, Metric]:
    """The families by name; each occurs once."""
    text = exposition(report)
    found = list(text_string_to_metric_families(text))
    assert len({family.name for family in found}) == len(found)
    assert text.endswith("\n")
    return {family.name: family for family in found}


def test_every_family_is_documented_typed_and_in_base_units() -> None:
    found = read(FILLED)
    assert len(found) > 20
    for name, family in found.items():
        assert re.fullmatch(r"edgelm_[a-z0-9_]+", name)
        assert not name.endswith(("_ms", "_milliseconds", "_mb", "_percent"))
        assert family.type in ("summary", "gauge")
        assert len(family.documentation) > 10
        series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(set(series)) == len(series) > 0


def test_times_are_seconds() -> None:
    total = summarize([1.0, 2.0, 3.0, 4.0])
    steady = replace(required(FILLED.steady), total=total, stages={"infer": total})
    found = read(replace(FILLED, steady=steady))
    samples = found["edgelm_answer_seconds"].samples
    quantiles = {one.labels["quantile"]: one.value for one in samples if "quantile" in one.labels}
    assert quantiles == pytest.approx({"0.5": 0.002, "0.9": 0.004, "0.95": 0.004, "0.99": 0.004, "1": 0.004})
    assert [one.value for one in samples if one.name.endswith("_count")] == [4]
    assert {one.labels.get("stage") for one in found["edgelm_stage_seconds"].samples} == {"infer"}


def required(found: parts.Steady | None) -> parts.Steady:
    assert found is not None
    return found


def test_what_was_not_measured_has_no_metric() -> None:
    nothing = {field.name: None for field in fields(Report) if field.default is None}
    assert set(read(replace(FILLED, **nothing))) == {
        "edgelm_profile_info", "edgelm_profile_timestamp_seconds", "edgelm_profile_duration_seconds",
        "edgelm_profile_complete",
    } - ({"edgelm_profile_timestamp_seconds"} if FILLED.created.startswith("名") else set())  # fmt: skip
    memory = parts.Memory(None, None, 7, None, None, ())
    found = read(replace(FILLED, memory=memory))
    assert [one.labels["when"] for one in found["edgelm_resident_memory_bytes"].samples] == ["peak"]


def test_when_it_was_measured_is_seconds_since_the_epoch() -> None:
    found = read(replace(FILLED, created="1970-01-02T00:00:00+00:00"))
    assert found["edgelm_profile_timestamp_seconds"].samples[0].value == 86_400


@given(st.text(max_size=40))
def test_labels_come_back_as_they_were(name: str) -> None:
    found = read(replace(FILLED, subject=replace(FILLED.subject, bundle=name)))
    assert found["edgelm_profile_complete"].samples[0].labels["bundle"] == name


@settings(max_examples=100)
@given(st.sampled_from(PATHS), ODD)
def test_whatever_can_be_read_can_be_scraped(path: tuple[object, ...], value: object) -> None:
    try:
        report = parse_report(edited(path, value))
    except ValueError:
        return
    assert all(not math.isnan(one.value) for family in read(report).values() for one in family.samples)
