"""`--html`: a report as one file that a browser shows, with no script, no request, and nothing beside it."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgelm.outputs import atomic_text_file
from edgelm_runtime.profile.report import Report

from . import words
from .charts import all_charts
from .chinese import sentence
from .layout import number, size
from .words import Both

MISSING = {
    "cold": Both("cold start", "冷启动"),
    "steady": Both("answers one after the other", "连续回答"),
    "scenarios": Both("scenarios", "负载场景"),
    "throughput": Both("throughput", "吞吐量"),
    "memory": Both("memory", "内存"),
    "energy": Both("energy", "能耗"),
    "operators": Both("operators", "算子"),
    "ceiling": Both("distance to the ceiling", "距上限的距离"),
    "advice": Both("advice", "建议"),
    "trust": Both("verdict", "可信度"),
}


def write_page(report: Report, path: Path) -> None:
    """Write the page under its name when it is whole. Raises OSError where the folder cannot be written."""
    with atomic_text_file(path) as stream:
        stream.write(page(report))


def page(report: Report, chinese: bool | None = None) -> str:
    """The page, in both languages; Chinese is shown first where the user's locale is, or `chinese` says so."""
    environment = Environment(
        loader=PackageLoader("edgelm.reports", "page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        ms=words.duration, size=size, digits=number, rate=words.rate, share=words.share, plain=words.plain,
        whole=words.whole,
    )  # fmt: skip
    return environment.get_template("page.html").render(
        report=report,
        charts=all_charts(report),
        headline=words.headline(report),
        duration=words.duration,
        few=words.FEW,
        sentence=sentence,
        number=number,
        whole=words.whole,
        stage=words.stage,
        missing=list(_missing(report)),
        chinese=_chinese_here() if chinese is None else chinese,
    )


def _missing(report: Report) -> Iterator[Both]:
    """Parts that the report does not have, where no line of it says so already."""
    said = " ".join(report.left_out)
    for name, shown in MISSING.items():
        if getattr(report, name) is None and name not in said:
            yield shown


def _chinese_here() -> bool:
    name = locale.getlocale()[0] or ""
    return name.lower().startswith(("zh", "chinese"))
