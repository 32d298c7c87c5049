"""The newest run of every measurement: perf/results has its JSON line, and docs/performance.md is written from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from perf.bench import ROOT

FOLDER = ROOT / "perf" / "results"
_UNSAFE = re.compile(r"[^a-z0-9]+")


def lines(text: str) -> Iterator[dict[str, Any]]:
    """The reports in the output of measurements, and of `edgelm profile --json`, among whatever else was printed."""
    for line in text.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            if "benchmark" in found or "schema" in found:
                yield found


def keep(report: Mapping[str, Any], folder: Path = FOLDER) -> Path | None:
    """Write a report in the place of the one of its name before; None for a smoke run or a skipped one."""
    if report.get("smoke") or report.get("skipped"):
        return None
    path = folder / f"{name_of(report)}.json"
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def name_of(report: Mapping[str, Any]) -> str:
    """The measurement, and what it was of where that is not the default bundles."""
    if "schema" in report:
        subject = report["subject"]
        return _UNSAFE.sub("-", f"profile-{subject['bundle']}-{subject['task']}".lower())
    words = report["command"].split()
    told = [Path(after).name for word, after in pairwise(words) if word in ("--bundle", "--shape")]
    return _UNSAFE.sub("-", "-".join([report["benchmark"], *told]).lower())


def kept(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Every report by name."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}
