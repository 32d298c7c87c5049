"""Does a bundle answer on this machine as it did where it was made? Every hash, then every golden answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from .bundle import Bundle, open_bundle
from .device import cpu_name
from .errors import BundleRejected, InputError
from .manifest import GOLDEN_NAME
from .tasks import TASKS, task_class

SCORE_TOLERANCE = 0.02  # instruction sets round int8 products' scales differently
LOGIT_TOLERANCE = 0.1  # two tokens whose logits are this near may change places between instruction sets
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
            "machine": self.cpu,
            "time": f"{self.seconds:.1f} s",
        }
        if self.score_difference is not None:
            rows["scores"] = f"at most {self.score_difference:.4f} apart (accepted: {SCORE_TOLERANCE})"
        return "\n".join([f"{self.bundle}: verified", *(f"  {name:<15} {value}" for name, value in rows.items())])


def verify_bundle(path: str | Path) -> VerifyReport:
    """Hash every file of the bundle, then replay its golden answers through the task objects.

    Raises:
        BundleNotFound: there is no bundle at `path`.
        BundleRejected: a file differs from the manifest, golden.json has no usable answers, or an answer differs
            from its golden one: a label or a text that is not the same, a score further off than SCORE_TOLERANCE.
    """
    start = perf_counter()
    bundle = open_bundle(Path(path), verify="all")
    golden = _golden(bundle)
    models = _Models(bundle)
    differences = [_replay_classification(models, entry) for entry in golden.get("classification", ())]
    texts = golden.get("generation", ())
    for entry in texts:
        _replay_generation(models, entry)
    return VerifyReport(
        bundle=bundle.manifest.name,
        path=str(bundle.path),
        files=len(bundle.manifest.files),
        bytes=sum(entry.size for entry in bundle.manifest.files.values()),
        golden=len(differences) + len(texts),
        score_difference=max(differences, default=None),
        cpu=cpu_name(),
        seconds=perf_counter() - start,
    )


class _Models:
    """The bundle's tasks, each made at its first use."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._made: dict[str, Any] = {}

    def __call__(self, task: str | None) -> Any:
        name = task if task is not None else self._bundle.manifest.serves[0]
        if name not in TASKS or name not in self._bundle.manifest.serves:
            raise _malformed(f"an answer of the task {name!r}", ", ".join(self._bundle.manifest.serves))
        if name not in self._made:
            self._made[name] = task_class(name)(self._bundle)
        return self._made[name]


def _golden(bundle: Bundle) -> dict[str, list[Mapping[str, Any]]]:
    expected = 'an object of lists, "classification" or "generation", with at least one answer'
    try:
        golden = json.loads(bundle.read(GOLDEN_NAME))
    except (ValueError, RecursionError) as error:
        raise _malformed(f"no JSON ({error})", expected) from error
    if not isinstance(golden, dict) or not all(isinstance(entries, list) for entries in golden.values()):
        raise _malformed("something else", expected)
    if not golden.get("classification") and not golden.get("generation"):
        raise _malformed("no answers", expected)
    return golden


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


def _replay_classification(models: _Models, entry: Mapping[str, Any]) -> float:
    """The largest distance of a score from its golden value."""
    text, label = _field(entry, "text", str), _field(entry, "label", str)
    scores = {name: _number(name, value) for name, value in _field(entry, "scores", dict).items()}
    result = _answer(models(entry.get("task")), text)
    if result.label != label:
        raise _differs(text, label, result.label)
    if not scores or not result.scores.keys() >= scores.keys():
        raise _differs(text, f"scores of {', '.join(scores)}", f"scores of {', '.join(result.scores)}")
    worst = max(scores, key=lambda name: abs(result.scores[name] - scores[name]))
    difference = float(abs(result.scores[worst] - scores[worst]))
    if not difference <= SCORE_TOLERANCE:
        raise _differs(text, f"{worst} {scores[worst]:.4f}", f"{worst} {result.scores[worst]:.4f}")
    return difference


def _replay_generation(models: _Models, entry: Mapping[str, Any]) -> None:
    text, answer = _field(entry, "text", str), _field(entry, "answer", str)
    limit = {"max_new_tokens": _field(entry, "max_new_tokens", int)} if "max_new_tokens" in entry else {}
    model = models(_field(entry, "task", str))
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
