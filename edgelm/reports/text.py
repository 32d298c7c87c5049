"""A profile as a table for a terminal, and for pasting into an issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edgelm.reports.layout import cut, number, percent, scaled, size, table, wrapped
from edgelm.reports.words import first_answer
from edgelm_runtime.profile import report as parts
from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import Summary
from edgelm_runtime.visible import visible

WIDTH, NARROW, LEAST = 80, 60, 24
_LABEL = 12
_WORDS = ("on", "shapes", "kept")  # columns to the left
_COLUMNS = ("p50", "p90", "p95", "p99", "max", "n", "median, 95 %")


def page(report: Report, width: int = WIDTH) -> str:
    """The report for a person, on lines of at most `width` columns; what was not measured is under "left out"."""
    width = max(LEAST, min(width, WIDTH))
    sections = (
        _headline(report), _facts(report), _steady(report.steady), _cold(report.cold), _generation(report.generation),
        _scenarios(report.scenarios), _throughput(report.throughput), _memory(report.memory), _energy(report.energy),
        _operators(report.operators), _ceiling(report.ceiling), _advice(report), _remarks(report),
    )  # fmt: skip
    blocks = ["\n".join(_lines(section, width)) for section in sections]
    return "\n\n".join(block for block in blocks if block)


class Fact(NamedTuple):
    """A line with a label before it."""

    label: str
    text: str


Rows = list[tuple[str, ...]]
Line = str | Fact | Rows  # of rows the first is the header


def _lines(section: Iterable[Line], width: int) -> Iterator[str]:
    for line in section:
        if isinstance(line, str):
            yield from wrapped(visible(line), width)
        elif isinstance(line, Fact) and width < NARROW:
            yield from wrapped(visible(f"{line.label}: {line.text}" if line.label else f"  {line.text}"), width)
        elif isinstance(line, Fact):
            yield from wrapped(visible(f"{line.label:<{_LABEL}}{line.text}"), width, _LABEL)
        else:
            yield from table([[visible(cell) for cell in row] for row in line], width, _WORDS)


def _headline(report: Report) -> Iterator[Line]:
    trust = report.trust
    verdict = "" if trust is None else f": {trust.verdict}"
    yield f"{report.subject.bundle}, {report.subject.task}{verdict}"
    if not report.complete:
        yield "  interrupted: what was measured until then"
    if trust is not None:
        yield from (f"  {reason}" for reason in trust.reasons)


def _facts(report: Report) -> Iterator[Line]:
    subject, machine, inputs = report.subject, report.machine, report.inputs
    low = ", low priority" if subject.low_priority else ""
    clock = " to ".join(f"{number(mhz)}" for mhz in machine.mhz)
    heat = {None: "n/a", True: "yes", False: "no"}[machine.throttled]
    yield Fact("bundle", f"{subject.bundle}, sha256 {subject.sha256[:12]}, variant {subject.variant} "
                          f"({subject.precision})")  # fmt: skip
    yield Fact("device", f"{subject.device} ({subject.provider}), threads {subject.threads}{low}")
    if subject.why:
        yield Fact("chosen as", subject.why)
    yield from (Fact("note", note) for note in subject.notes)
    yield Fact("cpu", f"{machine.cpu}; {' '.join(machine.isa) or 'no flags that matter here'}")
    yield Fact("machine", f"{machine.cores} usable cores, {size(machine.memory)}, {machine.system}")
    yield Fact("clock", f"{clock or 'n/a'}{' MHz' * bool(clock)}, governor {machine.governor or 'n/a'}, "
                         f"slowed by heat: {heat}")  # fmt: skip
    yield Fact("software", f"edgelm {subject.edgelm}, onnxruntime {subject.onnxruntime}, Python {machine.python}")
    tokens = inputs.tokens
    yield Fact("texts", f"{inputs.count} from {inputs.source}; tokens: p50 {number(tokens.p50)}, "
                         f"p90 {number(tokens.p90)}, max {number(tokens.max)}")  # fmt: skip
    yield Fact("measured", f"{report.created}, in {number(report.seconds)} s")


def _summaries(title: str, rows: Iterable[tuple[str, Summary]]) -> Line:
    return [(title, *_COLUMNS), *((f"  {name.replace('_', ' ')}", *_numbers(found)) for name, found in rows)]


def _numbers(found: Summary) -> tuple[str, ...]:
    percentiles = (found.p50, found.p90, found.p95, found.p99, found.max)
    return *map(number, percentiles), f"{found.count:,}", f"{number(found.low)} .. {number(found.high)}"


def _steady(found: parts.Steady | None) -> Iterator[Line]:
    if found is not None:
        yield _summaries("answer, ms", [*found.stages.items(), ("total", found.total)])


def _cold(found: parts.ColdStart | None) -> Iterator[Line]:
    if found is not None:
        yield _summaries("cold start, ms", [*found.stages.items(), ("total", found.total)])
        yield f"  first answer after {number(first_answer(found))} ms: the total without exit"


def _generation(found: parts.Generation | None) -> Iterator[Line]:
    if found is None:
        return
    yield _summaries("generation", [
        ("first token, ms", found.time_to_first_token),
        ("each further, ms", found.time_per_output_token),
        ("tokens/s", found.tokens_per_second),
        ("output tokens", found.output_tokens),
    ])  # fmt: skip
    yield f"  lookup accepted: {percent(found.lookup)}; prompts with a known beginning: {percent(found.prefix_hits)}"


def _scenarios(found: parts.Scenarios | None) -> Iterator[Line]:
    if found is None:
        return
    yield "scenarios (as MLPerf names them)"
    if found.single_stream is not None:
        yield f"  single stream  {number(found.single_stream.latency.p90)} ms (p90 of one text at a time)"
    if found.server is not None:
        rate, limit = number(found.server.rate), number(found.server.limit)
        yield f"  server         {rate} texts/s, with p99 below {limit} ms; workers: {found.server.workers}"
        if found.server.note:
            yield Fact("  note", found.server.note)
    if found.offline is not None:
        rate = number(found.offline.texts_per_second.p50)
        yield f"  offline        {rate} texts/s, {found.offline.batch} texts in a call"
    if found.server is not None and found.server.tries:
        yield [
            ("  tried, texts/s", "p50, ms", "p99, ms", "n", "kept"),
            *(
                (f"  {number(one.rate)}", number(one.latency.p50), number(one.latency.p99), f"{one.latency.count:,}",
                 "yes" if one.kept else "no")
                for one in found.server.tries
            ),
        ]  # fmt: skip


def _throughput(found: tuple[parts.Throughput, ...] | None) -> Iterator[Line]:
    if found:
        rows = [(f"{one.batch} in a call, threads {one.threads}", one.texts_per_second) for one in found]
        yield _summaries("texts/s", rows)


def _memory(found: parts.Memory | None) -> Iterator[Line]:
    if found is None:
        return
    growth = "n/a"
    if found.growth is not None and found.noise is not None:
        growth = f"{size(found.growth)} per 1,000 answers, give or take {size(found.noise)}"
        if found.growth <= found.noise:
            growth = f"none seen (less than {size(found.noise)} per 1,000 answers)"
    yield Fact("memory", f"peak {size(found.peak)}; after imports {size(found.imported)}, "
                          f"after load {size(found.loaded)}; growth {growth}")  # fmt: skip


def _energy(found: parts.Energy | None) -> Iterator[Line]:
    if found is None:
        yield Fact("energy", "n/a")
        return
    yield Fact("energy", f"{number(found.joules_per_answer)} J an answer ({found.source}); {number(found.watts)} W, "
                          f"idle {number(found.idle_watts)} W")  # fmt: skip


def _operators(found: parts.Operators | None) -> Iterator[Line]:
    if found is None:
        return
    header = ("operators of an answer", "ms", "share", "calls", "on", "shapes")
    yield [header, *((
        f"  {cut(one.op_type, 21)}", number(one.ms), percent(one.share), number(one.calls),
        one.provider.removesuffix("ExecutionProvider"), cut(one.shapes, 24),
    ) for one in found.top)]  # fmt: skip
    yield f"  and {found.others:,} more; all {number(found.measured)} ms, outside of them {number(found.outside)} ms"
    yield f"  (with onnxruntime's own profile on, which adds {percent(max(0.0, found.overhead))} to an answer)"


def _ceiling(found: parts.Ceiling | None) -> Iterator[Line]:
    if found is None:
        return
    yield Fact("ceiling", f"{percent(found.share)} of what this machine could do: {number(found.floor)} ms by "
                           f"{found.bound}, a run takes {number(found.run)} ms")  # fmt: skip
    yield Fact("", f"the machine: reads {scaled(found.read_bandwidth, 'B/s')}, int8 "
                    f"{scaled(found.int8_rate, 'MAC/s')}")  # fmt: skip
    yield Fact("", f"the model: {size(found.bytes)} and {scaled(found.operations, 'MAC')} (multiply-adds) a run")


def _advice(report: Report) -> Iterator[Line]:
    yield from _list("advice", (
        f"{one.text}: {one.change} ({number(one.before)} -> {number(one.after)} {one.unit})"
        for one in report.advice or ()
    ))  # fmt: skip
    if report.tried and not report.advice:
        yield Fact("advice", f"- nothing that was tried was faster: {', '.join(report.tried)}")


def _remarks(report: Report) -> Iterator[Line]:
    yield from _list("left out", report.left_out)
    if report.trust is not None:
        yield from _list("not counted", report.trust.excluded)


def _list(label: str, texts: Iterable[str]) -> Iterator[Line]:
    for at, text in enumerate(texts):
        yield Fact("" if at else label, f"- {text}")
