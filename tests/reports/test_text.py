"""The table for a terminal: what it says, that it fits, and what no text of a bundle can do to it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelm.reports.layout import cells, cut, number, percent, scaled, size, table, wrapped
from edgelm.reports.text import page
from edgelm_runtime.profile import report as parts
from edgelm_runtime.profile.reading import parse_report
from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import summarize
from tests.runtime.profile.filled import FILLED, ODD, PATHS, edited


def small(**found: object) -> Report:
    """A report of facts and `found`."""
    nothing = {field.name: field.default for field in fields(Report) if field.default in (None, ())}
    return replace(FILLED, **{**nothing, **found})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"), (0.0, "0"), (1, "1.00"), (9.996, "10.0"), (99.96, "100"), (999.6, "1,000"), (1234.5, "1,230"),
        (0.01234, "0.0123"), (0.00012, "1.20e-04"), (-3.14159, "-3.14"), (1e300, "1.00e+300"), (None, "n/a"),
        (float("nan"), "n/a"), (float("inf"), "n/a"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_that_count(value: float | None, said: str) -> None:
    assert number(value) == said


@given(st.floats(1e-3, 1e9))
def test_a_number_says_no_more_than_a_half_percent_else(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_units_are_named() -> None:
    assert (size(123_456_789), size(999), size(None)) == ("123 MB", "999 B", "n/a")
    assert scaled(38.1e9, "B/s") == "38.1 GB/s"
    assert (percent(0.314159), percent(None)) == ("31.4 %", "n/a")


def test_chinese_names_are_two_columns_wide() -> None:
    assert (cells("情感 zh"), cells("e\u0301"), cut("情感分析", 5), cut("情感", 4)) == (7, 1, "情感…", "情感")
    lines = list(table([("名字", "ms"), ("情感分析", "1.00"), ("a", "12.0")], 40))
    assert lines == ["名字        ms", "情感分析  1.00", "a         12.0"]
    assert len({cells(line) for line in lines}) == 1


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=200), st.integers(24, 80))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    lines = list(wrapped(text, width))
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("width", [24, 40, 59, 60, 80])
def test_a_full_report_fits_every_width(width: int) -> None:
    lines = page(FILLED, width).splitlines()
    assert max(map(cells, lines)) <= width
    joined = " ".join(" ".join(lines).split())
    for said in ("answer, ms", "cold start, ms", "generation", "server", "texts/s", "memory", "energy", "operators",
                 "ceiling", "advice", "left out", "not counted"):  # fmt: skip
        assert said in joined


def test_a_wide_terminal_gets_no_wider_table() -> None:
    assert page(FILLED, 200) == page(FILLED, 80)
    assert page(FILLED, 0) == page(FILLED, 24)


def test_the_numbers_are_those_of_the_report() -> None:
    times = summarize([1.0, 2.0, 3.0, 4.0, 1234.0])
    found = page(small(cold=parts.ColdStart({"first_answer": times}, times)))
    rows = [line.split() for line in found.splitlines()]
    assert ["first", "answer", "3.00", "1,230", "1,230", "1,230", "1,230", "5", "1.00", "..", "1,230"] in rows
    assert "energy      n/a" in found
    assert "generation" not in found
    memory = parts.Memory(61_000_000, None, 116_400_000, 1_900.0, 900.0, ())
    tuned = replace(FILLED.subject, why="the fastest that edgelm tune measured here")
    found = page(small(memory=memory, throughput=(), advice=(), subject=tuned))
    assert "chosen as   the fastest that edgelm tune measured here" in found
    assert "peak 116 MB; after imports 61.0 MB, after load n/a; growth" in found
    assert "advice" not in found
    still = page(small(memory=replace(memory, growth=151_000.0, noise=930_000.0))).split()
    assert "growth none seen (less than 930 kB per 1,000 answers)" in " ".join(still)


def test_an_interrupted_noisy_report_says_so_first() -> None:
    trust = parts.Trust("NOISY", ("other programs took 38% of the 2 usable cores",), (), 0.38, None)
    lines = page(small(complete=False, trust=trust)).splitlines()
    assert lines[0].endswith(": NOISY")
    assert lines[1:3] == [
        "  interrupted: what was measured until then",
        "  other programs took 38% of the 2 usable cores",
    ]


def test_no_name_steers_the_terminal() -> None:
    hostile = replace(FILLED.subject, bundle="\x1b[2J\r\n" + "x" * 10_000, notes=("\x07\x9b31m",))
    found = page(small(subject=hostile), 40)
    assert not set(found) & {"\x1b", "\r", "\x07", "\x9b"}
    assert all(cells(line) <= 40 for line in found.splitlines())


@settings(max_examples=100)
@given(st.sampled_from(PATHS), ODD)
def test_whatever_can_be_read_can_be_shown(path: tuple[object, ...], value: object) -> None:
    try:
        found = parse_report(edited(path, value))
    except ValueError:
        return
    assert json.dumps(page(found, 40))


def test_a_cold_start_also_says_when_the_first_answer_was_there() -> None:
    first, end, total = summarize([300.0]), summarize([90.0]), summarize([390.0])
    found = page(small(cold=parts.ColdStart({"first_answer": first, "exit": end}, total)))
    assert "first answer after 300 ms: the total without exit" in found


def test_without_advice_the_page_says_what_was_tried() -> None:
    found = page(small(advice=(), tried=("model.batch(texts)", "--threads 1")))
    assert "- nothing that was tried was faster: model.batch(texts), --threads 1" in found
