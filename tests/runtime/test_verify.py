"""Hashes and golden answers of a real, tiny bundle: what passes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelm_runtime.bundle import default_bundles, open_bundle, write_bundle
from edgelm_runtime.errors import BundleNotFound, BundleRejected
from edgelm_runtime.goldens import LOGIT_TOLERANCE, SCORE_TOLERANCE
from edgelm_runtime.loader import load
from edgelm_runtime.verify import VerifyReport, verify_bundle

TEXTS = ("the parcel is good", "物流很慢，差", "good " * 40)
WithGolden = Callable[[Any], Path]


@pytest.fixture
def with_golden(tmp_path: Path, tiny_classifier: Path) -> WithGolden:
    """Write the tiny bundle anew with another golden.json, all hashes right."""

    def write(golden: Any) -> Path:
        bundle = open_bundle(tiny_classifier)
        data = golden if isinstance(golden, bytes) else json.dumps(golden).encode()
        contents = {name: bundle.read(name) for name in bundle.manifest.files} | {"golden.json": data}
        return write_bundle(tmp_path / "golden", bundle.manifest, contents).path

    return write


def golden_of(path: Path) -> list[dict[str, Any]]:
    model = load(path)
    results = [(text, model(text)) for text in TEXTS]
    return [{"text": text, "label": result.label, "scores": dict(result.scores)} for text, result in results]


def test_its_own_answers_pass(with_golden: WithGolden, tiny_classifier: Path) -> None:
    path = with_golden({"classification": golden_of(tiny_classifier)})
    report = verify_bundle(path)
    assert (report.bundle, report.files, report.golden) == ("tiny-classifier", 3, len(TEXTS))
    assert report.score_difference == 0
    assert report.bytes == sum(entry.stat().st_size for entry in path.iterdir() if entry.name != "edgelm.json")
    assert json.loads(json.dumps(report.to_dict()))["golden"] == len(TEXTS)
    assert "3: all the same" in report.table()


def test_generated_texts_are_replayed_word_by_word(tmp_path: Path, tiny_generator: Path) -> None:
    report = verify_bundle(tiny_generator)
    assert report.golden >= 3
    assert report.score_difference is None
    assert "scores" not in report.table()
    bundle = open_bundle(tiny_generator)
    golden = json.loads(bundle.read("golden.json"))
    golden["generation"][-1]["answer"] += "!"
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    contents["golden.json"] = json.dumps(golden).encode()
    write_bundle(tmp_path / "other", bundle.manifest, contents)
    with pytest.raises(BundleRejected, match="differs on this machine"):
        verify_bundle(tmp_path / "other")


def ties(model: Any) -> Iterator[tuple[str, list[int], int, int]]:
    """Places in greedy answers with a token that is nearly as probable as the one taken, and one that is not."""
    for text in TEXTS:
        prompt = model.tokenize(text)
        ids = model.infer(prompt, max_new_tokens=24, temperature=0.0, no_repeat_ngram_size=0)
        for place, taken in enumerate(ids):
            logits = model.generator.logits([*prompt, *ids[:place]])
            logits[model.generator.suppressed] = -np.inf
            ranked = np.argsort(logits)[::-1].tolist()
            if ranked[0] == taken and logits[taken] - logits[ranked[1]] <= LOGIT_TOLERANCE:
                yield text, ids[:place], ranked[1], ranked[50]


def test_a_token_may_change_places_with_one_that_is_as_probable(tmp_path: Path, tiny_generator: Path) -> None:
    model = load(tiny_generator, task="summary")
    text, ids, near, far = next(ties(model))

    def replay(name: str, changed: list[int], ends: tuple[int, ...] = (0,)) -> VerifyReport:
        entry = {
            "task": "summary", "text": text, "answer": model.decode(changed) + "?", "ids": changed,
            "max_new_tokens": len(ids) + 1,
        }  # fmt: skip
        bundle = open_bundle(tiny_generator)
        contents = {file: bundle.read(file) for file in bundle.manifest.files}
        contents["golden.json"] = json.dumps({"generation": [entry]}).encode()
        manifest = replace(bundle.manifest, tokenizer=replace(bundle.manifest.tokenizer, eos_ids=ends))
        return verify_bundle(write_bundle(tmp_path / name, manifest, contents).path)

    assert replay("near", [*ids, near]).golden == 1
    (taken,) = model.infer(model.tokenize(text), max_new_tokens=len(ids) + 1, temperature=0.0)[len(ids) :]
    assert replay("this machine ends", [*ids, near], (0, taken)).golden == 1
    assert replay("it ended where it was made", ids, (0, near)).golden == 1
    for name, changed, ends in (
        ("far", [*ids, far], (0,)),
        ("ends", [*ids, far], (0, taken)),
        ("ended", ids, (0, far)),
    ):
        with pytest.raises(BundleRejected, match="differs on this machine"):
            replay(name, changed, ends)


def test_a_score_may_be_a_little_off(tmp_path: Path, with_golden: WithGolden, tiny_classifier: Path) -> None:
    golden = golden_of(tiny_classifier)
    golden[1]["scores"]["negative"] -= 0.9 * SCORE_TOLERANCE
    path = with_golden({"classification": golden})
    assert verify_bundle(path).score_difference == pytest.approx(0.9 * SCORE_TOLERANCE)
    path.rename(tmp_path / "other")
    golden[1]["scores"]["negative"] -= 0.2 * SCORE_TOLERANCE
    with pytest.raises(BundleRejected, match="物流很慢") as refused:
        verify_bundle(with_golden({"classification": golden}))
    assert refused.value.what == "golden.json"
    assert refused.value.expected.startswith("negative 0.")


def test_another_label_is_refused(with_golden: WithGolden, tiny_classifier: Path) -> None:
    golden = golden_of(tiny_classifier)
    golden[0]["label"] = "negative"
    with pytest.raises(BundleRejected) as refused:
        verify_bundle(with_golden({"classification": golden}))
    assert (refused.value.expected, refused.value.found) == ("negative", "positive")


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        ([], "something else"),
        ({"classification": {}}, "something else"),
        ({}, "no answers"),
        ({"classification": []}, "no answers"),
        ({"classification": ["text"]}, "without a usable 'text'"),
        ({"classification": [{"text": "good", "label": "positive"}]}, "without a usable 'scores'"),
        ({"classification": [{"text": "good", "label": "positive", "scores": {}}]}, "differs"),
        ({"classification": [{"text": "good", "label": "positive", "scores": {"neutral": 1}}]}, "differs"),
        ({"classification": [{"text": "good", "label": "positive", "scores": {"positive": "1"}}]}, "'positive'"),
        ({"classification": [{"text": "good", "label": "positive", "scores": {"positive": float("nan")}}]}, "differs"),
        ({"classification": [{"text": " ", "label": "positive", "scores": {"positive": 1}}]}, "refused"),
        ({"generation": [{"task": "summary", "text": "good", "answer": "x"}]}, "the task 'summary'"),
        ({"generation": [{"task": "no-task", "text": "good", "answer": "x"}]}, "the task 'no-task'"),
    ],
)
def test_golden_answers_that_cannot_be_used_are_refused(with_golden: WithGolden, golden: Any, message: str) -> None:
    path = with_golden(golden)
    with pytest.raises(BundleRejected, match=message):
        verify_bundle(path)


def test_every_file_is_hashed(copied_classifier: Path) -> None:
    golden = copied_classifier / "golden.json"
    golden.write_bytes(golden.read_bytes().replace(b"parcel", b"Parcel"))
    with pytest.raises(BundleRejected, match=r"golden\.json does not match"):
        verify_bundle(copied_classifier)


def test_no_bundle_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        verify_bundle(tmp_path)


@pytest.mark.parametrize("name", ["sentiment-en", "sentiment-zh", "writer"])
def test_every_shipped_bundle_answers_as_it_did_when_it_was_made(name: str) -> None:
    assert verify_bundle(default_bundles()[name]).golden > 0


def test_a_bundle_for_tasks_of_a_newer_runtime_is_refused(tmp_path: Path, tiny_classifier: Path) -> None:
    bundle = open_bundle(tiny_classifier)
    contents: dict[str, bytes | Path] = {name: bundle.read(name) for name in bundle.manifest.files}
    newer = write_bundle(tmp_path / "newer", replace(bundle.manifest, serves=("ranking",)), contents)
    with pytest.raises(BundleRejected, match="serves ranking, this runtime has"):
        verify_bundle(newer.path)


@pytest.mark.parametrize(
    ("golden", "why"),
    [
        ({"classification": [{"text": "good", "label": "positive", "scores": {"positive": 10**400}}]}, "digits"),
        ({"classification": [{"text": "good", "label": "positive"}] * 200_000}, "200,000 answers"),
        ({"classification": [{"task": ["sentiment"], "text": "good", "label": "a", "scores": {}}]}, "the task"),
        ({"classification": [{"task": {}, "text": "good", "label": "a", "scores": {}}]}, "the task"),
        ({"embedding": [{"text": "good", "embedding": [10**400]}]}, "digits"),
    ],
)
def test_hostile_goldens_are_refused_at_once(with_golden: WithGolden, golden: Any, why: str) -> None:
    with pytest.raises(BundleRejected, match=why):
        verify_bundle(with_golden(golden))


def test_a_file_of_goldens_is_bounded(with_golden: WithGolden) -> None:
    with pytest.raises(BundleRejected, match=r"golden\.json does not match the manifest: expected at most 8,388,608"):
        verify_bundle(with_golden(b" " * (9 << 20)))
