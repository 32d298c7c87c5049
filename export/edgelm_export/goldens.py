"""golden.json: a few inputs of every task with a bundle's own answers, for `edgelm verify` to replay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from edgelm_export.problems import problem_of
from edgelm_export.verify import Case
from edgelm_runtime.loader import load
from edgelm_runtime.tasks import ENCODERS

GOLDENS = 8
GOLDEN_TOKENS = 48


def make_goldens(folder: Path, cases: Sequence[Case]) -> bytes:
    """The file of a finished bundle."""
    goldens: dict[str, list[dict[str, Any]]] = {}
    for task in dict.fromkeys(case.task for case in cases):
        model = load(folder, task=task)
        mine = [case for case in cases if case.task == task]
        mine = steady(model, mine) if task in ENCODERS else [case for case in mine if fits(model, str(case.text))]
        for case in mine[:: max(1, len(mine) // GOLDENS)][:GOLDENS]:
            text = case.text if isinstance(case.text, tuple) else (str(case.text),)
            given = dict(zip(("text", "text_pair"), text, strict=False))
            kind, answer = _encoded(task, model, case) if task in ENCODERS else _written(model, case)
            goldens.setdefault(kind, []).append({"task": task, **given, **answer})
    return json.dumps(goldens, ensure_ascii=False).encode()


def _encoded(task: str, model: Any, case: Case) -> tuple[str, dict[str, Any]]:
    """The kind of an encoder's golden answer, and the answer."""
    result = model(case.text)
    if task == "embed":
        return "embedding", {"embedding": list(result.embedding)}
    if task == "tag":
        return "tagging", {"entities": [{**vars(one)} for one in result.entities]}
    held = {"label": result.label} if task == "sentiment" else {"labels": list(result.labels)}
    return "classification", {**held, "scores": dict(result.scores)}


def _written(model: Any, case: Case) -> tuple[str, dict[str, Any]]:
    ids = model.infer(model.tokenize(case.text), max_new_tokens=GOLDEN_TOKENS, temperature=0.0)
    return "generation", {"answer": model.decode(ids), "ids": ids, "max_new_tokens": GOLDEN_TOKENS}


def steady(model: Any, cases: Sequence[Case]) -> list[Case]:
    """The half of `cases` whose answers rounding moves least: other CPUs round otherwise, and must still pass."""
    manifest = model.bundle.manifest
    problem = problem_of(manifest.task, manifest.problem_type)
    distances = [problem.distance(case.expected, model.infer(case.ids, case.type_ids)) for case in cases]
    return [case for case, moved in zip(cases, distances, strict=True) if moved <= median(distances)]


def fits(model: Any, text: str) -> bool:
    """Whether a generator reads ``text`` in one pass and keeps the part of its context that its answer needs."""
    return len(model.tokenize(text)) <= model.context - model.reserved(model.context)
