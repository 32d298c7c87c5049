"""`--html`: a report as one file that a browser shows, with no script, no request, and nothing beside it."""

from __future__ import annotations

import locale
import os
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgelm.whole_file import atomic_text_file
from edgelm_runtime.profile.report import Report

from . import words
from .charts import all_charts
from .chinese import sentence
from .layout import number, size
from .remarks import other_threads, tiles, what_to_do
from .words import PARTS, Both

_OPTIONAL = {"generation"}  # a part that only some tasks have


def write_page(report: Report, path: Path) -> None:
    """Write the page under its name when it is whole. Raises OSError where the folder cannot be written."""
    text = page(report)
    with atomic_text_file(path) as stream:
        stream.write(text)


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
        tiles=list(tiles(report)),
        what_to_do=what_to_do(report),
        other_threads=other_threads(report),
        first_answer=words.first_answer,
        reason=lambda part: _reason(report, part),
        duration=words.duration,
        sentence=sentence,
        source=words.source(report.inputs.source),
        number=number,
        whole=words.whole,
        stage=words.stage,
        missing=list(_missing(report)),
        chinese=_chinese_here() if chinese is None else chinese,
    )


def _missing(report: Report) -> Iterator[Both]:
    """Parts that the report does not have, where no line of it says so already."""
    for name, shown in PARTS.items():
        if getattr(report, name) is None and name not in _OPTIONAL and _reason(report, name) is None:
            yield shown


def _reason(report: Report, part: str) -> Both | None:
    """Why a part, or some of it, is not there."""
    start = f"{part}: "
    lines = (line.removeprefix(start) for line in report.left_out if line.startswith(start))
    return next(map(sentence, lines), None)


def _chinese_here() -> bool:
    """Whether who makes the page reads Chinese: as POSIX asks the environment, also for locales that are not there."""
    asked = map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))
    name = next(filter(None, asked), None) or locale.getlocale()[0] or ""
    return name.lower().startswith(("zh", "chinese"))
