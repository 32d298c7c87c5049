"""From a task's name or a folder to a model that answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, TypedDict, Unpack

from .bundle import Bundle, default_bundles, open_bundle
from .device import AUTO
from .errors import BundleNotFound, BundleRejected, EdgeLMError, InputError
from .script import language_of
from .tasks import TASKS
from .tasks.observed import Answers, Observed, Origin


class Answering(TypedDict, total=False):
    """Options of `load` that change what a bundle answers, where the bundle itself says otherwise."""

    aggregation: str | None
    special_tokens: str | None


def load(
    name_or_path: str | os.PathLike[str],
    *,
    task: str | None = None,
    device: str = AUTO,
    variant: str | None = None,
    threads: int | None = None,
    allow_fallback: bool = False,
    low_priority: bool = False,
    **answering: Unpack[Answering],
) -> Any:
    """A model that answers, safe to share between threads.

    `name_or_path` is a task ("sentiment"), which stands for the default bundles that serve it; the name of one default
    bundle; or the folder of a bundle. A folder that is named like a task is written "./sentiment". `task` chooses when
    a bundle serves several. `device` is "auto", "cpu", or one of those that `edgelm devices` lists; nothing runs
    elsewhere unless `allow_fallback`. `variant` names one of the bundle's graphs. `threads` are the cores that one
    answer may use; by default the usable ones, at most 4. `low_priority` gives way to other programs (Linux). What was
    decided is in the model's `receipt()`. `aggregation` is how a token classifier's tokens become entities, where that
    is not to be what the bundle says: "none", "simple", "first", "average" or "max". `special_tokens` says what
    "[SEP]" and the like in a text are: "parse" reads them as such, as transformers does, "text" as other characters.

    When several default bundles serve a task, the model is a `Routed`: each text goes to the bundle of its language.
    Pickled, a model is the way it was loaded, and loads again where it is read.
    Raises BundleNotFound, BundleRejected, DeviceError, and InputError for a `task` or an option that cannot be.
    """
    from .placement import LoadOptions
    from .verify import checked_here

    chosen = LoadOptions(device, variant, threads, allow_fallback, low_priority)
    unknown = answering.keys() - Answering.__annotations__.keys()
    if unknown:
        raise TypeError(f"load() got an unexpected keyword argument {min(unknown)!r}")

    given = {**chosen.given(), **answering}
    shipped = default_bundles()

    def make(bundle: Bundle, served: str) -> Any:
        # The golden answers are those of the bundle's own options, so they are asked for before.
        model = _answering(checked_here(bundle, served, chosen), served, answering)
        known = next((name for name, path in shipped.items() if path == bundle.path), os.path.abspath(bundle.path))
        model.origin = Origin(known, (*given.items(), ("task", served)), bundle.sha256)
        return model

    name = os.fspath(name_or_path)
    if name in TASKS:
        if task not in (None, name):
            raise InputError(f"the task is {name!r} by the first argument and {task!r} by `task`; give one of them")
        return _load_default(name, make, Origin(name, tuple(given.items())))
    bundle = open_bundle(_folder(name, shipped), verify="lazy")
    return make(bundle, served_task(bundle, task))


def _folder(name: str, shipped: Mapping[str, Path]) -> Path:
    """The folder of a default bundle's name, or of a path. Raises BundleNotFound."""
    try:
        folder = shipped[name] if name in shipped else Path(os.fsdecode(name))
        why = "" if folder.exists() else "nothing is there"
    except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be read
        why = str(error)
    if why:
        raise BundleNotFound(
            f"there is no bundle {name[:200]!r} ({why[:300]}); give a task ({', '.join(TASKS)}), a default bundle "
            f"({', '.join(shipped) or 'none is installed'}), or the folder that `edgelm export` wrote"
        )
    return folder


def _answering(model: Any, task: str, options: Answering) -> Any:
    """The model, which nobody else has yet, with the options. Raises InputError for one that its task does not have."""
    aggregation = options.get("aggregation")
    if aggregation is not None:
        if task != "tag":
            raise InputError(f"aggregation is {aggregation!r}: {task} gives no entities, tag does; leave it out")
        model.aggregate(aggregation)
    special_tokens = options.get("special_tokens")
    if special_tokens is not None:
        model.tokenizer.read_special_tokens_as(special_tokens)
    return model


def known_tasks(bundle: Bundle) -> list[str]:
    """The tasks of a bundle that this runtime has. Raises BundleRejected where there is none."""
    serves = bundle.manifest.serves
    known = [name for name in serves if name in TASKS]
    if not known:
        raise BundleRejected(
            f"the bundle {bundle.manifest.name} serves {', '.join(serves)}, this runtime has {', '.join(TASKS)}; "
            "install a newer edgelm",
            what="serves",
            expected=", ".join(TASKS),
            found=", ".join(serves),
        )
    return known


