"""``edgelm profile``: how long a customer waits, and where the time goes."""

from __future__ import annotations

import json as json_module
import math
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgelm import inputs
from edgelm.extras import extra
from edgelm.locate import bundles_of
from edgelm.options import loading
from edgelm.terminal import note, say
from edgelm.whole_file import atomic_text_file, new_file
from edgelm_runtime.errors import InputError, Slower
from edgelm_runtime.files import kind_of
from edgelm_runtime.tasks import TASKS

if TYPE_CHECKING:
    from edgelm_runtime.bundle import Bundle
    from edgelm_runtime.profile.report import Report
    from edgelm_runtime.profile.subject import Subject

EXAMPLES = """\b
Examples:
  edgelm profile sentiment
  edgelm profile summary --html report.html
  edgelm profile ./my-bundle --input reviews.txt --seconds 60 --json > new.json
  edgelm profile ./my-bundle --input reviews.txt --compare old.json
"""


class Finite(click.FloatRange):
    """A number within a range; nan is within none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"nan is not in the range {self._describe_range()}.", param, ctx)
        return found


@click.command("profile", epilog=EXAMPLES, short_help="How long an answer takes here, and why.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--task", type=click.Choice(TASKS), help="The task, where a bundle serves several.")
@click.option(
    "--input", type=click.Path(path_type=Path), help="Profile on the texts of a .txt, .jsonl, .csv or .tsv file."
)
@click.option("--column", help="The column to read of --input.")
@click.option(
    "--seconds",
    type=Finite(min=1, max=3600),
    default=30.0,
    show_default=True,
    help="Time for all that is repeated; it ends sooner where the numbers are sure, and what runs once is beside it.",
)
@click.option(
    "--scenario",
    multiple=True,
    type=click.Choice(["single-stream", "server", "offline"]),
    help="A scenario of MLPerf to measure; again for another.  [default: all]",
)
@click.option(
    "--latency-limit",
    type=Finite(min=0, min_open=True, max=3_600_000),
    metavar="MS",
    help="What 99 of 100 may wait for in the server scenario.  [default: OLD.json's, or 4 times the p90, at least 10]",
)
@loading
@click.option("--json", is_flag=True, help="Print the report as one JSON object (docs/profile-schema.md).")
@click.option("--prometheus", is_flag=True, help="Print it in Prometheus' text format.")
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=new_file,
    help="Also write it as a page for a browser: pip install 'edgelm[report]'",
)
@click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=new_file,
    help="Also write a few answers, with each operator's run, as a time line for https://ui.perfetto.dev",
)
@click.option(
    "--compare",
    "old",
    metavar="OLD.json",
    type=click.Path(path_type=Path),
    help="Print what changed since an earlier --json as a Markdown table (to stderr beside --json or --prometheus).",
)
@click.option(
    "--tolerance",
    type=Finite(min=0, max=1000),
    metavar="PERCENT",
    help="How much slower is still accepted by --compare.  [default: 10]",
)
@click.option("--any-machine", is_flag=True, help="Let --compare take a profile of another machine.")
def command(bundle: str, json: bool, prometheus: bool, **given: Any) -> None:
    """Measure how long BUNDLE takes to answer on this machine, where the time goes, and whether
    the numbers are to be trusted.

    BUNDLE is a folder or the name of a default bundle; TASK stands for the first default bundle
    that serves it, or the one that most texts of --input go to. Ctrl-C ends it and shows what
    was measured so far (exit code 130). Exit code 8: --compare found something slower, or more
    memory, by more than --tolerance and beyond the noise.
    """
    _check(bundle, given, both=json and prometheus)
    from edgelm.reports.progress import progress
    from edgelm_runtime.profile.reading import read_report
    from edgelm_runtime.profile.run import PARTS, ProfileOptions, profile
    from edgelm_runtime.profile.scenarios import NAMES

    write_page = _page_writer(given["html"])
    old = None if given["old"] is None else read_report(given["old"])
    subject = _subject(bundle, given, old)
    if given["trace"] is not None:
        _write_trace(subject, given["trace"])
    limit = given["latency_limit"] or _limit_of(old)
    options = ProfileOptions(given["seconds"], given["scenario"] or NAMES, limit)
    try:
        with progress(PARTS, options.seconds) as seen:
            report = profile(subject, options, seen)
    except KeyboardInterrupt:
        note(["interrupted before anything was measured; no report was written"])
        raise
    if not report.complete:
        # What is left takes a second; whoever has not got it ends it by the signal itself, wherever Python is.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    write_page(report)
    click.echo(_shown(report, json, prometheus, old is not None), nl=False)
    if not report.complete:
        note(["interrupted; this is what was measured until then"])
    worse = "" if old is None else _compare(old, report, given, beside=json or prometheus)
    if not report.complete:
        raise KeyboardInterrupt
    if worse:
        raise Slower(worse)


def _check(bundle: str, given: Mapping[str, Any], *, both: bool) -> None:
    """Refuse combinations that contradict themselves. Raises click.UsageError."""
    if both:
        raise click.UsageError("--json and --prometheus: both print to stdout; give one of the two")
    if given["old"] is None and (given["tolerance"] is not None or given["any_machine"]):
        raise click.UsageError("--tolerance and --any-machine: only --compare OLD.json uses them")
    if bundle in TASKS and given["task"] not in (None, bundle):
        raise click.UsageError(f"{bundle} is a task, and --task {given['task']} another one; name a bundle for it")
    if given["column"] is not None and (given["input"] is None or kind_of(given["input"]) == ".txt"):
        raise click.UsageError("--column: only the --input of a .csv or .jsonl file has columns")
    if given["latency_limit"] is not None and given["scenario"] and "server" not in given["scenario"]:
        raise click.UsageError("--latency-limit: only the server scenario has one; give --scenario server too")
    written = [path.absolute() for path in (given["html"], given["trace"]) if path is not None]
    read = [path.absolute() for path in (given["input"], given["old"]) if path is not None]
    if len({*written}) < len(written) or {*written} & {*read}:
        raise click.UsageError("--html, --trace, --input and --compare: one file is named twice and would be lost")


def _limit_of(old: Report | None) -> float | None:
    """The limit of the server in the report that this one is compared with: rates below two limits say nothing."""
    server = None if old is None or old.scenarios is None else old.scenarios.server
    return None if server is None or not 0 < server.limit < math.inf else server.limit


def _page_writer(path: Path | None) -> Callable[[Report], None]:
    """What writes the page. Raises MissingExtra, before anything is measured, where its libraries are not installed."""
    if path is None:
        return lambda report: None
    with extra("report"):
        from edgelm.reports.html import write_page
    return partial(write_page, path=path)


def _write_trace(subject: Subject, path: Path) -> None:
    """Write the time line, before all else: whoever interrupts the rest has it. What it holds goes to stderr."""
    from edgelm.reports import trace
    from edgelm_runtime.profile import timeline
    from edgelm_runtime.profile.subject import NotMeasured

    try:
        found = timeline.measure(subject)
    except NotMeasured as reason:
        note([f"no trace was written: {reason}"])
        return
    with atomic_text_file(path) as stream:
        trace.write(found, subject.facts(), stream)
    note([f"{path}: {trace.summary(found)}"])


def _subject(bundle: str, given: Mapping[str, Any], old: Report | None) -> Subject:
    """What is profiled; `old` must be comparable with it. Raises what opening, reading and loading raise."""
    from edgelm.reports.compare import check
    from edgelm_runtime.bundle import open_bundle
    from edgelm_runtime.loader import served_task
    from edgelm_runtime.placement import LoadOptions
    from edgelm_runtime.profile.fingerprint import look, machine
    from edgelm_runtime.profile.subject import subject_of

    opened = [open_bundle(folder) for folder in bundles_of(bundle)]
    task = served_task(opened[0], bundle if bundle in TASKS else given["task"])
    if old is not None:
        check(old, task, None if given["any_machine"] else machine(look(), look()))
    path = given["input"]
    values: Sequence[Any] | None = None if path is None else _values(path, task, given["column"])
    chosen, values, notes = _chosen(opened, task, values)
    note(notes)
    load = LoadOptions(
        given["device"], given["use_variant"], given["threads"], given["allow_fallback"], given["low_priority"]
    )
    return subject_of(chosen, task, load, values, "goldens" if path is None else _readable(path.name), notes)


def _chosen(
    bundles: Sequence[Bundle], task: str, values: Sequence[Any] | None
) -> tuple[Bundle, Sequence[Any] | None, tuple[str, ...]]:
    """The bundle that most of the values go to with `edgelm run`, its values, and notes on those of the others."""
    from edgelm_runtime.loader import by_language, language_among

    if len(bundles) == 1:
        return bundles[0], values, ()
    if values is None:
        names = ", ".join(bundle.manifest.name for bundle in bundles[1:])
        return bundles[0], None, (f"{task} is profiled with {bundles[0].manifest.name}; name {names} for the others",)
    routes = by_language(bundles)
    answered: dict[str, list[Any]] = {bundle.manifest.name: [] for bundle in bundles}
    for value in values:
        answered[routes[language_among(value, routes)].manifest.name].append(value)
    chosen = max(bundles, key=lambda bundle: len(answered[bundle.manifest.name]))
    notes = [
        f"{len(answered[name])} of {len(values)} texts are left out: they go to {name}, which is for "
        f"{_languages(other)}; to profile those, name it and give them in a file of their own"
        for other in bundles
        if other is not chosen and answered[name := other.manifest.name]
    ]
    return chosen, answered[chosen.manifest.name], tuple(notes)


def _languages(bundle: Bundle) -> str:
    """The languages of a bundle in words."""
    return ", ".join({"en": "English", "zh": "Chinese"}.get(one, one) for one in bundle.manifest.languages)


def _readable(name: str) -> str:
    """A file's name as Unicode, whatever its bytes are: reports are UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _values(path: Path, task: str, column: str | None) -> list[Any]:
    """The inputs of a file. Raises InputError where a line is refused."""
    found = inputs.read_file(path, inputs.reader_for(task, column))
    for problem in found.problems:
        raise InputError(f"{path}, line {problem.line}: {problem.message}")
    return [item.value for item in found.items]


def _shown(report: Report, json: bool, prometheus: bool, compared: bool) -> str:
    """What stdout gets; nothing where the comparison goes there."""
    from edgelm.reports import prometheus as metrics
    from edgelm.reports import text

    if json:
        return json_module.dumps(report.to_dict(), ensure_ascii=False) + "\n"
    if prometheus:
        return metrics.exposition(report)
    return "" if compared else text.page(report, shutil.get_terminal_size().columns) + "\n"


def _compare(old: Report, report: Report, given: Mapping[str, Any], *, beside: bool) -> str:
    """Show what changed; what became worse, in words, or ""."""
    from edgelm.reports import compare

    percent = compare.TOLERANCE if given["tolerance"] is None else given["tolerance"]
    found = compare.compare(old, report, percent / 100)
    say(compare.markdown(found), err=beside)
    names = "; ".join(row.name for row in found.worse)
    return names and f"worse than {given['old']} by more than {percent:g} %: {names}"
