"""Folders of SetFit: the scores are those of its classifier on the vectors, and no pickle runs code."""

from __future__ import annotations

import io
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.setfit import HEAD, add_head, read_head
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.checkpoint.unpickling import read_records
from edgelm_export.doctor import diagnose
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.reference import Reference
from edgelm_export.texts import REVIEWS
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.tasks.classify import scores_of
from edgelm_runtime.tokenizer import TextTokenizer
from tests.export.tiny import bert, save_bert

TEXTS = [*REVIEWS["en"][:12], *REVIEWS["zh"][:12]]
THREE = np.arange(24) % 3
SEVERAL = np.stack([THREE == 0, THREE < 2, np.arange(24) % 2], axis=1).astype(int)
Fit = Callable[[Any], Any]


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model."""
    root = tmp_path_factory.mktemp("setfit")
    save_bert(root / "base", bert(spread=0.1).bert)
    whole = SentenceTransformer(modules=[modules.Transformer(str(root / "base")), modules.Pooling(64)], device="cpu")
    whole.save(str(root / "body"), create_model_card=False)
    return root / "body"


def folder_of(body: Path, folder: Path, head: Any, **settings: Any) -> Path:
    """What SetFit saves: the model, its classifier beside it, and what it says of that."""
    for path in (path for path in body.rglob("*") if path.is_file()):
        target = folder / path.relative_to(body)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    joblib.dump(head, folder / HEAD)
    (folder / "config_setfit.json").write_text(json.dumps({"normalize_embeddings": False, "labels": None, **settings}))
    return folder


def vectors(folder: Path, normalize: bool = False) -> Any:
    return SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=normalize)


def answers(folder: Path, scratch: Path) -> tuple[Any, Any]:
    """The checkpoint that an export with --allow-pickle reads, and torch's scores of the texts from it."""
    with opened(Origin(folder, allow_pickle=True), scratch) as found:
        checkpoint = load_checkpoint(found.folder)
        tokenizer = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
        logits = Reference(checkpoint).logits([tokenizer.encode(text) for text in TEXTS])
        function = {"multi_label_classification": "sigmoid"}.get(checkpoint.problem_type, "softmax")
        return checkpoint, np.stack([scores_of(row, function) for row in logits])


def regression(**options: Any) -> LogisticRegression:
    return LogisticRegression(max_iter=300, C=20.0, **options)


def old(kind: str) -> Fit:
    """A classifier as scikit-learn before 1.7 saved it, which wrote down how it was trained."""

    def fit(x: Any) -> Any:
        head = regression().fit(x, THREE)
        head.multi_class = kind
        return head

    return fit


HEADS: dict[str, Fit] = {
    "two": lambda x: regression().fit(x, THREE == 0),
    "three": lambda x: regression().fit(x, THREE),
    "names": lambda x: regression().fit(x, np.array(["late", "fine", "broken"])[THREE]),
    "names as objects": lambda x: regression().fit(x, np.array(["late", "fine", "broken"], object)[THREE]),
    "liblinear": lambda x: regression(solver="liblinear", random_state=np.int64(3)).fit(x, THREE == 1),
    "no intercept": lambda x: regression(fit_intercept=False, class_weight={0: 1, 1: 2, 2: 1}).fit(x, THREE),
    "one against the rest": lambda x: OneVsRestClassifier(regression()).fit(x, THREE),
    "one against the other": lambda x: OneVsRestClassifier(regression()).fit(x, THREE == 0),
    "several": lambda x: OneVsRestClassifier(regression()).fit(x, SEVERAL),
    "several outputs": lambda x: MultiOutputClassifier(regression()).fit(x, SEVERAL),
    "trained as multinomial": old("multinomial"),
    "trained by default": old("auto"),
}


@pytest.mark.parametrize("case", HEADS)
def test_scores_are_those_of_the_classifier(tmp_path: Path, body: Path, case: str) -> None:
    head = HEADS[case](vectors(body))
    folder = folder_of(body, tmp_path / "model", head)
    checkpoint, found = answers(folder, tmp_path / "scratch")
    expected = head.predict_proba(vectors(body))
    if isinstance(expected, list):
        expected = np.stack(expected, axis=1)[:, :, 1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert (checkpoint.task, len(checkpoint.labels)) == ("text-classification", expected.shape[1])
    assert np.ptp(expected) > 0.3
    if case.startswith("names"):
        assert checkpoint.labels == ("broken", "fine", "late")


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_plain_pickle_is_read_as_joblibs(tmp_path: Path, protocol: int) -> None:
    head = HEADS["names as objects"](np.random.default_rng(0).normal(size=(24, 8)))
    joblib.dump(head, tmp_path / "joblib.pkl")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(head, protocol=protocol))
    one, other = read_head(tmp_path / "joblib.pkl"), read_head(tmp_path / "plain.pkl")
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.weight.T, head.coef_)
    assert one.classes == other.classes == ("broken", "fine", "late")


