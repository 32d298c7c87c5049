"""From raw text to final answer over a zoo of tiny checkpoints: every family, task and kind of tokenizer.

In float32 every greedy answer and label is to be transformers' own, and every vector within 1e-4.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.errors import EdgeLMError
from perf.bench import Figure, Report, arguments, table
from perf.beside import page
from tests.export import graphs, kinds, seq2seq, tiny

ENCODER_TOKENIZERS = ("wordpiece", "byte_level_between", "unigram_between")
DECODER_TOKENIZERS = ("byte_level", "sentencepiece", "metaspace")
BOTH_TOKENIZERS = ("unigram", "byte_level_between")
BEGIN, END = "<!-- written by python -m perf.zoo --page docs -->", "<!-- end of zoo -->"
HEADER = ("family", "task", "tokenizer", "raw texts", "same as transformers")
PROMPTS = {"summary": "Summarize: {text}\nTL;DR:"}
SUMMED = ("family", "task", "tokenizers", "raw texts", "same as transformers, at least")
VOCAB = 640  # rows: the tokenizers have 600 tokens, and one that is added
SMOKE = 4  # every so many-th checkpoint of all, none of them traced
Save = Callable[[Path], None]


def zoo() -> Iterator[tuple[str, str, str, Save]]:
    """Family, task and kind of tokenizer of every checkpoint, and what saves it."""
    for kind in (*tiny.ENCODERS, *graphs.TRACED):
        for index, task in enumerate(tiny.AUTO):
            # A traced family takes seconds: it has one kind of tokenizer for each task.
            own = ENCODER_TOKENIZERS if kind in tiny.ENCODERS else (ENCODER_TOKENIZERS[index],)
            for tokenizer in own:
                yield kind, task, tokenizer, lambda folder, k=kind, t=task, n=tokenizer: _encoder(folder, k, t, n)
    for kind in ("gpt2", *tiny.SHAPES):
        for tokenizer in DECODER_TOKENIZERS:
            yield kind, "text-generation", tokenizer, lambda folder, k=kind, n=tokenizer: _decoder(folder, k, n)
    for kind in seq2seq.SHAPES:
        for tokenizer in BOTH_TOKENIZERS:
            yield kind, "text2text-generation", tokenizer, lambda folder, k=kind, n=tokenizer: _both(folder, k, n)


def main() -> None:
    paths = {"--page": "the folder of fidelity.md, to write the table into it"}
    given = arguments("From text to answer, against transformers.", rounds=1, smoke_rounds=1, paths=paths)
    report = Report("zoo", given.smoke, excludes="time: this measures answers")
    lines = measure(report)
    print(table([HEADER, *lines]))
    if given.page:
        by_family = summed(lines)
        page.fill(given.page / "fidelity.md", BEGIN, END, f"\n{page.table(SUMMED, by_family)}\n\n")
    report.print()


def summed(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The lines of a family and task as one: its kinds of tokenizer, its texts, and the smallest share."""
    groups: dict[tuple[str, str], list[Sequence[str]]] = {}
    for line in lines:
        groups.setdefault((line[0], line[1]), []).append(line)
    return [
        [*key, ", ".join(one[2] for one in mine), str(sum(int(one[3]) for one in mine)), _least(mine)]
        for key, mine in groups.items()
    ]


def _least(lines: Sequence[Sequence[str]]) -> str:
    shares = [float(line[4].rstrip("%")) if line[4] != "refused" else 0.0 for line in lines]
    return f"{min(shares):.1f}%"


def measure(report: Report) -> list[list[str]]:
    """A line for every checkpoint; the figures go to the report."""
    every = list(zoo())
    lines: list[list[str]] = []
    texts = same = 0
    for kind, task, tokenizer, save in every[:: len(every) // SMOKE] if report.smoke else every:
        with tempfile.TemporaryDirectory() as scratch:
            found, of = _measured(Path(scratch), task, save)
        texts, same = texts + of, same + found
        lines.append([kind, task, tokenizer, str(of), "refused" if of == 0 else f"{found / of:.1%}"])
        report.add(Figure(f"{kind} {task} {tokenizer}: same answers", "", [found / of if of else 0.0], at_least=1.0))
    report.facts |= {"checkpoints": len(lines), "raw texts": texts}
    report.add(Figure("same answers, all checkpoints", "", [same / texts], at_least=1.0))
    return lines


def _measured(scratch: Path, task: str, save: Save) -> tuple[int, int]:
    """How many texts were answered the same, and how many there were; none where the export was refused."""
    save(scratch / "checkpoint")
    prompts = PROMPTS if task.endswith("generation") else {}
    try:
        made = export(ExportOptions(scratch / "checkpoint", scratch / "bundle", precision="fp32", prompts=prompts))
    except EdgeLMError as error:
        print(f"refused: {error}")
        return 0, 0
    found = made.text_parity
    return (0, 0) if found is None else (found.same, found.texts)


def _encoder(folder: Path, kind: str, task: str, tokenizer: str) -> None:
    names = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}} if task == "token-classification" else {}
    if kind in graphs.TRACED:
        model = graphs.model(kind, task, vocab_size=VOCAB, **names)
    else:
        model = tiny.encoder(kind, task, vocab_size=VOCAB, pad_token_id=1, **names)
    model.save_pretrained(folder)
    _tokenizer(folder, tokenizer)


def _decoder(folder: Path, kind: str, tokenizer: str) -> None:
    ends = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2}
    (tiny.gpt2(**ends) if kind == "gpt2" else tiny.decoder(kind, **ends)).save_pretrained(folder)
    _tokenizer(folder, tokenizer)


def _both(folder: Path, kind: str, tokenizer: str) -> None:
    seq2seq.save(folder, seq2seq.seq2seq(kind, vocab_size=VOCAB), {})
    (folder / "tokenizer.json").unlink()
    _tokenizer(folder, tokenizer)


def _tokenizer(folder: Path, kind: str) -> None:
    """A tokenizer with one more special token, and one that is added and not special."""
    made: Any = kinds.KINDS[kind]()
    made.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    made.add_tokens(["[TITLE]"])
    made.save_pretrained(folder)
    # A class of its own would build another tokenizer than this one.
    path = folder / "tokenizer_config.json"
    config = {**json.loads(path.read_text("utf-8")), "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(config), "utf-8")


if __name__ == "__main__":
    main()
