"""The charts of a report. Each gives None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from edgelm_runtime.profile.report import Ceiling, Memory, Operators, Report, Server, Throughput
from edgelm_runtime.profile.summary import Histogram, Summary

from .drawing import GOOD, GRID, HEIGHT, INK, MAIN, MUTED, SOFT, WARN, Chart, drawable
from .layout import number
from .words import Both, duration, plain, rate, stage

ROW = 34  # height of a bar with its name above it
MILLISECONDS = Both("milliseconds", "毫秒")


def all_charts(report: Report) -> dict[str, Markup]:
    """Every chart for which the report has numbers, by name."""
    steady, cold, scenarios = report.steady, report.cold, report.scenarios
    found: dict[str, Markup | None] = {}
    if report.inputs.count > 1:
        found["lengths"] = lengths(report.inputs.lengths)
    if steady is not None:
        found["latencies"] = latencies(steady.latencies, steady.total)
        found["answer"] = waterfall("answer", steady.stages)
    if cold is not None:
        found["cold"] = waterfall("cold", {name: one for name, one in cold.stages.items() if name != "exit"})
    if report.operators is not None:
        found["operators"] = operators(report.operators)
    if report.ceiling is not None:
        found["roofline"] = roofline(report.ceiling)
    if report.memory is not None:
        found["memory"] = memory(report.memory)
    if scenarios is not None and scenarios.server is not None:
        found["server"] = server(scenarios.server)
    if report.throughput is not None:
        found["batches"], found["threads"] = throughput(report.throughput, report.subject.threads)
    return {name: chart for name, chart in found.items() if chart is not None}


def latencies(found: Histogram, total: Summary) -> Markup | None:
    """How many answers took how long, with the median and the 99th percentile."""
    if not (_sound(found) and drawable(total.p50, total.p99)):
        return None
    chart = Chart("latencies")
    with chart as ax:
        _bars(ax, found)
        top = max(found.counts)
        for name, value, colour, height in (("p50", total.p50, INK, 1.24), ("p99", total.p99, WARN, 1.1)):
            right = value > (found.edges[0] + found.edges[-1]) / 2
            ax.plot([value, value], [0, top * height], color=colour, linewidth=1.6)
            ax.annotate(
                f"{name}  {duration(value)}", (value, top * height), (-5 if right else 5, 0), va="top", color=colour,
                textcoords="offset points", ha="right" if right else "left",
            )  # fmt: skip
        ax.set_ylim(0, top * 1.26)
        chart.axes(ax, MILLISECONDS, Both("answers", "回答数"))
    return chart.svg("latency histogram")


def lengths(found: Histogram) -> Markup | None:
    """How many texts have how many tokens."""
    if not _sound(found):
        return None
    chart = Chart("lengths", height=190)
    with chart as ax:
        _bars(ax, found)
        chart.axes(ax, Both("tokens", "词元数"), Both("texts", "文本数"))
    return chart.svg("histogram of the lengths")


def _sound(found: Histogram) -> bool:
    edges = found.edges
    return len(edges) == len(found.counts) + 1 and drawable(*found.counts) and drawable(*edges) and edges[0] < edges[-1]


def _bars(ax: Axes, found: Histogram) -> None:
    widths = [high - low for low, high in zip(found.edges, found.edges[1:], strict=False)]
    ax.bar(found.edges[:-1], found.counts, widths, align="edge", color=MAIN, edgecolor=GRID, linewidth=0.5)
    ax.grid(False, axis="x")
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def waterfall(name: str, stages: Mapping[str, Summary]) -> Markup | None:
    """The stages one after the other, each from where the one before it ended; medians."""
    medians = [summary.p50 for summary in stages.values()]
    if not drawable(*medians):
        return None
    chart = Chart(name, height=60 + ROW * len(stages))
    with chart as ax:
        begin = 0.0
        for row, summary in enumerate(stages.values()):
            ax.barh(row, summary.p50, left=begin, height=0.62, color=MAIN if row % 2 == 0 else SOFT)
            begin += summary.p50
            ax.annotate(duration(summary.p50), (begin, row), (5, 0), textcoords="offset points", va="center")
            ax.plot([begin, begin], [row, min(row + 1, len(stages) - 1)], color=MUTED, linewidth=0.8)
        ax.set_yticks(range(len(stages)), [chart.say(stage(one)) for one in stages])
        ax.tick_params(axis="y", labelcolor=INK)
        ax.set_ylim(len(stages) - 0.5, -0.5)
        ax.set_xlim(0, begin * 1.26)
        chart.axes(ax, MILLISECONDS)
    return chart.svg("stages, one after the other")


def operators(found: Operators) -> Markup | None:
    """The most expensive operators, each with its kind and shapes above its bar."""
    top = found.top[:10]
    if not drawable(*(one.share for one in top)):
        return None
    chart = Chart("operators", height=44 + ROW * len(top))
    with chart as ax:
        for row, one in enumerate(top):
            ax.barh(row, 100 * one.share, height=0.36, color=MAIN)
            label = f"{plain(one.op_type, 24)}  {plain(one.shapes, 36)}"
            ax.annotate(label, (0, row - 0.25), (1, 1), textcoords="offset points", va="bottom", fontsize=10)
            ax.annotate(
                f"{number(100 * one.share)} %", (100 * one.share, row), (5, 0), textcoords="offset points",
                va="center", fontsize=10,
            )  # fmt: skip
        ax.set_yticks([])
        ax.set_ylim(len(top) - 0.6, -0.95)
        ax.set_xlim(0, 112 * max(one.share for one in top))
        chart.axes(ax, Both("% of the time of all operators", "占全部算子时间的百分比"))
    return chart.svg("the most expensive operators")


def roofline(found: Ceiling) -> Markup | None:
    """The two ceilings of this machine, and where the model stands below them (Williams et al., 2009)."""
    needed = (found.read_bandwidth, found.int8_rate, found.bytes, found.operations, found.run)
    if not all(map(drawable, needed)):
        return None
    ridge = found.int8_rate / found.read_bandwidth
    here, reached = found.operations / found.bytes, found.operations / found.run * 1000
    roof = min(found.int8_rate, found.read_bandwidth * here)
    chart = Chart("roofline", height=HEIGHT + 30)
    with chart as ax:
        bottom = min(found.read_bandwidth * min(ridge, here) / 12, reached) / 3
        left, right = min(ridge, here) / 12, max(ridge, here) * 12
        ax.loglog([left, ridge, right], [found.read_bandwidth * left, found.int8_rate, found.int8_rate], color=MUTED)
        ax.plot([here, here], [reached, roof], color=WARN, linewidth=1.4, linestyle=(0, (3, 2)))
        for point in found.points:
            if all(map(drawable, (point.bytes, point.operations, point.ms))):
                speed = point.operations / point.ms * 1000
                ax.plot([point.operations / point.bytes], [speed], "o", color=MUTED, markersize=5)
                bottom = min(bottom, speed / 3)
        ax.plot([here], [reached], "o", color=MAIN, markersize=10)
        ax.set(xlim=(left, right), ylim=(bottom, found.int8_rate * 4))
        model = Both("this model", "本模型")
        ax.annotate(chart.say(model), (here, reached), (9, -4), textcoords="offset points", va="top")
        computing = Both(
            f"computing: {rate(found.int8_rate)} operations/s", f"计算上限：每秒 {rate(found.int8_rate)} 次"
        )
        ax.annotate(
            chart.say(computing), (right, found.int8_rate), (0, 6), textcoords="offset points", ha="right", fontsize=10
        )
        reading = Both(f"memory: {rate(found.read_bandwidth)}B/s", f"内存上限：每秒 {rate(found.read_bandwidth)}B")
        ax.annotate(
            chart.say(reading), (left, found.read_bandwidth * left), (12, 4), textcoords="offset points",
            fontsize=10, va="top",
        )  # fmt: skip
        _logarithmic(ax)
        chart.axes(
            ax, Both("operations per byte read", "每读一字节的运算次数"), Both("operations a second", "每秒运算次数")
        )
    return chart.svg("roofline")


def _logarithmic(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(10, numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    """A power of ten: 0.1, 10, 1 M, 100 G."""
    return f"{value:g}" if value < 1000 else rate(value).replace(".00", "").replace(".0", "")


def memory(found: Memory) -> Markup | None:
    """Resident memory from the first answer on, beside what it was after loading and at most."""
    if not drawable(*(point.answers for point in found.points)):
        return None
    if not drawable(found.peak, found.loaded or 0, *(point.resident for point in found.points)):
        return None
    chart = Chart("memory")
    with chart as ax:
        ax.plot([point.answers for point in found.points], [point.resident / 1e6 for point in found.points], color=MAIN)
        last = max(point.answers for point in found.points)
        for words, size, colour, offset in (
            (Both("at most", "峰值"), found.peak, WARN, 4),
            (Both("after loading", "加载后"), found.loaded, GOOD, -4),
        ):
            if size is None:
                continue
            ax.axhline(size / 1e6, color=colour, linewidth=1.4, linestyle=(0, (4, 3)))
            ax.annotate(
                chart.say(words), (last, size / 1e6), (0, offset), textcoords="offset points", ha="right",
                color=colour, va="bottom" if offset > 0 else "top",
            )  # fmt: skip
        ax.set_ylim(0, 1.25 * max(found.peak, *(point.resident for point in found.points)) / 1e6)
        ax.set_xlim(0, last)
        chart.axes(ax, Both("answers", "回答数"), Both("megabytes", "兆字节"))
    return chart.svg("memory over time")


def server(found: Server) -> Markup | None:
    """The 99th percentile at each arrival rate that was tried, and the limit."""
    tries = sorted(found.tries, key=lambda one: one.rate)
    if not (drawable(found.limit) and drawable(*(one.rate for one in tries))):
        return None
    if not drawable(*(one.latency.p99 for one in tries)):
        return None
    chart = Chart("server")
    with chart as ax:
        ax.plot([one.rate for one in tries], [one.latency.p99 for one in tries], color=MAIN, linewidth=1.6)
        for one in tries:
            colour = MAIN if one.kept else WARN
            ax.plot([one.rate], [one.latency.p99], "o" if one.kept else "X", color=colour, markersize=8)
        ax.axhline(found.limit, color=WARN, linewidth=1.4, linestyle=(0, (4, 3)))
        limit = Both(f"limit  {duration(found.limit)}", f"上限  {duration(found.limit)}")
        ax.annotate(chart.say(limit), (0, found.limit), (4, 4), textcoords="offset points", color=WARN)
        ax.set_xlim(0, 1.06 * tries[-1].rate)
        ax.set_ylim(0, 1.2 * max(found.limit, *(min(one.latency.p99, 4 * found.limit) for one in tries)))
        chart.axes(ax, Both("texts arriving a second", "每秒到达的文本数"), Both("p99, milliseconds", "p99，毫秒"))
    return chart.svg("latency at each arrival rate")


def throughput(found: Sequence[Throughput], threads: int) -> tuple[Markup | None, Markup | None]:
    """Texts a second by texts in a call on so many threads, and by threads; None where only one of each was tried."""
    batches = {one.batch: one.texts_per_second for one in found if one.threads == threads}
    by_threads = {one.threads: one.texts_per_second for one in found if one.batch == 1}
    return (
        _rates(
            "batches", batches, Both(f"texts in a call (threads: {threads})", f"每次调用的文本数（线程：{threads}）")
        ),
        _rates("threads", by_threads, Both("threads (one text in a call)", "线程数（每次调用一条文本）")),
    )


def _rates(name: str, rates: Mapping[int, Summary], words: Both) -> Markup | None:
    ordered = dict(sorted(rates.items()))
    found = list(ordered.values())
    if len(found) < 2 or not all(drawable(one.low, one.high) and one.low <= one.p50 <= one.high for one in found):
        return None
    chart = Chart(name, height=210)
    with chart as ax:
        medians = [one.p50 for one in found]
        spread = [[one.p50 - one.low for one in found], [one.high - one.p50 for one in found]]
        bars = ax.bar(range(len(found)), medians, 0.62, color=MAIN, yerr=spread, ecolor=MUTED)
        ax.bar_label(bars, [number(median) for median in medians], padding=4, fontsize=10.5)
        ax.set_xticks(range(len(found)), list(map(str, ordered)))
        ax.grid(False, axis="x")
        ax.set_ylim(0, 1.18 * max(one.high for one in found))
        chart.axes(ax, words, Both("texts a second", "每秒文本数"))
    return chart.svg(f"texts a second by {words.en}")