def test_classes_that_were_trained_one_by_one_are_divided_by_their_sum(tmp_path: Path, body: Path) -> None:
    head = old("ovr")(vectors(body))
    _, found = answers(folder_of(body, tmp_path / "model", head), tmp_path / "scratch")
    each = 1 / (1 + np.exp(-head.decision_function(vectors(body))))
    np.testing.assert_allclose(found, each / each.sum(1, keepdims=True), rtol=0, atol=1e-5)


def test_a_label_that_training_never_saw_is_never_given(tmp_path: Path, body: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        seen = OneVsRestClassifier(regression()).fit(vectors(body), np.stack([SEVERAL[:, 0], 0 * THREE], axis=1))
    _, found = answers(folder_of(body, tmp_path / "model", seen), tmp_path / "scratch")
    np.testing.assert_allclose(found, seen.predict_proba(vectors(body)), rtol=0, atol=1e-5)


def test_a_bundle_has_the_labels_and_the_vectors_that_were_normalized(tmp_path: Path, body: Path) -> None:
    head = regression().fit(vectors(body, normalize=True), THREE)
    settings = {"labels": ["late", "fine", "broken"], "normalize_embeddings": True}
    folder = folder_of(body, tmp_path / "model", head, **settings)
    for precision in ("fp32", "int8"):
        export(ExportOptions(folder, tmp_path / precision, precision=precision, allow_pickle=True))
        manifest, model = open_bundle(tmp_path / precision).manifest, load(tmp_path / precision)
        assert (manifest.serves, manifest.labels, manifest.embedding) == (
            ("classify",),
            ("late", "fine", "broken"),
            None,
        )
        found = np.array([list(model(text).scores.values()) for text in TEXTS])
        expected = head.predict_proba(vectors(body, normalize=True))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 if precision == "fp32" else 0.25)