def served_task(bundle: Bundle, task: str | None) -> str:
    """The task to run a bundle for: `task` if it serves it, or the only one that it serves."""
    known = known_tasks(bundle)
    if task is None and len(known) == 1:
        return known[0]
    if task in known:
        return str(task)
    served = " and ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
    refused = "" if task is None else f", not {task}"
    remedy = f"ask for {known[0]}" if len(known) == 1 else f"give `task`: {' or '.join(known)}"
    raise InputError(f"the bundle {bundle.manifest.name} serves {served}{refused}; {remedy}")


def _load_default(task: str, make: Callable[[Bundle, str], Any], origin: Origin) -> Any:
    bundles = [open_bundle(path, verify="lazy") for path in default_bundles().values()]
    serving = [bundle for bundle in bundles if task in bundle.manifest.serves]
    if not serving:
        raise BundleNotFound(
            f"no default bundle serves {task!r}; give the path of a bundle that does, "
            "or make one with `edgelm finetune` and `edgelm export`"
        )
    if len(serving) == 1:
        return make(serving[0], task)
    routed = Routed(by_language(serving), task, make)
    routed.origin = origin
    return routed


def by_language(bundles: Iterable[Bundle]) -> dict[str, Bundle]:
    """The bundle of each language: the first that knows it."""
    found: dict[str, Bundle] = {}
    for bundle in bundles:
        for language in bundle.manifest.languages:
            found.setdefault(language, bundle)
    return found


def language_among(value: object, languages: Collection[str]) -> str:
    """The language of `value`, a text or a mapping of attributes, if it is among these, else the first of them."""
    if isinstance(value, Mapping):
        value = " ".join(f"{key} {item}" for key, item in value.items())
    language = language_of(value) if isinstance(value, str) else ""
    return language if language in languages else next(iter(languages))


class Routed(Observed):
    """Several bundles behind one task: each input goes to the bundle of its language, opened at the first need.

    Who watches it sees the answers of all of them.
    """

    def __init__(self, bundles: Mapping[str, Bundle], task: str, make: Callable[[Bundle, str], Any]) -> None:
        self._bundles = dict(bundles)
        self._task = task
        self._make = make
        self._models: dict[Path, Any] = {}
        self.answers = Answers()
        self._lock = Lock()

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that have a bundle."""
        return tuple(self._bundles)

    def for_language(self, language: str) -> Any:
        """The model of one language, with its stages and its level below text. Raises InputError for another one."""
        bundle = self._bundles.get(language)
        if bundle is None:
            raise InputError(f"there is no bundle for the language {language!r}; there are {', '.join(self._bundles)}")
        with self._lock:
            if bundle.path not in self._models:
                model = self._models[bundle.path] = self._make(bundle, self._task)
                model.answers = self.answers
            return self._models[bundle.path]

    def for_input(self, value: object) -> Any:
        """The model that answers `value`, a text or a mapping of attributes."""
        return self.for_language(self._language(value))

    def __call__(self, value: Any, **options: Any) -> Any:
        """Answer one input; options are the model's."""
        return self.for_input(value)(value, **options)

    def stream(self, value: Any, **options: Any) -> Iterator[str]:
        """Pieces of the answer to one input, for models that generate text."""
        pieces: Iterator[str] = self.for_input(value).stream(value, **options)
        return pieces

    def batch(self, values: Iterable[Any], **options: Any) -> list[Any]:
        """Answers in input order; each language's inputs go to its model as one batch.

        Raises InputError, naming the first input by its number from 1 that is not accepted.
        """
        answers = self.try_batch(values, **options)
        for number, answer in enumerate(answers, start=1):
            if isinstance(answer, EdgeLMError):
                raise type(answer)(f"input {number}: {answer}") from answer
        return answers

    def try_batch(self, values: Iterable[Any], **options: Any) -> list[Any]:
        """Like `batch`, with an InputError in the place of an answer for an input that cannot be accepted."""
        if isinstance(values, str | Mapping):
            raise InputError("one input was given where several are wanted; put it into a list")
        listed = list(values)
        groups: dict[str, list[int]] = {}
        for index, value in enumerate(listed):
            groups.setdefault(self._language(value), []).append(index)
        answers: list[Any] = [None] * len(listed)
        for language, indices in groups.items():
            answered = self.for_language(language).try_batch([listed[i] for i in indices], **options)
            for index, answer in zip(indices, answered, strict=True):
                answers[index] = answer
        return answers

    def _language(self, value: object) -> str:
        """The language of `value` if it has a bundle, else the first: the model's own check words the refusal."""
        return language_among(value, self._bundles)
