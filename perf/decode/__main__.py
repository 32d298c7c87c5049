"""Decoders side by side: `make perf-decode`, or `python -m perf.decode [--engines edgelm,openvino] [--summary FOLDER]`.

Every engine answers in a process of its own, one after the other, some rounds long, and nothing else runs meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from edgelm_runtime.machine import default_threads
from edgelm_runtime.profile.rates import LARGE_BYTES, read_bandwidth
from perf.bench import ROOT
from perf.beside.arguments import parsed, parser_for
from perf.decode import summary
from perf.decode.harness import Bench
from perf.decode.page import write
from perf.decode.peers import peers
from perf.decode.protocol import Plan
from perf.decode.report import Row, print_report
from perf.decode.shapes import SHAPES, prompt
from perf.kept import keep

LENGTHS = (64, 512)
TOKENS, FIRSTS = 128, 4


def main() -> None:
    given = _arguments()
    shapes = ["smoke"] if given.smoke else [shape for shape in SHAPES if shape != "smoke"]
    engines = [peer for peer in peers() if given.engines is None or peer.name in given.engines.split(",")]
    bench = Bench(given.work, given.smoke, given.threads or default_threads(), engines)
    bench.work.mkdir(parents=True, exist_ok=True)
    bench.install()
    by_shape: dict[str, list[Row]] = {}
    for shape in shapes:
        checkpoint = bench.work / "checkpoints" / shape
        if not checkpoint.is_dir():
            subprocess.run([sys.executable, "-m", "perf.decode.shapes", shape, str(checkpoint)], cwd=ROOT, check=True)
        plan = _plan(bench, int(SHAPES[shape]["vocab_size"]))
        by_shape[shape] = list(bench.convert(checkpoint, shape, str(SHAPES[shape]["model_type"]), plan))
    summaries = summary.convert(bench, given.summary) if given.summary else []

    bandwidth = read_bandwidth(bench.threads, 0 if given.smoke else LARGE_BYTES)
    for shape, rows in by_shape.items():
        by_shape[shape] = bench.rounds(rows, given.rounds)
    summaries = bench.rounds(summaries, given.rounds)
    report = print_report(bench, by_shape, summary.figures(summaries), bandwidth)
    (bench.work / "report.json").write_text(json.dumps(report, ensure_ascii=False), "utf-8")
    if given.page:
        write(report, given.page)
        keep(report)


def _plan(bench: Bench, vocab: int) -> Plan:
    """Prompts of one engine's process. No two begin alike, so nothing is answered from a cache of prompts."""
    firsts = {
        str(length): [prompt(vocab, length, 10 * length + number) for number in range(2 if bench.smoke else FIRSTS)]
        for length in LENGTHS
    }
    decode = [prompt(vocab, LENGTHS[0], number) for number in range(1 if bench.smoke else 2)]
    return Plan(bench.threads, firsts, decode, 8 if bench.smoke else TOKENS)


def _arguments() -> argparse.Namespace:
    parser = parser_for("decode", "decoders", Path(".perf"), __doc__)
    parser.add_argument("--summary", type=Path, help="the writer's checkpoint: summaries with prompt lookup as well")
    return parsed(parser)


if __name__ == "__main__":
    main()