def test_without_permission_the_classifier_is_named_and_left(
    tmp_path: Path, body: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(body, tmp_path / "model", regression().fit(vectors(body), THREE))
    (task,) = [found for found in diagnose(Origin(folder)).findings if found.check == "task"]
    said = "SetFit's classifier is there and not used: model_head.pkl is read with --allow-pickle"
    assert (task.state, task.text) == ("note", f"feature-extraction with mean pooling; {said}")
    assert load_checkpoint(folder).task == "feature-extraction"
    assert said in capsys.readouterr().err
    with pytest.raises(UnsupportedCheckpoint, match=r"is in model_head\.pkl, a pickle: give --allow-pickle"):
        load_checkpoint(folder, "text-classification")
    allowed = {found.check: found.text for found in diagnose(Origin(folder, allow_pickle=True)).findings}
    assert allowed["source"] == "a folder, its classifier read as tensors"
    assert allowed["task"] == "text-classification, from mean pooling, a layer of 3 (Identity)"


def test_vectors_can_be_had_of_a_folder_with_a_classifier(tmp_path: Path, body: Path) -> None:
    folder = folder_of(body, tmp_path / "model", regression().fit(vectors(body), THREE))
    with opened(Origin(folder, allow_pickle=True), tmp_path / "scratch") as found:
        checkpoint = load_checkpoint(found.folder, "feature-extraction")
        assert (checkpoint.task, checkpoint.wanted.layers) == ("feature-extraction", ())


def test_a_head_of_torch(tmp_path: Path, body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("setfit.modeling")

    class SetFitHead(torch.nn.Module):
        def __init__(self, multitarget: bool) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(64, 3)
            self.temperature, self.eps, self.multitarget, self._device = 0.5, 1e-5, multitarget, "cpu"

    SetFitHead.__module__, SetFitHead.__qualname__ = "setfit.modeling", "SetFitHead"
    module.SetFitHead = SetFitHead  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "setfit", ModuleType("setfit"))
    monkeypatch.setitem(sys.modules, "setfit.modeling", module)
    for several in (False, True):
        torch.manual_seed(1)
        head = SetFitHead(several)
        folder = folder_of(body, tmp_path / f"model-{several}", head, labels=["a", "b", "c"])
        checkpoint, found = answers(folder, tmp_path / "scratch")
        with torch.inference_mode():
            logits = head.linear(torch.tensor(vectors(body))) / (0.5 + 1e-5)
            expected = torch.sigmoid(logits) if several else torch.softmax(logits, -1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert checkpoint.labels == ("a", "b", "c")


class Evil:
    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Pickles that ask for something else than a classifier's numbers."""
    import os

    # A tuple of the tuple before, twice, and so on: as a key its hash would take 2**60 steps.
    nested = b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (place, place, place + 1) for place in range(60))
    good = io.BytesIO()
    joblib.dump(regression().fit(np.eye(6), [0, 1, 2] * 2), good)
    deep = pickle.MARK + pickle.EMPTY_LIST * 300_000 + pickle.STOP
    return {
        "a command": pickle.dumps(Evil(os.system, f"touch {tmp_path}/ran")),
        "eval": pickle.dumps(Evil(eval, "1")),
        "a command in an array": _with_object(Evil(os.system, f"touch {tmp_path}/ran")),
        "an attribute of what is known": b"\x80\x02cnumpy\ndtype.fromhex\n.",
        "a memory bomb": pickle.dumps(Evil(np.ndarray, (1 << 40,))),
        "bytes that are not there": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
        "steps without end": b"\x80\x04" + deep,
        "a hash without end": b"\x80\x04" + nested + b"0}h\x3cK\x01s.",
        "another classifier": pickle.dumps(RidgeClassifier().fit(np.eye(6), [0, 1, 2] * 2)),
        "cut off": good.getvalue()[:-40],
        "cut in an array": good.getvalue()[: len(good.getvalue()) // 2],
        "nothing": b"",
        "a text": b"not a pickle",
        "an old protocol": pickle.dumps(np.arange(3), protocol=2),
        "a number": pickle.dumps(3),
        "not fitted": pickle.dumps(LogisticRegression()),
    }


def _with_object(value: Any) -> bytes:
    head = regression().fit(np.eye(6), [0, 1, 2] * 2)
    head.classes_ = np.array([value, 1, 2], object)
    buffer = io.BytesIO()
    joblib.dump(head, buffer)
    return buffer.getvalue()


def test_pickles_of_something_else_are_refused_and_run_nothing(tmp_path: Path) -> None:
    path = tmp_path / HEAD
    for name, data in hostile(tmp_path).items():
        path.write_bytes(data)
        with pytest.raises(UnsupportedCheckpoint) as refused:
            read_head(path)
        said = str(refused.value)
        assert said.startswith(f"{path}: it "), (name, said)
        assert "weights_only" not in said, name
    assert not (tmp_path / "ran").exists()


def test_a_chain_of_classifiers_is_refused_by_name(tmp_path: Path) -> None:
    joblib.dump(ClassifierChain(regression()).fit(np.eye(6), np.eye(6, 2)), tmp_path / HEAD)
    with pytest.raises(UnsupportedCheckpoint, match=r"ClassifierChain', which is not run .*OneVsRestClassifier, Multi"):
        read_head(tmp_path / HEAD)


def test_mutated_pickles_end_in_a_refusal_or_a_classifier(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    joblib.dump(OneVsRestClassifier(regression()).fit(np.eye(6), [0, 1, 2] * 2), buffer)
    generator, whole = np.random.default_rng(0), np.frombuffer(buffer.getvalue(), np.uint8)
    path, read = tmp_path / HEAD, 0
    for _ in range(400):
        mutated = whole.copy()
        mutated[generator.integers(2, len(whole), generator.integers(1, 6))] = generator.integers(0, 256)
        path.write_bytes(mutated.tobytes())
        try:
            read += read_head(path).weight.shape == (6, 3)
        except UnsupportedCheckpoint:
            continue
    assert 0 < read < 400


def test_labels_that_do_not_fit_are_refused(tmp_path: Path, body: Path) -> None:
    head = regression().fit(vectors(body), THREE)
    folder = folder_of(body, tmp_path / "model", head, labels=["late", "fine"])
    with pytest.raises(UnsupportedCheckpoint, match="labels are late, fine, and the classifier answers with 0, 1, 2"):
        add_head(folder, folder_of(body, tmp_path / "copy", head))
    with pytest.raises(UnsupportedCheckpoint, match="in_features is 6, and what comes before it gives 64"):
        answers(folder_of(body, tmp_path / "other", regression().fit(np.eye(6), [0, 1, 2] * 2)), tmp_path / "scratch")


def test_what_is_read_of_a_pickle_is_plain(tmp_path: Path) -> None:
    assert read_records(pickle.dumps({"a": [1, 2.5, None, True, "é"], "b": {3}}), set()) == {
        "a": [1, 2.5, None, True, "é"], "b": {3},
    }  # fmt: skip
