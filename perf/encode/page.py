"""docs/encoders.md and its chart, from a report: `python -m perf.encode.page .perf/encode/report.json docs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perf.beside import page as beside
from perf.encode.chart import draw
from perf.encode.report import REST, ROWS

INTRODUCTION = """\
# The encoder beside its peers

Written by `make perf-encode`, which sets up each engine in an environment of its own, converts the same two models for
all of them, and runs every engine in a process of its own, in turns, three rounds long. BERT classifiers with random
weights of two known shapes, BERT-base and MiniLM-L6, and the default bundle sentiment-en, which has MiniLM-L6's shape
and reads 160 tokens, to which longer rows are cut. All have bert-base-uncased's tokenizer. Conversions use each
engine's own tools: OpenVINO's is quantized by NNCF with scales measured on 72 rows, those of optimum,
sentence-transformers and fastembed dynamically for AVX512-VNNI.

- **16, 32, 128, 384**: milliseconds from one row of so many token ids to its logits, median and 95th percentile.
- **8 x 128**: texts a second, eight rows of 128 tokens in a call. **8 reviews**: eight rows of the lengths that reviews
  have, half of them at most 33 tokens, the longest 384; each engine pads them, or does not, as it is made.
- **text**: milliseconds from one text to its label; **texts/s**: 36 texts in one call. Engines without a tokenizer of
  their own have the `tokenizers` library before them. Embedders give a vector, of the same body without the classifier.
- **off by**: the part of the variation of float32 torch's logits from row to row that is missed: 0 is the same, 1 tells
  the rows no better apart than their mean does.
- **load**: the model alone, after the imports. **resident**: of the process, at the end, Python and the engine's
  packages included. **files**: what a device has to hold.
- **of the int8 ceiling**: the products of all tokens with weights, over the best that one bare product of onnxruntime
  reaches here on the same threads, uint8 by int8, 128 x 768 by 768 x 3072.

![Milliseconds and texts a second, by engine](encoders.png)
"""


def write(report: Mapping[str, Any], folder: Path) -> None:
    """Write the page and the chart."""
    (folder / "encoders.md").write_text(page(report), "utf-8")
    draw(report, folder / "encoders.png")


def page(report: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, beside.machine(report, ("large reads", "int8 products"))]
    for shape, rows in report["details"].items():
        if shape != "failures":
            classifiers = [row for row in rows if ROWS[2] in row]
            parts.append(f"## {shape}\n\n{beside.rows(classifiers, ROWS)}\n\n{beside.rows(rows, REST)}\n")
    return "\n".join([*parts, beside.goals(report), *beside.failures(report)])


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]))
