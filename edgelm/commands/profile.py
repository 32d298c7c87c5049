"""``edgelm profile``: how long a customer waits, and where the time goes."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Any

import click

from edgelm import inputs
from edgelm.locate import bundles_of
from edgelm_runtime.errors import InputError
from edgelm_runtime.tasks import TASKS

EXAMPLES = """\b
Examples:
  edgelm profile sentiment
  edgelm profile ./my-bundle --input reviews.txt --seconds 60 --json
"""


@click.command("profile", epilog=EXAMPLES, short_help="How long an answer takes here, and why.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--task", type=click.Choice(TASKS), help="The task, where a bundle serves several.")
@click.option("--input", type=click.Path(path_type=Path), help="Profile on the texts of a .txt, .jsonl or .csv file.")
@click.option("--column", help="The column to read of --input.")
@click.option("--seconds", type=click.FloatRange(min=1), default=30.0, show_default=True, help="Time to measure in.")
@click.option(
    "--scenario",
    multiple=True,
    type=click.Choice(["single-stream", "server", "offline"]),
    help="A scenario of MLPerf to measure; again for another.  [default: all]",
)
@click.option(
    "--latency-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="What 99 of 100 customers may wait for in the server scenario.  [default: 4 times the single stream's p90]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, or what edgelm devices lists.")
@click.option("--use-variant", metavar="NAME", help="The bundle's graph to run.  [default: the first for the device]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to use.  [default: the usable cores, at most 4]")
@click.option("--allow-fallback", is_flag=True, help="Let nodes that the device does not take run on the CPU.")
@click.option("--low-priority", is_flag=True, help="Give way to the other programs of this machine (Linux).")
@click.option("--json", is_flag=True, help="Print the report as one JSON object.")
def command(bundle: str, json: bool, seconds: float, **given: Any) -> None:
    """Measure how long BUNDLE takes to answer on this machine, where the time goes, and whether
    the numbers are to be trusted.

    BUNDLE is a folder or the name of a default bundle; TASK stands for the first default bundle
    that serves it.
    """
    from edgelm.reports import text
    from edgelm_runtime.bundle import open_bundle
    from edgelm_runtime.loader import served_task
    from edgelm_runtime.placement import LoadOptions
    from edgelm_runtime.profile.run import ProfileOptions, profile
    from edgelm_runtime.profile.scenarios import NAMES
    from edgelm_runtime.profile.subject import subject_of

    folders = bundles_of(bundle)
    if len(folders) > 1:
        others = ", ".join(folder.name for folder in folders[1:])
        click.echo(f"edgelm: note: {bundle} is profiled with {folders[0].name}; name {others} for the others", err=True)
    opened = open_bundle(folders[0])
    task = served_task(opened, bundle if bundle in TASKS else given["task"])
    load = LoadOptions(
        given["device"], given["use_variant"], given["threads"], given["allow_fallback"], given["low_priority"]
    )
    source = "goldens" if given["input"] is None else given["input"].name
    subject = subject_of(opened, task, load, _values(given["input"], task, given["column"]), source)
    shown = sys.stderr.isatty()
    options = ProfileOptions(seconds, given["scenario"] or NAMES, given["latency_limit"])
    report = profile(subject, options, lambda part: click.echo(part, err=True) if shown else None)
    click.echo(json_module.dumps(report.to_dict(), ensure_ascii=False) if json else text.table(report))


def _values(path: Path | None, task: str, column: str | None) -> list[Any] | None:
    """The inputs of a file; None where the golden ones are taken. Raises InputError where a line is refused."""
    if path is None:
        return None
    found = inputs.read_file(path, inputs.reader_for(task, column))
    for problem in found.problems:
        raise InputError(f"{path}, line {problem.line}: {problem.message}")
    return [item.value for item in found.items]
