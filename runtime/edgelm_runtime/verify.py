"""Does a bundle answer on this machine as it did where it was made? Every hash, then every golden answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from . import memory
from .bundle import Bundle, open_bundle
from .device import AUTO, CPU, runs_here
from .errors import BundleRejected, InputError
from .machine import cpu_name, machine_kind
from .manifest import GOLDEN_NAME
from .placement import DEFAULTS, LoadOptions, with_note
from .tasks import TASKS, task_class

SCORE_TOLERANCE = 0.02  # instruction sets round int8 products' scales differently
LOGIT_TOLERANCE = 0.2  # tokens this near may change places: one activation rounded otherwise moves them by 0.18
_SHOWN = 200


@dataclass(frozen=True)
class VerifyReport:
    """What was checked.

    `score_difference` is the largest distance of a probability from its golden value, None where there are only texts.
    """

    bundle: str
    path: str
    files: int
    bytes: int
    golden: int
    score_difference: float | None
    variant: str
    device: str
    cpu: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain strings and numbers for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The report for a person."""
        rows = {
            "folder": self.path,
            "hashes": f"{self.files} files, {self.bytes:,} bytes: all as in the manifest",
            "golden answers": f"{self.golden}: all the same",
            "ran": f"{self.variant} on {self.device}",
            "machine": self.cpu,
            "time": f"{self.seconds:.1f} s",
        }
        if self.score_difference is not None:
            rows["scores"] = f"at most {self.score_difference:.4f} apart (accepted: {SCORE_TOLERANCE})"
        return "\n".join([f"{self.bundle}: verified", *(f"  {name:<15} {value}" for name, value in rows.items())])


def verify_bundle(path: str | Path, options: LoadOptions = DEFAULTS) -> VerifyReport:
    """Hash every file of the bundle, then replay the golden answers of the variant that the options choose.

    Raises:
        BundleNotFound: there is no bundle at `path`.
        BundleRejected: a file differs from the manifest, the variant has no usable golden answers, or an answer differs
            from its golden one: a label or a text that is not the same, a score further off than SCORE_TOLERANCE.
        DeviceError: the device that was asked for cannot run it.
    """
    start = perf_counter()
    bundle = open_bundle(Path(path), verify="all")
    models = {task: task_class(task)(bundle, options) for task in bundle.manifest.serves if task in TASKS}
    if not models:
        raise _malformed("answers of tasks that this runtime does not have", ", ".join(TASKS))
    replays = [replay(bundle, task, model) for task, model in models.items()]
    differences = [one.score_difference for one in replays if one.score_difference is not None]
    receipt = next(iter(models.values())).receipt()
    return VerifyReport(
        bundle=bundle.manifest.name,
        path=str(bundle.path),
        files=len(bundle.manifest.files),
        bytes=sum(entry.size for entry in bundle.manifest.files.values()),
        golden=sum(one.answers for one in replays),
        score_difference=max(differences, default=None),
        variant=receipt.variant,
        device=receipt.device,
        cpu=cpu_name(),
        seconds=perf_counter() - start,
    )


@dataclass(frozen=True)
class Replay:
    """How many golden answers came again, and how far their scores were off; None where there are only texts."""

    answers: int
    score_difference: float | None


def replay(bundle: Bundle, task: str, model: Any) -> Replay:
    """Ask a model for the golden answers of its variant and task. Raises BundleRejected where one differs."""
    golden = _golden(bundle, model.engine.variant.goldens)
    scores, texts = (
        [entry for entry in golden.get(kind, ()) if _task_of(bundle, entry) == task]
        for kind in ("classification", "generation")
    )
    differences = [_replay_classification(model, entry) for entry in scores]
    for entry in texts:
        _replay_generation(model, entry)
    return Replay(len(scores) + len(texts), max(differences, default=None))


def golden_texts(bundle: Bundle, task: str, model: Any) -> list[str]:
    """The inputs of a task's golden answers."""
    golden = _golden(bundle, model.engine.variant.goldens)
    entries = [entry for found in golden.values() for entry in found]
    return [entry["text"] for entry in entries if _task_of(bundle, entry) == task]


def checked_here(bundle: Bundle, task: str, options: LoadOptions) -> Any:
    """A model of the task; on a kind of machine where the bundle was never verified, one that answers its goldens.

    There the answers are asked for once a process, unless `edgelm tune` did so before. A variant that answers otherwise
    gives way to the next one where the device and variant were left to edgelm, and the receipt says so. Raises what the
    task's class raises, and BundleRejected where no variant answers as it should.
    """
    model = task_class(task)(bundle, options)
    try:
        _answers_right(bundle, task, model)
    except BundleRejected as refused:
        if options.device != AUTO or options.variant is not None:
            raise
        return _another(bundle, task, options, model, refused)
    return model


def _another(bundle: Bundle, task: str, options: LoadOptions, wrong: Any, refused: BundleRejected) -> Any:
    """The first of the other variants that answers its goldens on the same device. Raises `refused` where none does."""
    for variant in bundle.manifest.variants:
        if variant == wrong.engine.variant or not runs_here(variant, wrong.engine.plan.device):
            continue
        try:
            other = checked_here(bundle, task, replace(options, variant=variant.name))
        except BundleRejected:
            continue
        with_note(other.engine, f"the variant {wrong.engine.variant.name} answers wrongly on this kind of machine")
        return other
    raise refused


