"""Two profiles of one task, row by row: what became worse beyond the noise of both, as a table for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isclose
from typing import Any

from edgelm.reports.layout import cut, number, percent
from edgelm_runtime.errors import InputError
from edgelm_runtime.profile.report import Machine, Report, Server, Steady
from edgelm_runtime.profile.server import ENOUGH
from edgelm_runtime.profile.summary import Summary
from edgelm_runtime.visible import visible

TOLERANCE = 10.0  # percent
WORSE, BETTER, SAME, UNFELT, UNSURE = "worse", "better", "same", "not felt", "not sure"
_FEWEST = 6  # samples: the interval of fewer is no more than their range
_MATTERS = 0.01  # of the whole answer: a stage that changed by less is not felt
_ALIKE = 1e-4  # of a latency limit: --latency-limit is given with fewer digits
_MARKS = re.compile(r"([\\`*_{}\[\]<>|#~])")


@dataclass(frozen=True)
class Figure:
    """A number of a report and the interval that it lies in; None where none is known, such as of too few samples."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """A figure of both reports; `more` says that more of it is better, `least` how much it has to change to count."""

    name: str
    old: Figure
    new: Figure
    more: bool = False
    least: float = 0.0

    @property
    def ratio(self) -> float | None:
        """New to old; None where the old one is 0."""
        return self.new.value / self.old.value if self.old.value else None

    def verdict(self, tolerance: float) -> str:
        """Same within `tolerance` (a part of one); beyond it worse or better where the intervals do not overlap."""
        before, after = (self.new, self.old) if self.more else (self.old, self.new)
        if before.low is None or before.high is None or after.low is None or after.high is None:
            return UNSURE
        grew, shrank = (high.value > low.value * (1 + tolerance) for low, high in ((before, after), (after, before)))
        if not (grew or shrank):
            return SAME
        if abs(after.value - before.value) < self.least:
            return UNFELT
        if grew and after.low > before.high:
            return WORSE
        if shrank and before.low > after.high:
            return BETTER
        return UNSURE


@dataclass(frozen=True)
class Comparison:
    """Two reports and what is in both; `tolerance` is a part of one."""

    old: Report
    new: Report
    rows: Sequence[Row]
    tolerance: float

    @property
    def worse(self) -> list[Row]:
        """What became slower, or larger."""
        return [row for row in self.rows if row.verdict(self.tolerance) == WORSE]


def check(old: Report, task: str, machine: Machine | None) -> None:
    """Refuse what cannot be compared, before anything is measured; `machine` is None where any will do.

    Raises InputError with what differs.
    """
    if old.subject.task != task:
        raise InputError(
            f"the earlier profile is of the task {cut(old.subject.task, 40)!r}, this one of {task!r}; "
            "compare profiles of one task"
        )
    if machine is None or machine.identity == old.machine.identity:
        return
    names = ("cpu", "isa", "cores", "system")
    pairs = zip(names, old.machine.identity, machine.identity, strict=True)
    apart = "; ".join(f"{name}: {_said(a)}, here {_said(b)}" for name, a, b in pairs if a != b)
    raise InputError(
        f"the earlier profile is of another machine ({apart}); profile both on one machine, or give --any-machine"
    )


def _said(value: Any) -> str:
    return cut(" ".join(value) if isinstance(value, tuple) else str(value), 60)


def compare(old: Report, new: Report, tolerance: float) -> Comparison:
    """What both reports have; `tolerance` is a part of one."""
    return Comparison(old, new, tuple(_rows(old, new)), tolerance)


def _rows(old: Report, new: Report) -> Iterator[Row]:
    if old.steady and new.steady and old.steady.texts == new.steady.texts:
        a, b = _drifted(old.steady), _drifted(new.steady)
        yield from _both("answer", a.total, b.total)
        for name in [name for name in a.stages if name in b.stages]:
            title, least = f"{name.replace('_', ' ')}, p50, ms", _MATTERS * a.total.p50
            yield Row(title, _median(a.stages[name]), _median(b.stages[name]), least=least)
    if old.generation and new.generation:
        before, after = old.generation, new.generation
        yield from _both("first token", before.time_to_first_token, after.time_to_first_token)
        yield from _both("each further token", before.time_per_output_token, after.time_per_output_token)
        yield Row("tokens/s, p50", _median(before.tokens_per_second), _median(after.tokens_per_second), more=True)
    yield from _rates(old, new)
    if old.cold and new.cold:
        yield Row("cold start, p50, ms", _median(old.cold.total), _median(new.cold.total))
    if old.memory and new.memory:
        yield Row("peak memory, MB", _exact(old.memory.peak / 1e6), _exact(new.memory.peak / 1e6))


def _drifted(found: Steady) -> Steady:
    """With every interval wider by what the two halves of the answers differ: as much as that changes by itself."""
    by = 1 + abs(found.drift)
    stages = {name: _wider(summary, by) for name, summary in found.stages.items()}
    return replace(found, total=_wider(found.total, by), stages=stages)


def _wider(found: Summary, by: float) -> Summary:
    tail_low, tail_high = found.p99_low, found.p99_high
    return replace(
        found,
        low=found.low / by,
        high=found.high * by,
        p99_low=None if tail_low is None else tail_low / by,
        p99_high=None if tail_high is None else tail_high * by,
    )


def _both(name: str, old: Summary, new: Summary) -> Iterator[Row]:
    yield Row(f"{name}, p50, ms", _median(old), _median(new))
    yield Row(
        f"{name}, p99, ms",
        Figure(old.p99, old.p99_low, old.p99_high),
        Figure(new.p99, new.p99_low, new.p99_high),
    )


def _rates(old: Report, new: Report) -> Iterator[Row]:
    known = {(one.batch, one.threads): one.texts_per_second for one in old.throughput or ()}
    for one in new.throughput or ():
        if (one.batch, one.threads) in known:
            name = f"texts/s, {one.batch} in a call, threads {one.threads}"
            yield Row(name, _median(known[one.batch, one.threads]), _median(one.texts_per_second), more=True)
    if not old.scenarios or not new.scenarios:
        return
    a, b = old.scenarios, new.scenarios
    if a.server and b.server and _alike(a.server, b.server):
        yield Row(
            f"server, texts/s below {a.server.limit:g} ms", _served(old, a.server), _served(new, b.server), more=True
        )
    if a.offline and b.offline:
        yield Row(
            "offline, texts/s", _median(a.offline.texts_per_second), _median(b.offline.texts_per_second), more=True
        )


def _median(found: Summary) -> Figure:
    sure = found.count >= _FEWEST
    return Figure(found.p50, found.low if sure else None, found.high if sure else None)


def _exact(value: float) -> Figure:
    return Figure(value, value, value)


def _alike(old: Server, new: Server) -> bool:
    return isclose(old.limit, new.limit, rel_tol=_ALIKE)


def _served(one: Report, found: Server) -> Figure:
    """The rate that was kept, and the next one that was not: an extreme, which a busy moment or few arrivals decide."""
    sure = one.trust is not None and one.trust.verdict == "VALID"
    enough = any(each.kept and each.rate == found.rate and each.latency.count >= ENOUGH for each in found.tries)
    if not (sure and enough):
        return Figure(found.rate, None, None)
    failed = [each.rate for each in found.tries if not each.kept and each.rate > found.rate]
    return Figure(found.rate, found.rate, min(failed, default=inf))


def markdown(found: Comparison) -> str:
    """The comparison in GitHub's Markdown: what differs besides the times, then a row for each figure."""
    old, new, tolerance = found.old, found.new, found.tolerance
    verdicts = [row.verdict(tolerance) for row in found.rows]
    counts = ", ".join(
        f"{verdicts.count(one)} {one}" for one in (WORSE, BETTER, SAME, UNFELT, UNSURE) if one in verdicts
    )
    lines = [
        f"**{_plain(new.subject.bundle)}**, {new.subject.task}: {counts or 'nothing to compare'} "
        f"(tolerance {percent(tolerance)})",
        "",
        *(f"- {_plain(note)}" for note in _notes(found)),
        "",
        *_table(("", "old", "new"), _differences(old, new)),
        "",
        *_table(("", "old", "new", "ratio", "verdict"), [
            (row.name, number(row.old.value), number(row.new.value), "n/a" if row.ratio is None else number(row.ratio),
             f"**{verdict}**" if verdict == WORSE else verdict)
            for row, verdict in zip(found.rows, verdicts, strict=True)
        ]),
    ]  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _notes(found: Comparison) -> Iterator[str]:
    old, new = found.old, found.new
    if old.subject.sha256 != new.subject.sha256:
        names = [_facts(one)["bundle"] for one in (old, new)]
        yield f"another bundle: {names[0]} in the old profile, {names[1]} in the new one"
    for name, one in (("old", old), ("new", new)):
        if one.trust is not None and one.trust.reasons:
            yield f"the {name} profile is {one.trust.verdict}: {'; '.join(one.trust.reasons)}"
        if not one.complete:
            yield f"the {name} profile was interrupted"
    yield from _texts(old, new)
    if old.machine.identity != new.machine.identity:
        yield "the machines differ"
    a, b = (one.scenarios and one.scenarios.server for one in (old, new))
    if a and b and not _alike(a, b):
        limits = f"{a.limit:g} and {b.limit:g} ms"
        yield f"server: not compared, the limits differ ({limits}); give --latency-limit {a.limit:g}"
    unsure = [row for row in found.rows if row.verdict(found.tolerance) == UNSURE]
    if unsure:
        yield "not sure: the intervals overlap, or are of too few samples; give more --seconds on a quiet machine"
    if any(row.name.startswith("server") and None in (row.old.low, row.new.low) for row in unsure):
        yield f"the server's rate counts only where both profiles are VALID and the rate was kept for {ENOUGH} arrivals"


