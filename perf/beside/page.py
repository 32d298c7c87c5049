"""Parts of a page of docs/ that is written from a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.beside.report import cell


def machine(report: Mapping[str, Any], ceilings: Sequence[str]) -> str:
    """Where it was measured: the processor, the facts that are ceilings, the versions of every engine."""
    card, facts = report["machine"], report["facts"]
    known = [", ".join(card["isa"]), ", ".join(f"{name} {facts[name]}" for name in ceilings)]
    versions = [f"- {name}: {text}" for name, text in facts.items() if name not in ("threads", *ceilings, "edgelm")]
    return (
        f"## The machine\n\n{card['cpu']}, {facts['threads']} threads, {'; '.join(filter(None, known))}; "
        f"Python {card['python']}. edgelm {card['edgelm']} with onnxruntime {card['onnxruntime']}.\n\n"
        + "\n".join(versions)
        + "\n"
    )


def goals(report: Mapping[str, Any]) -> str:
    """The figures that have goals, and whether they are met."""
    rows = []
    for figure in report["figures"]:
        if figure["met"] is not None:
            goal = f"at most {figure['at_most']}" if figure["at_least"] is None else f"at least {figure['at_least']}"
            rows.append([figure["name"], cell(figure["median"]), goal, "yes" if figure["met"] else "no"])
    said = table(("what", "median", "goal", "met"), rows)
    return f"## Goals\n\nRatios of the same round; the median of the rounds.\n\n{said}\n"


def failures(report: Mapping[str, Any]) -> list[str]:
    """A section about what did not run, if anything."""
    said = "\n".join(f"- {failure[:300]}" for failure in report["details"]["failures"])
    return [f"## What did not run\n\n{said}\n"] if said else []


def rows(lines: Sequence[Mapping[str, Any]], header: Sequence[str]) -> str:
    """A table of some fields of each line; a field that a line does not have stays empty."""
    return table(header, [[cell(line.get(name, "")) for name in header] for line in lines])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill(path: Path, begin: str, end: str, section: str) -> None:
    """Write a section between its two marks, and leave the words around them; a new page where there is none."""
    text = path.read_text("utf-8") if path.is_file() else f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{section}{end}{after}", "utf-8")
