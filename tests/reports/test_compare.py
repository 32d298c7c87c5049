"""Two profiles side by side: what counts as slower, what is refused, and the Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from edgelm.reports.compare import BETTER, SAME, UNSURE, WORSE, Comparison, Figure, Row, check, compare, markdown
from edgelm_runtime.errors import InputError
from edgelm_runtime.profile import report as parts
from edgelm_runtime.profile.reading import parse_report
from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import FEWEST_FOR_P99, Summary, summarize
from tests.runtime.profile.filled import FILLED, ODD, PATHS, edited

NARROW = (0.99, 1.01)


def figure(value: float, low: float = NARROW[0], high: float = NARROW[1]) -> Figure:
    return Figure(value, value * low, value * high)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (figure(1.0), figure(1.2), WORSE),
        (figure(1.2), figure(1.0), BETTER),
        (figure(1.0), figure(1.08), SAME),  # beyond the noise, within the tolerance
        (figure(1.0), figure(1.2, 0.8, 1.4), SAME),  # beyond the tolerance, within the noise
        (figure(1.0, 0.5, 1.5), figure(1.2), SAME),
        (figure(1.0), figure(1.1), SAME),  # as much as is tolerated
        (figure(0.0), figure(1.0), WORSE),
        (figure(0.0), figure(0.0), SAME),
        (Figure(1.0, None, None), figure(9.0), UNSURE),
        (figure(1.0), Figure(9.0, None, None), UNSURE),
    ],
)
def test_worse_is_beyond_both_the_noise_and_the_tolerance(old: Figure, new: Figure, verdict: str) -> None:
    assert Row("", old, new).verdict(0.1) == verdict
    swapped = {WORSE: BETTER, BETTER: WORSE}
    assert Row("", old, new, more=True).verdict(0.1) == swapped.get(verdict, verdict)
    assert Row("", new, old).verdict(0.1) == swapped.get(verdict, verdict)


def test_a_stage_that_nobody_feels_is_no_reason() -> None:
    row = Row("", figure(0.01), figure(0.02), least=0.02)
    assert row.verdict(0.1) == SAME
    assert replace(row, least=0.005).verdict(0.1) == WORSE


def measured(scale: float, count: int = 500) -> Report:
    """A report whose every time is `scale` times what it was."""
    times = [scale * (1 + 0.001 * (at % 10)) for at in range(count)]
    total, rates = summarize(times), summarize([1000 / ms for ms in times])
    steady = replace(_steady(), stages={"infer": total}, total=total, drift=0.0)
    generation = replace(_generation(), time_to_first_token=total, time_per_output_token=total, tokens_per_second=rates)
    scenarios = parts.Scenarios(None, _server(scale), parts.Offline(rates, 8))
    return replace(
        FILLED, steady=steady, cold=parts.ColdStart({}, total), generation=generation, scenarios=scenarios,
        throughput=(parts.Throughput(4, 2, rates),),
    )  # fmt: skip


def _steady() -> parts.Steady:
    assert FILLED.steady is not None
    return FILLED.steady


def _generation() -> parts.Generation:
    assert FILLED.generation is not None
    return FILLED.generation


def _server(scale: float) -> parts.Server:
    latency = summarize([1.0])
    tries = (parts.ServerTry(100 / scale, latency, True), parts.ServerTry(110 / scale, latency, False))
    return parts.Server(12.0, 100 / scale, 2, tries, "")


ROWS = [
    "answer, p50, ms", "answer, p99, ms", "infer, p50, ms", "first token, p50, ms", "first token, p99, ms",
    "each further token, p50, ms", "each further token, p99, ms", "tokens/s, p50",
    "texts/s, 4 in a call, threads 2", "server, texts/s below 12.0 ms", "offline, texts/s", "cold start, p50, ms",
]  # fmt: skip


def test_every_row_is_found_and_judged() -> None:
    found = compare(measured(1.0), measured(1.5), 0.1)
    assert [row.name for row in found.rows] == [*ROWS, "peak memory, MB"]
    assert [row.name for row in found.worse] == ROWS
    found = compare(measured(1.5), measured(1.0), 0.1)
    assert [row.verdict(0.1) for row in found.rows] == [BETTER] * len(ROWS) + [SAME]
    assert compare(measured(1.0), measured(1.5), 0.6).worse == []
    assert compare(measured(1.0), measured(1.0), 0).worse == []


def test_the_tail_and_few_samples_are_judged_only_where_there_are_enough() -> None:
    few = compare(measured(1.0, FEWEST_FOR_P99 - 1), measured(1.5), 0.1)
    verdicts = {row.name: row.verdict(0.1) for row in few.rows}
    assert (verdicts["answer, p50, ms"], verdicts["answer, p99, ms"]) == (WORSE, UNSURE)
    assert compare(measured(1.0, 5), measured(1.5, 5), 0.1).worse == [
        row for row in few.rows if row.name.startswith("server")
    ]


@pytest.mark.parametrize("drift", [0.6, -0.6])
def test_answers_that_change_by_themselves_say_less(drift: float) -> None:
    old, new = measured(1.0), measured(1.5)
    assert old.steady is not None
    found = compare(replace(old, steady=replace(old.steady, drift=drift)), new, 0.1)
    assert {row.verdict(0.1) for row in found.rows if row.name in ROWS[:3]} == {SAME}


def test_the_interval_of_the_tail_is_that_of_its_ranks() -> None:
    found = summarize(list(range(1000)))
    assert (found.p99, found.p99_low, found.p99_high) == (989, 983, 997)
    assert summarize(range(FEWEST_FOR_P99 - 1)).p99_low is None


def test_more_memory_counts_and_parts_of_one_report_alone_do_not() -> None:
    memory = parts.Memory(None, None, 100_000_000, None, None, ())
    old = replace(measured(1.0), memory=memory, cold=None, generation=None)
    new = replace(measured(1.0), memory=replace(memory, peak=120_000_000), throughput=None, scenarios=None)
    found = compare(old, new, 0.1)
    assert [row.name for row in found.worse] == ["peak memory, MB"]
    assert [row.name for row in found.rows] == [*ROWS[:3], "peak memory, MB"]


def test_other_machines_and_tasks_are_refused() -> None:
    machine = FILLED.machine
    check(FILLED, FILLED.subject.task, machine)
    check(FILLED, FILLED.subject.task, replace(machine, mhz=(), python="3.99", memory=1))
    check(FILLED, FILLED.subject.task, None)
    with pytest.raises(InputError, match=r"another machine \(cpu: .*, here Z80; cores: 7, here 1\).*--any-machine"):
        check(FILLED, FILLED.subject.task, replace(machine, cpu="Z80", cores=1))
    with pytest.raises(InputError, match="this one of 'summary'"):
        check(FILLED, "summary", None)


def cells(text: str) -> list[list[str]]:
    """The rows of all tables, as GitHub's dialect is read by a parser of its own."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for at, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(tokens[at + 1].content)
    return rows


