"""Every architecture against torch: a tiny random model of each, exported, in float32 and in int8.

The models are those of the tests, where each configuration variant is compared as well (tests/export/).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelm_export import verify
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import ExportError
from edgelm_runtime.loader import load
from edgelm_runtime.tasks import ENCODERS
from perf.bench import Figure, Report, arguments, table
from perf.beside import page
from tests.export import graphs, seq2seq, tiny

LARGEST_ERROR, LEAST_SAME = 1e-4, 0.99
BEGIN, END = "<!-- written by python -m perf.families --page docs -->", "<!-- end of families -->"
HEADER = ("model", "largest error, float32", "int8 scheme", "distance, int8", "same choice, int8", "clear of all")
SMOKE = ("bert-text-classification", "gpt2")
Save = Callable[[Path], Path]


def main() -> None:
    paths = {"--page": "the folder of fidelity.md, to write the table into it"}
    given = arguments("Every architecture against torch.", rounds=1, smoke_rounds=1, paths=paths)
    report = Report("families", given.smoke, excludes="time: this measures answers")
    lines: list[list[str]] = []
    for name, save in models():
        if not given.smoke or name in SMOKE:
            with tempfile.TemporaryDirectory() as scratch:
                lines.append([name, *_measured(report, name, save(Path(scratch) / "checkpoint"), Path(scratch))])
    print(table([HEADER, *lines]))
    if given.page:
        page.fill(given.page / "fidelity.md", BEGIN, END, f"\n{page.table(HEADER, lines)}\n\n")
    report.print()


def models() -> Iterator[tuple[str, Save]]:
    """The name of each model, and what saves its checkpoint with a tokenizer."""
    for kind in tiny.ENCODERS:
        for task in tiny.AUTO:
            yield f"{kind}-{task}", lambda folder, kind=kind, task=task: _with_tokenizer(folder, kind, task)
    for kind in graphs.TRACED:
        for task in graphs.TASKS:
            yield f"{kind}-{task}, traced", lambda folder, kind=kind, task=task: graphs.save(folder, kind, task)
    yield "gpt2", tiny.save_gpt2
    for kind in tiny.SHAPES:
        yield kind, lambda folder, kind=kind: tiny.save_gpt2(folder, tiny.decoder(kind, spread=0.05))
    for kind in seq2seq.SHAPES:
        yield kind, lambda folder, kind=kind: seq2seq.save(folder, seq2seq.seq2seq(kind, spread=0.05), {})


def _with_tokenizer(folder: Path, kind: str, task: str) -> Path:
    tiny.encoder(kind, task, spread=0.05).save_pretrained(folder)
    tiny.train_gpt2_tokenizer(tiny.TEXTS, 600, 512).save_pretrained(folder)
    return folder


def _measured(report: Report, name: str, checkpoint: Path, scratch: Path) -> list[str]:
    """A line of the table; the figures go to the report."""
    exact = export(ExportOptions(checkpoint, scratch / "fp32", precision="fp32")).parity.largest_error
    report.add(Figure(f"{name}: largest error, float32", "", [exact], at_most=LARGEST_ERROR))
    try:
        rounded = export(ExportOptions(checkpoint, scratch / "int8"))
    except ExportError as error:
        report.add(Figure(f"{name}: same choice, int8", "", [0.0], at_least=LEAST_SAME))
        return [f"{exact:.1e}", f"refused: {error}"[:60], "", "", ""]
    same, clear = _choices(checkpoint, scratch / "int8")
    report.add(Figure(f"{name}: same choice, int8", "", [same], at_least=LEAST_SAME))
    return [f"{exact:.1e}", rounded.scheme, f"{rounded.parity.worst:.3f}", f"{same:.3f}", f"{clear:.2f}"]


def _choices(checkpoint: Path, bundle: Path) -> tuple[float, float]:
    """How many clear choices of torch are the bundle's, too, and how many of all are clear.

    A choice is clear where the first leads the second by more than the largest error of that row's logits, which could
    turn it round if it fell on both. A vector is one choice: its direction.
    """
    manifest = open_bundle(bundle, verify="lazy").manifest
    cases, _ = verify.consult(load_checkpoint(checkpoint, manifest.task), manifest)
    pairs: list[tuple[Any, Any]] = []
    for task in dict.fromkeys(case.task for case in cases):
        model = load(bundle, task=task)
        for case in [case for case in cases if case.task == task]:
            pairs.append((case.expected, _output(model, task, case)))
    if manifest.task == "feature-extraction":
        cosines = [float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in pairs]
        return float(np.mean([cosine > LEAST_SAME for cosine in cosines])), 1.0
    expected, found = (np.concatenate([np.atleast_2d(one[side]) for one in pairs]) for side in (0, 1))
    ordered = np.sort(expected, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > np.abs(expected - found).max(axis=1)
    same = expected.argmax(axis=1) == found.argmax(axis=1)
    return float(same[clear].mean()) if clear.any() else 0.0, float(clear.mean())


def _output(model: Any, task: str, case: verify.Case) -> Any:
    if task in ENCODERS:
        return model.infer(case.ids, case.type_ids)
    answer: Sequence[int] = case.answer
    return model.generator.logits(case.ids, answer)


if __name__ == "__main__":
    main()
