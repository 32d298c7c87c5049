"""Encoders side by side: `make perf-encode`, or `python -m perf.encode [--engines edgelm,openvino] [--rounds 5]`.

Every engine answers in a process of its own, one after the other, some rounds long, and nothing else runs meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgelm_export.texts import verification_inputs
from edgelm_runtime.bundle import default_bundles, open_bundle
from edgelm_runtime.machine import default_threads
from edgelm_runtime.profile.rates import LARGE_BYTES, read_bandwidth
from perf.bench import ROOT
from perf.beside.arguments import parsed, parser_for
from perf.encode.ceiling import int8_products
from perf.encode.harness import Bench
from perf.encode.page import write
from perf.encode.peers import peers
from perf.encode.report import CEILED, Ceilings, Row, print_report
from perf.encode.shapes import DEFAULT_BUNDLE, SHAPES
from perf.kept import keep

BESIDE_DEFAULT = ("minilm-l6", "smoke")  # the shapes that the default bundle is measured beside


def main() -> None:
    given = parsed(parser_for("encode", "encoders", Path(".perf") / "encode", __doc__))
    shapes = ["smoke"] if given.smoke else [shape for shape in SHAPES if shape != "smoke"]
    engines = [peer for peer in peers() if given.engines is None or peer.name in given.engines.split(",")]
    bench = Bench(given.work, given.smoke, given.threads or default_threads(), engines)
    bench.work.mkdir(parents=True, exist_ok=True)
    bench.install()
    by_shape = {shape: _rows(bench, shape) for shape in shapes}

    ceilings = Ceilings(read_bandwidth(bench.threads, 0 if given.smoke else LARGE_BYTES), [])
    for shape, rows in by_shape.items():
        ceiled = shape in CEILED
        by_shape[shape] = bench.rounds(
            rows, given.rounds, (lambda: _measure_products(bench, ceilings)) if ceiled else None
        )
    report = print_report(bench, by_shape, ceilings)
    (bench.work / "report.json").write_text(json.dumps(report, ensure_ascii=False), "utf-8")
    if given.page:
        write(report, given.page)
        keep(report)


def _rows(bench: Bench, shape: str) -> list[Row]:
    """The shape's checkpoint, converted for everyone; the default bundle beside the shape that it has."""
    checkpoint = bench.work / "checkpoints" / shape
    if not checkpoint.is_dir():
        subprocess.run([sys.executable, "-m", "perf.encode.shapes", shape, str(checkpoint)], cwd=ROOT, check=True)
    texts = verification_inputs("sentiment", ("en",))
    rows = list(bench.convert(checkpoint, shape, bench.plan(texts, SHAPES[shape].positions)))
    if shape in BESIDE_DEFAULT:
        manifest = open_bundle(default_bundles()[DEFAULT_BUNDLE], verify="lazy").manifest
        rows += bench.default_bundle(bench.plan(texts, manifest.tokenizer.max_tokens))
    return rows


def _measure_products(bench: Bench, ceilings: Ceilings) -> None:
    bench.say("int8 ceiling")
    ceilings.products.append(int8_products(bench.threads, bench.smoke))


if __name__ == "__main__":
    main()
