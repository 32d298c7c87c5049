"""Whatever the tokenizers library raises, panics included, is an error of edgelm's, and costs one text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime import load
from edgelm_runtime.bundle import open_bundle, write_bundle
from edgelm_runtime.errors import BundleRejected, InputError, TokenizerFailed
from edgelm_runtime.guarded import GuardedTokenizer
from edgelm_runtime.verify import verify_bundle

DATA = Path(__file__).parents[1] / "data"
Change = Callable[[dict[str, Any]], None]


def changed(file: str, change: Change) -> bytes:
    content = json.loads((DATA / file).read_bytes())
    change(content)
    return json.dumps(content).encode()


def without_unknown(content: dict[str, Any]) -> None:
    content["model"]["unk_token"] = "nowhere"


def broken_template(content: dict[str, Any]) -> None:
    content["post_processor"]["single"] = [{"Sequence": {"id": "B", "type_id": 0}}]


def charsmap(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}


def slow_pattern(content: dict[str, Any]) -> None:
    slow = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [slow, content["pre_tokenizer"]]}


def test_a_missing_unknown_token_is_an_error_of_ours() -> None:
    tokenizer = GuardedTokenizer(changed("tiny-classifier/tokenizer.json", without_unknown), "tokenizer.json")
    with pytest.raises(TokenizerFailed, match=r"cannot read this text \(WordPiece error: Missing"):
        tokenizer.encode("\u4e07")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizers that are known to be bad reach the library."""
    monkeypatch.setattr("edgelm_runtime.vetting.trial.check_tokenizer", lambda data, file: None)


def with_tokenizer(tmp_path: Path, name: str, change: Change) -> Path:
    """A bundle of the tests' data with another tokenizer, all hashes right."""
    bundle = open_bundle(DATA / name)
    contents = {file: bundle.read(file) for file in bundle.manifest.files}
    contents["tokenizer.json"] = changed(f"{name}/tokenizer.json", change)
    return write_bundle(tmp_path / "bundle", bundle.manifest, contents).path


@pytest.mark.parametrize("change", [broken_template, charsmap])
@pytest.mark.usefixtures("unchecked")
def test_a_tokenizer_that_fails_on_everything_is_refused_with_its_bundle(tmp_path: Path, change: Change) -> None:
    folder = with_tokenizer(tmp_path, "tiny-classifier", change)
    for use in (load, verify_bundle):
        with pytest.raises(BundleRejected, match=r"tokenizer\.json"):
            use(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["classifier", "generator"])
def test_a_text_that_its_tokenizer_cannot_read_costs_itself_alone(tmp_path: Path, name: str) -> None:
    task = {"classifier": "sentiment", "generator": "summary"}[name]
    model = load(with_tokenizer(tmp_path, f"tiny-{name}", slow_pattern), task=task, threads=1)
    options = {"max_new_tokens": 4} if name == "generator" else {}
    answers = model.try_batch(["good", "x" * 40, "fast"], **options)
    assert [isinstance(answer, InputError) for answer in answers] == [False, True, False]
    with pytest.raises(InputError, match="the bundle's tokenizer cannot read this text"):
        model("x" * 40)


def test_ctrl_c_is_no_failure_of_the_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def encode(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    tokenizer = GuardedTokenizer((DATA / "byte_level.json").read_bytes(), "tokenizer.json")
    monkeypatch.setattr(tokenizer, "_inner", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("good")