_right: set[tuple[str, ...]] = set()


def _answers_right(bundle: Bundle, task: str, model: Any) -> None:
    """Replay the goldens where nobody did on this kind of machine: neither the maker, nor `edgelm tune`, nor we before.

    A bundle that does not say where it was made is believed. Raises BundleRejected where an answer differs.
    """
    machines, device = bundle.manifest.provenance.get("machines"), model.engine.plan.device
    if not isinstance(machines, list) or (device == CPU and machine_kind() in machines):
        return
    variant = model.engine.variant
    key = (task, str(device), *(bundle.manifest.files[name].sha256 for name in (*variant.files, variant.goldens)))
    tuned = memory.recall(bundle).choice
    if key not in _right and (tuned is None or (tuned.variant, tuned.device) != (variant.name, str(device))):
        replay(bundle, task, model)
        _right.add(key)


def _golden(bundle: Bundle, name: str) -> dict[str, list[Any]]:
    expected = 'an object of lists, "classification" or "generation", with at least one answer'
    try:
        golden = json.loads(bundle.read(name))
    except (ValueError, RecursionError) as error:
        raise _malformed(f"no JSON ({error})", expected) from error
    if not isinstance(golden, dict) or not all(isinstance(entries, list) for entries in golden.values()):
        raise _malformed("something else", expected)
    if not golden.get("classification") and not golden.get("generation"):
        raise _malformed("no answers", expected)
    return golden


def _task_of(bundle: Bundle, entry: Any) -> str:
    """The task of a golden answer; one that names none is of the first that the bundle serves."""
    _field(entry, "text", str)
    task, serves = entry.get("task", bundle.manifest.serves[0]), bundle.manifest.serves
    if task not in TASKS or task not in serves:
        raise _malformed(f"an answer of the task {task!r}", ", ".join(serves))
    return str(task)


def _malformed(found: str, expected: str) -> BundleRejected:
    return BundleRejected(
        f"{GOLDEN_NAME} holds {found}; accepted: {expected}. Export the bundle again.",
        what=GOLDEN_NAME,
        expected=expected,
        found=found,
    )


def _field(entry: Any, name: str, kind: type) -> Any:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise _malformed(f"an answer without a usable {name!r}", kind.__name__)
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(f"a score without a usable {name!r}", "number")
    return float(value)


def _answer(model: Any, text: str, **options: Any) -> Any:
    try:
        return model(text, **options)
    except InputError as error:
        raise _malformed(f"an input that is refused ({error})", "text that the task reads") from error


def _replay_classification(model: Any, entry: Mapping[str, Any]) -> float:
    """The largest distance of a score from its golden value."""
    text, label = _field(entry, "text", str), _field(entry, "label", str)
    scores = {name: _number(name, value) for name, value in _field(entry, "scores", dict).items()}
    result = _answer(model, text)
    if result.label != label:
        raise _differs(text, label, result.label)
    if not scores or not result.scores.keys() >= scores.keys():
        raise _differs(text, f"scores of {', '.join(scores)}", f"scores of {', '.join(result.scores)}")
    worst = max(scores, key=lambda name: abs(result.scores[name] - scores[name]))
    difference = float(abs(result.scores[worst] - scores[worst]))
    if not difference <= SCORE_TOLERANCE:
        raise _differs(text, f"{worst} {scores[worst]:.4f}", f"{worst} {result.scores[worst]:.4f}")
    return difference


def _replay_generation(model: Any, entry: Mapping[str, Any]) -> None:
    text, answer = _field(entry, "text", str), _field(entry, "answer", str)
    limit = {"max_new_tokens": _field(entry, "max_new_tokens", int)} if "max_new_tokens" in entry else {}
    # Golden ids are the model's own: a guide would hide what this machine computes.
    found = _answer(model, text, temperature=0.0, coverage_bonus=0.0, quote_bonus=0.0, **limit).text
    if found != answer and not _tied(model, text, entry.get("ids"), limit):
        raise _differs(text, answer, found)


def _tied(model: Any, text: str, golden: Any, limit: Mapping[str, int]) -> bool:
    """Whether the answer parts from the golden token ids where two tokens are about equally probable.

    Instruction sets round differently: there the other token may win, and what follows is another good answer.
    """
    if not isinstance(golden, list) or not all(type(token) is int for token in golden):
        return False
    prompt = model.tokenize(text)
    found = model.infer(prompt, temperature=0.0, **limit)
    end = model.generator.eos_id
    for place, (mine, other) in enumerate(zip([*found, end], [*golden, end], strict=False)):
        if mine != other:
            if mine is None or other is None or not 0 <= other < model.generator.vocab:
                return False
            logits = model.generator.logits([*prompt, *found[:place]])
            return bool(logits[mine] - logits[other] <= LOGIT_TOLERANCE)
    return False


def _differs(text: str, expected: str, found: str) -> BundleRejected:
    return BundleRejected(
        f"a golden answer differs on this machine ({cpu_name()}).\n"
        f"  input:    {_short(text)}\n  expected: {_short(expected)}\n  found:    {_short(found)}\n"
        "The files are those of the manifest, so this machine computes differently; do not use the bundle here.",
        what=GOLDEN_NAME,
        expected=expected,
        found=found,
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
