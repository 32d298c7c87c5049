"""One side of a comparison: a bundle, or the checkpoint of one. What it is, what it answers, how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from edgelm_export import taskmetrics
from edgelm_export.checkpoint import Checkpoint, load_checkpoint
from edgelm_export.evaluation import Evaluation, Example
from edgelm_export.finetune.data import Row
from edgelm_export.text_parity import TextParity
from edgelm_export.text_parity.own import OwnTokenizer, own_reader
from edgelm_runtime.bundle import Bundle, open_bundle
from edgelm_runtime.errors import BundleNotFound, InputError
from edgelm_runtime.fields import MANIFEST_NAME
from edgelm_runtime.loader import load
from edgelm_runtime.tasks import ENCODERS
from edgelm_runtime.tasks.reading import Text
from edgelm_runtime.tokenizer import TextTokenizer
from edgelm_runtime.vetting.trial import tokenizer_content

ROUNDS = 3
TIMED = 12  # texts of each round
ANSWER_TOKENS = 32  # of a generator
WEIGHTS = ("*.safetensors", "*.onnx*", "*.bin")  # a checkpoint's, of the first kind that is there
Answerer = Callable[[Text], object]


@dataclass(frozen=True)
class Side:
    """A bundle, or a checkpoint with the bundle whose token ids it is given."""

    folder: Path
    bundle: Bundle
    checkpoint: Checkpoint | None = None

    @property
    def name(self) -> str:
        """How it is called in a table."""
        return f"{self.folder} (torch)" if self.checkpoint else str(self.folder)

    @property
    def bytes(self) -> int:
        """Size of all files of a bundle, or of a checkpoint's weights."""
        if self.checkpoint is None:
            return sum(entry.size for entry in self.bundle.manifest.files.values())
        found = (sorted(self.folder.rglob(kind)) for kind in WEIGHTS)
        return sum(path.stat().st_size for path in next(filter(None, found), []))

    def evaluate(self, serves: Sequence[str], rows: Sequence[Row]) -> Evaluation:
        """Metrics and answers on rows of ``evaluation_rows``."""
        if self.checkpoint is None:
            return taskmetrics.evaluate_bundle(self.folder, serves, rows)
        return taskmetrics.evaluate_checkpoint(self.checkpoint, self.bundle.path, serves, rows)

    def answerer(self, task: str) -> Answerer:
        """Load it; a function that answers one text, a generator with so many tokens whatever they are."""
        reads = task in ENCODERS
        model = load(self.bundle.path, task=task)
        if self.checkpoint is None:
            return model if reads else lambda text: _generated(model, str(text))
        from edgelm_export.graph_reference import reference_of

        reference, read = reference_of(self.checkpoint), own_reader(self.checkpoint)
        if reads:
            reader = read.reader(model)
            return lambda text: reference.logits(reader.read(text).rows)

        def answer(text: Text) -> object:
            prompt = read.prompt(model, str(text))
            options = model.options(max_new_tokens=_room(model, prompt), temperature=0.0, num_beams=1)
            return reference.greedy(prompt, options, ())

        return answer


def _generated(model: Any, text: str) -> object:
    prompt = model.tokenize(text)
    return model.infer(prompt, max_new_tokens=_room(model, prompt), temperature=0.0, num_beams=1, ignore_eos=True)


def _room(model: Any, prompt: Sequence[int]) -> int:
    options = model.options(max_new_tokens=ANSWER_TOKENS)
    return int(model.generator.room(len(model.generator.begin(prompt)), options))


def open_sides(a: Path, b: Path) -> tuple[Side, Side]:
    """Two bundles, or a bundle and a checkpoint, that do the same.

    Raises:
        InputError: two checkpoints, or two that do different things.
        BundleNotFound: one of the folders is not there.
        BundleRejected, UnsupportedCheckpoint: one is there and cannot be used, or is a checkpoint of another task.
    """
    bundles = [open_bundle(path, verify="lazy") if _is_bundle(path) else None for path in (a, b)]
    first = next((bundle for bundle in bundles if bundle is not None), None)
    if first is None:
        raise InputError(
            f"{a} and {b} are two checkpoints; one of the two must be a bundle: write one with edgelm export"
        )
    task, pairs = first.manifest.task, first.manifest.pairs
    # The names that the export was given are those of its checkpoint, too.
    labels = first.manifest.labels if first.manifest.provenance.get("labels") == "given" else ()
    one, other = (
        Side(path, bundle or first, None if bundle else load_checkpoint(path, task, pairs=pairs, labels=labels))
        for path, bundle in zip((a, b), bundles, strict=True)
    )
    _check_alike(one, other)
    return one, other