def test_the_table_is_markdown_and_says_what_differs() -> None:
    old, new = measured(1.0), measured(1.5)
    trust = parts.Trust("NOISY", ("other programs took 38% of 2 cores",), (), 0.38, None)
    subject = replace(new.subject, onnxruntime="9.9 | <b>`x`", variant="*\n\x1b[2J")
    text = markdown(compare(replace(old, trust=trust), replace(new, subject=subject, complete=False), 0.1))
    assert "12 worse, 1 same (tolerance 10.0 %)" in text
    assert "- the old profile is NOISY: other programs took 38% of 2 cores" in text
    assert "- the new profile was interrupted" in text
    assert "\x1b" not in text
    rows = cells(text)
    assert ["", "old", "new", "ratio", "verdict"] in rows
    assert ["answer, p50, ms", "1.00", "1.51", "1.50", "**worse**"] in [[*row[:4], row[-1]] for row in rows]
    assert next(row for row in rows if row[0] == "onnxruntime")[2] == r"9.9 | \<b\>\`x\`"
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<b>`" not in html


def test_reports_without_a_part_in_common_say_so() -> None:
    empty = replace(FILLED, cold=None, steady=None, generation=None, scenarios=None, throughput=None, memory=None)
    found = compare(empty, FILLED, 0.1)
    assert (found.rows, "nothing to compare" in markdown(found)) == ((), True)


def test_other_texts_are_said() -> None:
    inputs = replace(FILLED.inputs, count=8)
    assert "the texts differ" in markdown(compare(FILLED, replace(FILLED, inputs=inputs), 0.1))
    assert "the texts differ" not in markdown(compare(FILLED, FILLED, 0.1))


def test_answers_to_another_mix_of_texts_are_not_compared() -> None:
    old, new = measured(1.0), measured(1.5)
    assert old.steady is not None
    found = compare(replace(old, steady=replace(old.steady, texts=3)), new, 0.1)
    assert [row.name for row in found.rows] == [*ROWS[3:], "peak memory, MB"]
    assert "answers are left out: their texts are not the same (3 in the old profile, 7 in the new one)" in markdown(
        found
    )


@settings(max_examples=150)
@given(st.sampled_from(PATHS), ODD)
def test_whatever_can_be_read_can_be_compared(path: tuple[object, ...], value: object) -> None:
    try:
        old = parse_report(edited(path, value))
    except ValueError:
        return
    found: Comparison = compare(old, FILLED, 0.1)
    assert cells(markdown(found))


@settings(max_examples=200)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=500))
def test_intervals_hold_what_they_are_of(samples: list[float]) -> None:
    found: Summary = summarize(samples)
    assert found.low <= found.p50 <= found.high <= found.max
    if found.p99_low is not None and found.p99_high is not None:
        assert found.p50 <= found.p99_low <= found.p99 <= found.p99_high <= found.max
