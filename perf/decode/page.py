"""docs/decoders.md and its chart, from a report: `python -m perf.decode.page .perf/report.json docs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.beside import page as beside
from perf.beside.report import cell
from perf.decode.chart import draw
from perf.decode.report import HEADER

INTRODUCTION = """\
# The decoder beside its peers

Written by `make perf-decode`, which sets up each engine in an environment of its own, converts the same two models for
all of them, and runs every engine in a process of its own, in turns, three rounds long. Random weights of two known
shapes: GPT-2 with 124 million parameters, and SmolLM's Llama with 135 million. Batch 1, greedy; prompts of 64 and 512
tokens, of which no two begin alike; 128 tokens after 64. Conversions use each engine's own tools with their defaults:
what int8 and int4 mean differs between them. OpenVINO's float32 models run in bfloat16 where the processor has it.

`make perf-decode SUMMARY=checkpoints/writer` also summarises long texts with the default writer's checkpoint, which
`recipes/train.sh` makes.

- **load**: the model alone, after the imports. **first**: to the first token of a prompt. **token**: from one token to
  the next.
- **of ceiling**: tokens a second over what reading the weights of all matrix products once a token would allow, at the
  speed at which all threads read a large buffer here.
- **resident**: of the process, at the end, Python and the engine's packages included. **files**: what a device has to
  hold.

![Tokens a second and time to the first token, by engine](decoders.png)
"""


def write(report: Mapping[str, Any], folder: Path) -> None:
    """Write the page and the chart."""
    (folder / "decoders.md").write_text(page(report), "utf-8")
    draw(report, folder / "decoders.png")


def page(report: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, beside.machine(report, ("large reads",))]
    for shape, rows in report["details"].items():
        if shape != "failures":
            parts.append(f"## {shape}\n\n{beside.rows(rows, HEADER)}\n")
    parts.append(beside.goals(report))
    others = [[one["name"], cell(one["median"]), one["unit"]] for one in report["figures"] if one["met"] is None]
    if others:
        parts.append(f"## Summaries\n\n{beside.table(('what', 'median', ''), others)}\n")
    return "\n".join(parts + beside.failures(report))


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]))