def _is_bundle(folder: Path) -> bool:
    if not folder.is_dir():
        raise BundleNotFound(f"{folder}: no such folder; give that of a bundle, or of the checkpoint of one")
    return (folder / MANIFEST_NAME).is_file()


def _check_alike(a: Side, b: Side) -> None:
    facts = [
        ("task", a.bundle.manifest.task, b.bundle.manifest.task),
        ("labels", *(side.checkpoint.labels if side.checkpoint else side.bundle.manifest.labels for side in (a, b))),
    ]
    for what, mine, other in facts:
        if mine != other:
            raise InputError(
                f"{a.folder} has the {what} {_listed(mine)}, {b.folder} {_listed(other)}: "
                "compared are models that do the same"
            )
    if not served(a, b):
        raise InputError(
            f"{a.folder} serves {_listed(a.bundle.manifest.serves)}, {b.folder} {_listed(b.bundle.manifest.serves)}: "
            "compared are models that serve the same"
        )


def _listed(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "none"


def served(a: Side, b: Side) -> tuple[str, ...]:
    """The tasks that both serve."""
    return tuple(task for task in a.bundle.manifest.serves if task in b.bundle.manifest.serves)


def read_otherwise(side: Side, texts: Sequence[str]) -> list[str]:
    """The texts that transformers' tokenizer of a checkpoint reads as other token ids than the bundle.

    Raises:
        InputError: most of them: the bundle was made from another checkpoint.
    """
    if side.checkpoint is None:
        return []
    mine = OwnTokenizer(side.checkpoint)
    other = TextTokenizer(tokenizer_content(side.bundle), side.bundle.manifest.tokenizer)
    found = [text for text in texts if mine.encode(text) != other.encode(text)]
    if found and 2 * len(found) > len(texts):
        raise InputError(
            f"{side.folder} reads {found[0][:80]!r} as other token ids than {side.bundle.path}, and {len(found)} of "
            f"{len(texts)} texts in all: compared are a bundle and the checkpoint that it was made from"
        )
    return found


def text_parity_of(sides: tuple[Side, Side]) -> TextParity | None:
    """Raw texts answered by a checkpoint in transformers, and by the bundle beside it; None of two bundles."""
    from edgelm_export import text_parity
    from edgelm_export.graph_reference import reference_of

    for side in sides:
        if side.checkpoint is not None:
            manifest = side.bundle.manifest
            gate = text_parity.ask(side.checkpoint, manifest, reference_of(side.checkpoint))
            return gate.compare(side.bundle.path, manifest.variants[0].precision)
    return None


@dataclass(frozen=True)
class Speed:
    """Medians over rounds in turns: of loading, and of answering one text, in milliseconds."""

    load_ms: float
    answer_ms: float


def in_turns(sides: tuple[Side, Side], examples: Sequence[Example]) -> tuple[Speed, Speed]:
    """Load and answer in turns, every second round the other way round; the first answer of a round does not count."""
    task = examples[0].task
    paired = sides[0].bundle.manifest.pairs
    texts = [(one.text, one.text_pair) if paired else one.text for one in examples if one.task == task]
    texts = texts[:: -(-len(texts) // TIMED)]
    loads: tuple[list[float], list[float]] = ([], [])
    answers: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            start = perf_counter()
            answer = sides[index].answerer(task)
            loads[index].append(_ms_since(start))
            answer(texts[0])
            for text in texts:
                start = perf_counter()
                answer(text)
                answers[index].append(_ms_since(start))
    first, second = (Speed(median(load), median(answer)) for load, answer in zip(loads, answers, strict=True))
    return first, second


def _ms_since(start: float) -> float:
    return 1000.0 * (perf_counter() - start)