def _texts(old: Report, new: Report) -> Iterator[str]:
    """What is to be said of texts that are not the same; another bundle may count other tokens in the same ones."""
    a, b = old.inputs, new.inputs
    other = old.subject.sha256 != new.subject.sha256
    differ = (a.source, a.count) != (b.source, b.count)
    if differ or (not other and a.tokens != b.tokens):
        yield "the texts differ: so do times, whatever happened to the bundle"
    elif other and a.source == "goldens" and a.tokens != b.tokens:
        yield "the texts are each bundle's own golden texts: give both the same --input"
    if old.steady and new.steady and old.steady.texts != new.steady.texts:
        counts = f"{old.steady.texts} in the old profile, {new.steady.texts} in the new one"
        remedy = "both the same --input" if differ else "more --seconds"
        yield f"answers are left out: their texts are not the same ({counts}); give {remedy}"


def _differences(old: Report, new: Report) -> Iterator[tuple[str, str, str]]:
    a, b = _facts(old), _facts(new)
    for name in a:
        if a[name] != b[name]:
            yield name, _plain(a[name]), _plain(b[name])


def _facts(one: Report) -> dict[str, str]:
    subject, machine, inputs = one.subject, one.machine, one.inputs
    lengths = f"tokens p50 {number(inputs.tokens.p50)}, max {number(inputs.tokens.max)}"
    return {
        "measured": one.created,
        "bundle": f"{subject.bundle} {subject.sha256[:12]}",
        "variant": f"{subject.variant} ({subject.precision})",
        "device": f"{subject.device} ({subject.provider})",
        "threads": f"{subject.threads}{', low priority' * subject.low_priority}",
        "edgelm": subject.edgelm,
        "onnxruntime": subject.onnxruntime,
        "cpu": f"{machine.cpu}, {machine.cores} cores, {' '.join(machine.isa)}",
        "system": f"{machine.system}, Python {machine.python}",
        "texts": f"{inputs.count} from {inputs.source}, {lengths}",
    }


def _table(header: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' + '---:|' * (len(header) - 1) if 'ratio' in header else '---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _plain(text: str) -> str:
    """A text that Markdown takes as it is, on one line."""
    return _MARKS.sub(r"\\\1", cut(visible(text), 300))
