"""Two profiles side by side: what counts as slower, what is refused, and the Markdown."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from edgelm.reports.compare import (
    BETTER,
    SAME,
    UNFELT,
    UNSURE,
    WORSE,
    Comparison,
    Figure,
    Row,
    check,
    compare,
    markdown,
)
from edgelm_runtime.errors import InputError
from edgelm_runtime.profile import report as parts
from edgelm_runtime.profile.reading import parse_report
from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import FEWEST_FOR_P99, Summary, summarize
from tests.runtime.profile.filled import FILLED, ODD, PATHS, edited

NARROW = (0.99, 1.01)
VALID = parts.Trust("VALID", (), (), 0.0, 0.01)
NOISY = parts.Trust("NOISY", ("other programs took 38% of 2 cores",), (), 0.38, None)


def figure(value: float, low: float = NARROW[0], high: float = NARROW[1]) -> Figure:
    return Figure(value, value * low, value * high)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (figure(1.0), figure(1.2), WORSE),
        (figure(1.2), figure(1.0), BETTER),
        (figure(1.0), figure(1.08), SAME),  # beyond the noise, within the tolerance
        (figure(1.0), figure(1.2, 0.8, 1.4), UNSURE),  # beyond the tolerance, within the noise
        (figure(1.0, 0.5, 1.5), figure(1.2), UNSURE),
        (figure(1.0, 0.1, 9.0), figure(2.81), UNSURE),
        (figure(1.0, 0.5, 1.5), figure(1.08), SAME),  # within both
        (Figure(1.0, 1.0, inf), figure(2.0), UNSURE),
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
    assert row.verdict(0.1) == UNFELT
    assert replace(row, least=0.005).verdict(0.1) == WORSE
    assert replace(row, new=figure(0.0105)).verdict(0.1) == SAME


def measured(scale: float, count: int = 500) -> Report:
    """A report whose every time is `scale` times what it was."""
    times = [scale * (1 + 0.001 * (at % 10)) for at in range(count)]
    total, rates = summarize(times), summarize([1000 / ms for ms in times])
    steady = replace(_steady(), stages={"infer": total}, total=total, drift=0.0)
    generation = replace(_generation(), time_to_first_token=total, time_per_output_token=total, tokens_per_second=rates)
    scenarios = parts.Scenarios(None, _server(scale), parts.Offline(rates, 8))
    return replace(
        FILLED, steady=steady, cold=parts.ColdStart({}, total), generation=generation, scenarios=scenarios,
        throughput=(parts.Throughput(4, 2, rates),), trust=VALID,
    )  # fmt: skip


def _steady() -> parts.Steady:
    assert FILLED.steady is not None
    return FILLED.steady


def _generation() -> parts.Generation:
    assert FILLED.generation is not None
    return FILLED.generation


def _server(scale: float) -> parts.Server:
    latency = summarize([1.0] * 100)
    tries = (parts.ServerTry(100 / scale, latency, True), parts.ServerTry(110 / scale, latency, False))
    return parts.Server(12.0, 100 / scale, 2, tries, "")


SERVER = "server, texts/s below 12 ms"
ROWS = [
    "answer, p50, ms", "answer, p99, ms", "infer, p50, ms", "first token, p50, ms", "first token, p99, ms",
    "each further token, p50, ms", "each further token, p99, ms", "tokens/s, p50",
    "texts/s, 4 in a call, threads 2", SERVER, "offline, texts/s", "cold start, p50, ms",
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
    assert [row.name for row in compare(measured(1.0, 5), measured(1.5, 5), 0.1).worse] == [SERVER]


@pytest.mark.parametrize("drift", [0.6, -0.6])
def test_answers_that_change_by_themselves_say_less(drift: float) -> None:
    old, new = measured(1.0), measured(1.5)
    assert old.steady is not None
    found = compare(replace(old, steady=replace(old.steady, drift=drift)), new, 0.1)
    assert {row.verdict(0.1) for row in found.rows if row.name in ROWS[:3]} == {UNSURE}


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
    subject = replace(new.subject, onnxruntime="9.9 | <b>`x`", variant="*\n\x1b[2J")
    text = markdown(compare(replace(old, trust=NOISY), replace(new, subject=subject, complete=False), 0.1))
    assert "11 worse, 1 same, 1 not sure (tolerance 10.0 %)" in text
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
    for inputs in (
        replace(FILLED.inputs, count=8),
        replace(FILLED.inputs, source="other.txt"),
        replace(FILLED.inputs, tokens=summarize([1.0, 2.0])),  # the same bundle, so the same tokenizer
    ):
        assert "the texts differ" in markdown(compare(FILLED, replace(FILLED, inputs=inputs), 0.1))
    assert "the texts differ" not in markdown(compare(FILLED, FILLED, 0.1))


def test_another_bundle_is_said_first_and_counts_other_tokens_in_the_same_texts() -> None:
    subject = replace(FILLED.subject, bundle="other", sha256="ab" * 32)
    inputs = replace(FILLED.inputs, tokens=summarize([1.0, 2.0]))
    text = markdown(compare(measured(1.0), replace(measured(1.0), subject=subject, inputs=inputs, trust=NOISY), 0.1))
    notes = [line for line in text.splitlines() if line.startswith("- ")]
    assert (
        notes[0]
        == f"- another bundle: 名 \\<a\\|b\\> 名 \\<a\\|b\\> in the old profile, other {'ab' * 6} in the new one"
    )
    assert "the texts differ" not in text
    ours = replace(inputs, source="goldens")
    both = (
        replace(FILLED, inputs=replace(FILLED.inputs, source="goldens")),
        replace(FILLED, subject=subject, inputs=ours),
    )
    assert "each bundle's own golden texts: give both the same --input" in markdown(compare(*both, 0.1))


def test_answers_to_another_mix_of_texts_are_not_compared() -> None:
    old, new = measured(1.0), measured(1.5)
    fewer = replace(old, steady=replace(_steady(), texts=3))
    found = compare(fewer, new, 0.1)
    assert [row.name for row in found.rows] == [*ROWS[3:], "peak memory, MB"]
    said = "answers are left out: their texts are not the same (3 in the old profile, 7 in the new one); give"
    assert f"{said} more --seconds" in markdown(found)
    other = replace(fewer, inputs=replace(FILLED.inputs, source="goldens", count=3))
    assert f"{said} both the same --input" in markdown(compare(other, new, 0.1))


@pytest.mark.parametrize("spoilt", ["noisy", "no verdict", "few arrivals", "none kept"])
@pytest.mark.parametrize("side", ["old", "new"])
def test_a_rate_counts_only_with_a_quiet_machine_and_enough_arrivals(spoilt: str, side: str) -> None:
    reports = {"old": measured(1.0), "new": measured(4.0)}
    one = reports[side]
    assert one.scenarios is not None
    server = one.scenarios.server
    assert server is not None
    if spoilt == "few arrivals":
        tries = (replace(server.tries[0], latency=summarize([1.0] * 99)), *server.tries[1:])
        server = replace(server, tries=tries)
    elif spoilt == "none kept":
        server = replace(server, rate=0.0, tries=server.tries[1:])
    trust = {"noisy": NOISY, "no verdict": None}.get(spoilt, VALID)
    reports[side] = replace(one, trust=trust, scenarios=replace(one.scenarios, server=server))
    found = compare(reports["old"], reports["new"], 0.1)
    assert {row.name: row.verdict(0.1) for row in found.rows}[SERVER] == UNSURE
    assert SERVER not in [row.name for row in found.worse]
    assert "the server's rate counts only where both profiles are VALID" in markdown(found)


def test_a_rate_lies_between_the_last_that_was_kept_and_the_first_that_was_not() -> None:
    def row(failed: float | None) -> Row:
        """A new rate of 80 after one of 100, and the next that failed."""
        old, new = measured(1.0), measured(1.25)
        assert new.scenarios is not None
        assert new.scenarios.server is not None
        kept = new.scenarios.server.tries[0]
        tries = (kept,) if failed is None else (kept, replace(kept, rate=failed, kept=False))
        scenarios = replace(new.scenarios, server=replace(new.scenarios.server, tries=tries))
        found = compare(old, replace(new, scenarios=scenarios), 0.1)
        return next(row for row in found.rows if row.name == SERVER)

    assert row(90.0).verdict(0.1) == WORSE
    assert row(101.0).verdict(0.1) == UNSURE
    assert row(None).verdict(0.1) == UNSURE  # nothing failed: it may be any


def test_other_latency_limits_are_said() -> None:
    def limited(limit: float) -> Report:
        one = measured(1.0)
        assert one.scenarios is not None
        assert one.scenarios.server is not None
        return replace(one, scenarios=replace(one.scenarios, server=replace(one.scenarios.server, limit=limit)))

    found = compare(limited(9.1), limited(10.0), 0.1)
    assert not [row for row in found.rows if row.name.startswith("server")]
    assert "- server: not compared, the limits differ (9.1 and 10 ms); give --latency-limit 9.1" in markdown(found)
    found = compare(limited(1 / 3), limited(float(f"{1 / 3:g}")), 0.1)  # as the sentence has it
    assert [row.name for row in found.rows if row.name.startswith("server")] == ["server, texts/s below 0.333333 ms"]


def test_not_sure_says_why() -> None:
    why = "not sure: the intervals overlap, or are of too few samples"
    text = markdown(compare(measured(1.0, FEWEST_FOR_P99 - 1), measured(1.5), 0.1))
    assert why in text
    assert "the server's rate" not in text
    assert why not in markdown(compare(measured(1.0), measured(1.5), 0.1))


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
