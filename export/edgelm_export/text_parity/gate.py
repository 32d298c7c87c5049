"""The gate that every bundle passes: raw texts in, the answers of transformers expected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.checkpoint.reading import GENERATORS
from edgelm_export.evaluation import Each, nothing
from edgelm_export.reference import Reference
from edgelm_export.text_parity.asked import Asked, LeftOut
from edgelm_export.text_parity.oracle import EncoderOracle, GeneratorOracle
from edgelm_export.text_parity.verdict import Verdict, verdict_of
from edgelm_export.texts import odd_texts, paired, verification_inputs
from edgelm_export.tolerance import TOLERANCES
from edgelm_runtime.errors import InputError, ParityError
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks import ENCODERS
from edgelm_runtime.tasks.reading import Text
from edgelm_runtime.visible import visible

ORDINARY = 18  # of the verification inputs of a task
LARGE = 500_000_000  # parameters, above which torch takes seconds for an answer: fewer texts then
_SHOWN = 5


@dataclass(frozen=True)
class Difference:
    """A text that is answered otherwise than by transformers, and why that is accepted."""

    text: str
    transformers: str
    bundle: str
    why: str


@dataclass(frozen=True)
class TextParity:
    """How many raw texts were answered by transformers and by the bundle, and how many the same.

    ``explained`` are some of the others; a difference without an explanation is a ParityError. ``left_out`` says of how
    many texts no answer could be compared, by the reason; ``answered_by`` what answered on transformers' side.
    """

    texts: int
    same: int
    explained: Sequence[Difference]
    left_out: Mapping[str, int]
    answered_by: Sequence[str]

    def summary(self) -> str:
        """One line for a person."""
        other = self.texts - self.same
        explained = f", {other} differ" if other else ""
        return f"{self.same} of {self.texts} raw texts as {', '.join(self.answered_by)}{explained}"

    def table(self) -> str:
        """The line, and the differences, both answers of each."""
        shown = [
            f"  text          {visible(one.text)}\n  transformers  {visible(one.transformers)}\n"
            f"  bundle        {visible(one.bundle)}\n  why           {visible(one.why)}"
            for one in self.explained
        ]
        return "\n\n".join([f"From text to answer: {self.summary()}.", *shown])

    def to_dict(self) -> dict[str, Any]:
        """For the manifest's `quality`."""
        return {**asdict(self), "left_out": dict(self.left_out), "answered_by": list(self.answered_by)}


@dataclass(frozen=True)
class Gate:
    """transformers' answers to raw texts, which every bundle of a checkpoint is held against."""

    asked: Sequence[Asked]
    left_out: Mapping[str, int]

    def measure(self, folder: Path, precision: str, each: Each = nothing) -> TextParity:
        """Answer the texts with the bundle in ``folder``, and compare; ``each`` is called before every text.

        Raises:
            ParityError: an answer differs, and the precision does not explain it; both are in the message.
        """
        verdicts = self.verdicts(folder, precision, each)
        others = [_difference(one, verdict, precision) for one, verdict in verdicts if not verdict.same]
        by = tuple(dict.fromkeys(one.how for one in self.asked))
        return TextParity(len(verdicts), len(verdicts) - len(others), others[:_SHOWN], self.left_out, by)

    def compare(self, folder: Path, precision: str) -> TextParity:
        """As ``measure``, with the differences that nothing explains among the others, the first of all."""
        verdicts = self.verdicts(folder, precision)
        others = [(one, verdict) for one, verdict in verdicts if not verdict.same]
        shown = [
            Difference(str(one.text)[:200], verdict.expected, verdict.found, verdict.why or f"NONE: {verdict.problem}")
            for one, verdict in sorted(others, key=lambda each: bool(each[1].why))[:_SHOWN]
        ]
        by = tuple(dict.fromkeys(one.how for one in self.asked))
        return TextParity(len(verdicts), len(verdicts) - len(others), shown, self.left_out, by)

    def verdicts(self, folder: Path, precision: str, each: Each = nothing) -> list[tuple[Asked, Verdict]]:
        """Every text with what became of it."""
        found: list[tuple[Asked, Verdict]] = []
        for task in dict.fromkeys(one.task for one in self.asked):
            model = load(folder, task=task)
            # A cache in 8 bits rounds what float32 weights compute.
            rounded = task not in ENCODERS and model.generator.layout.dtype is np.int8
            held = "int8" if rounded and precision == "fp32" else precision
            worst, exact = TOLERANCES[held].worst, held == "fp32"
            for one in self.asked:
                if one.task == task:
                    each()
                    found.append((one, verdict_of(model, one, worst, exact=exact)))
        return found


def _difference(asked: Asked, verdict: Verdict, precision: str) -> Difference:
    """A difference that is explained. Raises ParityError for another."""
    if verdict.why:
        return Difference(str(asked.text)[:200], verdict.expected, verdict.found, verdict.why)
    raise ParityError(
        f"the {precision} bundle does not answer {str(asked.text)[:200]!r} as {asked.how}: {verdict.problem}.\n"
        f"  transformers: {visible(verdict.expected)}\n  bundle:       {visible(verdict.found)}\n"
        "Nothing was written; try --precision fp32, and where that differs, too, report it with the checkpoint"
    )


def ask(
    checkpoint: Checkpoint, manifest: Manifest, reference: Reference, texts: Sequence[tuple[str, Text]] | None = None
) -> Gate:
    """transformers' answers to raw texts, as (task, text), by default those of ``gate_texts``.

    ``reference`` has torch's model; sentence-transformers loads one of its own.
    """
    made = GeneratorOracle if checkpoint.task in GENERATORS else EncoderOracle
    oracle = made(checkpoint, manifest, reference)
    asked: list[Asked] = []
    left_out: dict[str, int] = {}
    for task, text in gate_texts(checkpoint, manifest) if texts is None else texts:
        try:
            asked.append(oracle.ask(task, text))
        except (LeftOut, InputError) as reason:
            why = str(reason) if isinstance(reason, LeftOut) else "no text that a bundle reads"
            left_out[why] = left_out.get(why, 0) + 1
    oracle.close()
    return Gate(asked, left_out)


def gate_texts(checkpoint: Checkpoint, manifest: Manifest) -> list[tuple[str, Text]]:
    """The raw texts of every served task, as (task, text): some of the verification inputs, and odd ones."""
    ordinary = ORDINARY if checkpoint.weights.elements < LARGE else ORDINARY // 4
    added = json.loads(checkpoint.tokenizer_json).get("added_tokens") or []
    names = [str(token["content"]) for token in added]
    context = 0 if checkpoint.task in GENERATORS else manifest.tokenizer.max_tokens
    found: list[tuple[str, Text]] = []
    for task in manifest.serves:
        inputs = verification_inputs(task, manifest.languages)
        texts: list[Text] = [*inputs[:: -(-len(inputs) // ordinary)], *odd_texts(task, names, context)]
        if manifest.pairs:  # the first text of a pair stands whole in every window
            *short, long = map(str, texts)
            texts = [*map(paired, short), (inputs[0], long)]
        found += [(task, text) for text in texts]
    return found
