"""Answers kept, beside the peers: `make perf-fidelity`, or `python -m perf.fidelity --classifier CHECKPOINT ROWS`.

Every engine is given the same checkpoint and the same token ids, in a process of its own, some rounds long in turns.
ROWS are .jsonl with the right answers, which the checkpoint was not trained on: text and label, or text and summary.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgelm_runtime.machine import default_threads
from perf.beside.arguments import parsed, parser_for
from perf.fidelity import cases, scores
from perf.fidelity.harness import Bench, engines
from perf.fidelity.page import write
from perf.fidelity.report import Model, print_report
from perf.fidelity.smoke import checkpoint_and_rows
from perf.kept import keep

MOST, SMOKE_MOST = 1000, 10


def main() -> None:
    given = _arguments()
    bench = Bench(given.work, given.smoke, given.threads or default_threads(), engines(given.engines))
    bench.work.mkdir(parents=True, exist_ok=True)
    bench.install()
    if given.smoke:
        given.classifier = [checkpoint_and_rows("encode", bench.work)]
        given.generator = [checkpoint_and_rows("decode", bench.work)]
    models = [_classifier(bench, *paths, given) for paths in given.classifier]
    models += [_generator(bench, *paths, given) for paths in given.generator]
    report = print_report(bench, models)
    (bench.work / "report.json").write_text(json.dumps(report, ensure_ascii=False), "utf-8")
    if given.page:
        write(report, given.page)
        keep(report)


def _classifier(bench: Bench, checkpoint: Path, rows_file: Path, given: argparse.Namespace) -> Model:
    """Accuracy; torch is one of the engines, since its milliseconds are wanted too."""
    prepared = bench.work / "checkpoints" / checkpoint.name
    asked = cases.classifier(checkpoint, rows_file, given.rows, prepared)
    rows = list(bench.rows_of("encode", prepared, bench.classifier_plan(asked)))
    found = [scores.classified(row, asked) for row in bench.rounds(rows, given.rounds)]
    torch = next((row for row in found if row.peer.name == "transformers"), None)
    if torch is None:
        raise SystemExit(f"{checkpoint}: nothing to compare with: transformers is not among the engines that ran")
    return Model(checkpoint.name, "accuracy", "from a row's ids to its logits", torch.answers, torch.scores, found)


def _generator(bench: Bench, checkpoint: Path, rows_file: Path, given: argparse.Namespace) -> Model:
    """ROUGE-L of greedy answers, without the rules that edgelm has against repetition; torch answers here."""
    prepared = bench.work / "checkpoints" / checkpoint.name
    asked = cases.generator(checkpoint, rows_file, given.rows, bench.tokens, prepared)
    texts = scores.Texts(prepared, bench.tokens)
    answers = texts.reference(asked)
    rows = list(bench.rows_of("decode", prepared, bench.generator_plan(asked)))
    found = [texts.scored(row, asked) for row in bench.rounds(rows, given.rounds)]
    return Model(checkpoint.name, "ROUGE-L", "a token", answers, scores.rouge(asked, answers), found)


def _arguments() -> argparse.Namespace:
    parser = parser_for("fidelity", "fidelity", Path(".perf") / "fidelity", __doc__)
    pair = {"nargs": 2, "type": Path, "action": "append", "default": [], "metavar": ("CHECKPOINT", "ROWS")}
    parser.add_argument("--classifier", **pair, help="a BERT classifier and its rows (repeatable)")
    parser.add_argument("--generator", **pair, help="a GPT-2 or Llama and its rows (repeatable)")
    parser.add_argument("--most", dest="rows", type=int, default=MOST, help="rows that are asked, evenly spread")
    given = parsed(parser)
    if given.smoke:
        given.rows = SMOKE_MOST
    elif not given.classifier and not given.generator:
        parser.error("give --classifier or --generator, with a checkpoint and the rows to ask it, or --smoke")
    return given


if __name__ == "__main__":
    main()
