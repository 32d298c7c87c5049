"""Reports that were written by a profile, and files that only look like one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelm_runtime.errors import InputError
from edgelm_runtime.profile.reading import MAX_BYTES, parse_report, read_report
from edgelm_runtime.profile.report import Report
from tests.runtime.profile.filled import FILLED, ODD, PATHS, WRITTEN, edited


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "报告 1.json"
    path.write_bytes(WRITTEN + b"\n")
    assert read_report(path) == FILLED


@settings(max_examples=300)
@given(st.sampled_from(PATHS), ODD)
def test_any_edit_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    start, message = perf_counter(), ""
    try:
        found = parse_report(edited(path, value))
    except ValueError as error:
        message = str(error)
    else:
        assert parse_report(json.dumps(found.to_dict()).encode("ascii")) == found
    assert len(message) < 600
    assert perf_counter() - start < 5


@settings(max_examples=100)
@given(st.integers(0, len(WRITTEN) - 1))
def test_a_report_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"valid JSON|must be a JSON object"):
        parse_report(WRITTEN[:length])


@settings(max_examples=100)
@given(st.sampled_from([path for path in PATHS if path and isinstance(path[-1], str)]))
def test_a_field_that_is_missing_is_named_or_has_a_default(path: tuple[Any, ...]) -> None:
    tree = json.loads(WRITTEN)
    inside = tree
    for key in path[:-1]:
        inside = inside[key]
    del inside[path[-1]]
    message = str(path[-1])
    try:
        parse_report(json.dumps(tree).encode("ascii"))
    except ValueError as error:
        message = str(error)
    assert str(path[-1]) in message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("schema",), 2, "its schema is '2', this edgelm reads 1"),
        (("schema",), None, "its schema is 'None'"),
        (("schema",), True, "schema must be of type int"),
        (("subject", "threads"), True, "subject.threads must be of type int"),
        (("subject", "threads"), 2.5, "subject.threads must be of type int"),
        (("complete",), 1, "complete must be of type bool"),
        (("seconds",), "2", "seconds must be of type float"),
        (("seconds",), 10**400, "seconds must be within 64 bits"),
        (("machine", "memory"), -(10**30), "machine.memory must be within 64 bits"),
        (("machine", "isa"), "avx2", "machine.isa must be a list"),
        (("machine", "isa"), [1], r"machine.isa\[0\] must be of type str"),
        (("steady", "stages"), [], "steady.stages must be an object"),
        (("steady", "total"), 1, "steady.total must be an object"),
        (("cold",), [], "cold must be an object"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(path: tuple[str, ...], value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_report(edited(path, value))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "not valid JSON in UTF-8"),
        (b"[" * 200_000, "nested deeper"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested deeper"),
        (b'{"schema": 1, "schema": 1}', "a key occurs twice"),
        (b'{"schema": NaN}', "NaN is not JSON"),
        (b'{"schema": 1e999}', "outside the range"),
        (b'{"schema": "\\ud800"}', "lone surrogate"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b" " * (MAX_BYTES + 1) + b"{}", "at most"),
    ],
)
def test_what_is_no_report_is_an_error_of_the_input(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said) as raised:
        read_report(path)
    assert "profile again with --json" in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_too(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_report(path)


def test_fields_that_were_added_later_are_ignored_and_parts_may_be_missing() -> None:
    tree = json.loads(WRITTEN)
    tree["carbon"] = {"grams": 1}
    tree["subject"]["colour"] = "blue"
    for name in ("cold", "steady", "trust", "left_out"):
        del tree[name]
    found = parse_report(json.dumps(tree).encode("utf-8"))
    assert found == replace(FILLED, cold=None, steady=None, trust=None, left_out=())
    assert isinstance(found, Report)
