"""docs/performance.md: what stands between its marks is written from reports, the words around them by people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.bench import number
from perf.beside.page import fill, table
from perf.beside.report import cell
from perf.performance.chart import draw
from perf.performance.peers import Comparison, Reports, comparisons

MARK, END = "<!-- written by python -m perf.performance: {} -->", "<!-- end of {} -->"
# in the order of the page; perf.families fills a table of docs/fidelity.md
SINGLE = (
    "cold-start", "throughput", "generation", "engine", "overhead", "neighbour", "export-cost", "search", "outliers",
    "network",
)  # fmt: skip
BESIDE = {"encode": "make perf-encode", "decode": "make perf-decode", "fidelity": "make perf-fidelity"}


def write(reports: Reports, folder: Path) -> None:
    """Fill the sections of performance.md in `folder`, and draw performance.png there."""
    path = folder / "performance.md"
    for name, section in sections(reports).items():
        fill(path, MARK.format(name), END.format(name), f"\n{section}\n")
    draw(comparisons(reports), folder / "performance.png")


def sections(reports: Reports) -> dict[str, str]:
    """Every section that is written, by the name in its marks."""
    return {
        "peers": "\n".join([*map(_ratios, comparisons(reports)), _answers(reports), _runs(reports)]),
        "profiles": _profiles(reports),
        "figures": _figures(reports),
    }


def _ratios(one: Comparison) -> str:
    rows = [[metric.title, *(_ratio(found.get(metric.key)) for found in one.ratios.values())] for metric in one.metrics]
    return f"### {one.title}, {one.precision}\n\n{table(['edgelm is ... times better in', *one.ratios], rows)}\n"


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"**{value:.2f}**" if value >= 1 else f"{value:.2f}"


def _answers(reports: Reports) -> str:
    """Points of the task's metric between torch and each engine."""
    models = reports.get("fidelity", {}).get("details", {})
    rows = []
    for name, model in models.items():
        for line in model["lines"] if name != "failures" else ():
            if "difference" in line:
                low, high = line["95 % interval"]
                rows.append([
                    name, line["engine"], line["precision"], f"{line['difference']:+.2f}",
                    f"{low:+.2f} .. {high:+.2f}", f"{line['same answer']:.1f} %",
                ])  # fmt: skip
    header = ("model", "engine", "precision", "points from torch", "95 %", "torch's own answer")
    return f"### What shrinking does to the answers\n\n{table(header, rows)}\n" if rows else ""


def _runs(reports: Reports) -> str:
    """Which run each comparison is of."""
    rows = [
        [f"`{command}`", reports[name]["date"], _machine(reports[name])]
        for name, command in BESIDE.items()
        if name in reports
    ]
    return f"{table(('command', 'measured', 'on'), rows)}\n"


def _machine(report: Mapping[str, Any]) -> str:
    card = report["machine"]
    return f"{card['cpu']}, {card['usable_cores']} cores ({', '.join(card['isa'])}), onnxruntime {card['onnxruntime']}"


def _profiles(reports: Reports) -> str:
    """What a customer waits for, from reports of `edgelm profile --json`."""
    rows = []
    for name, report in reports.items():
        if name.startswith("profile-"):
            subject, steady = report["subject"], report["steady"]["total"]
            rows.append([
                subject["bundle"], subject["task"], f"{cell(steady['p50'])} ms", f"{cell(steady['p99'])} ms",
                f"{report['cold']['total']['p50']:.0f} ms", f"{report['memory']['peak'] / 1e6:.0f} MB",
                _share(report), report["trust"]["verdict"], report["created"][:10],
            ])  # fmt: skip
    header = (
        "bundle", "task", "answer p50", "p99", "cold start", "peak memory", "of the ceiling", "verdict", "measured",
    )  # fmt: skip
    return f"{table(header, rows)}\n" if rows else "Not measured yet: `edgelm profile sentiment --json`.\n"


def _share(report: Mapping[str, Any]) -> str:
    ceiling = report["ceiling"]
    return "n/a" if ceiling is None else f"{ceiling['share']:.2f}, {ceiling['bound']}"


def _figures(reports: Reports) -> str:
    """A table for each single measurement, in the page's order; those of other bundles after the default ones."""
    names = [name for one in SINGLE for name in reports if name == one or name.startswith(f"{one}-")]
    return "\n".join(_measured(reports[name]) for name in names)


def _measured(report: Mapping[str, Any]) -> str:
    header = ("what", "median", "quartiles", "ceiling", "goal", "met")
    return f"`{report['command']}`, {report['date']}\n\n{table(header, list(_rows(report)))}\n"


def _rows(report: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for figure in report["figures"]:
        goal = "" if figure["at_most"] is None else f"at most {figure['at_most']:g}"
        goal = goal if figure["at_least"] is None else f"at least {figure['at_least']:g}"
        met = {None: "", True: "yes", False: "**no**"}[figure["met"]]
        low, high = (number(value) for value in figure["quartiles"])
        ceiling = "" if figure["ceiling"] is None else number(figure["ceiling"])
        median = f"{number(figure['median'])} {figure['unit']}".strip()
        yield figure["name"], median, f"{low} .. {high}", ceiling, goal, met
