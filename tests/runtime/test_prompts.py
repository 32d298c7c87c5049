"""What stands before a text whose vector is wanted, and texts that are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.manifest import EmbeddingSpec, Manifest
from edgelm_runtime.tasks.embed import Embed
from edgelm_runtime.tokenizer import Encoded
from tests.runtime.test_encoders import embedder, one_core

PROMPTS = {"query": "the good ", "passage": "bad parcel ", "none": ""}
LONG = " ".join(["the parcel is very good and great"] * 3)


def prompted(folder: Path, **fields: Any) -> Embed:
    return Embed(embedder(folder, embedding=EmbeddingSpec(PROMPTS, **fields)), one_core)


def test_a_prompt_is_read_before_the_text(tmp_path: Path) -> None:
    plain, model = Embed(embedder(tmp_path / "plain"), one_core), prompted(tmp_path / "model")
    assert model("slow").embedding == plain("slow").embedding
    for name, prompt in PROMPTS.items():
        assert model("slow", prompt_name=name).embedding == plain(f"{prompt}slow").embedding
        assert model.batch(["slow", "bad"], prompt_name=name)[1].embedding == plain(f"{prompt}bad").embedding
        assert model.try_batch(["", "bad"], prompt_name=name)[1].embedding == plain(f"{prompt}bad").embedding
        np.testing.assert_array_equal(model.vectors(["bad"], prompt_name=name)[0], plain(f"{prompt}bad").embedding)
    assert model.prompts == PROMPTS


def test_the_default_prompt_is_read_where_none_is_named(tmp_path: Path) -> None:
    plain, model = Embed(embedder(tmp_path / "plain"), one_core), prompted(tmp_path / "m", default_prompt_name="query")
    assert model("slow").embedding == plain("the good slow").embedding
    assert model("slow", prompt_name="none").embedding == plain("slow").embedding
    assert model.tokenize("slow") == plain.tokenize("the good slow") == model.windows("slow")[0]


def test_a_prompt_stands_in_every_window(tmp_path: Path) -> None:
    model = prompted(tmp_path / "model", default_prompt_name="passage")
    windows = model.windows(LONG)
    assert len(windows) > 1
    head = model.tokenize("good")[:3]
    assert all(window[:3] == head and len(window) <= 16 for window in windows)


def test_a_text_over_the_context_is_cut_where_the_bundle_says_so(tmp_path: Path) -> None:
    cut = prompted(tmp_path / "cut", truncation=True, default_prompt_name="passage")
    result = cut(LONG)
    assert (result.windows, result.tokens) == (1, 16)
    assert result.notes == (f"only the first 57 of {len(LONG)} characters were read",)
    assert result.embedding == cut(LONG[:57]).embedding
    assert cut("good").notes == ()


def test_a_prompt_that_is_not_there_is_refused(tmp_path: Path) -> None:
    model = prompted(tmp_path / "model")
    for ask in (model, lambda text, **given: model.batch([text], **given)):
        with pytest.raises(InputError, match="has no prompt 'document'; it has query, passage, none"):
            ask("good", prompt_name="document")
    plain = Embed(embedder(tmp_path / "plain"), one_core)
    with pytest.raises(InputError, match=r"it has none\. Put other words into the text itself"):
        plain("good", prompt_name="query")


def test_a_prompt_that_fills_the_context_is_refused(tmp_path: Path) -> None:
    model = Embed(embedder(tmp_path, embedding=EmbeddingSpec({"all": "good " * 20})), one_core)
    with pytest.raises(InputError, match="fills the context of 16 tokens"):
        model("bad", prompt_name="all")


def test_a_token_across_the_border_is_content() -> None:
    parts = Encoded([7, 8, 9], [0, 3, 6], [3, 7, 9], [1], [2], [0] * 5)
    after = parts.after(6)
    assert (after.prefix, after.ids, after.starts, after.ends) == ([1, 7], [8, 9], [0, 0], [1, 3])
    assert parts.after(0) is parts
    assert parts.after(9).ids == []


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ({"prompts": {"query": 1}}, r"embedding.prompts\['query'\] must be a string"),
        ({"prompts": []}, "embedding.prompts must be an object"),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "other"}, "must be one of the prompts, found 'other'"),
        ({"default_prompt_name": 3}, "embedding.default_prompt_name must be text on one line"),
        ({"truncation": 1}, "embedding.truncation must be true or false"),
        ("query", "embedding must be an object"),
    ],
)
def test_a_manifest_says_what_is_wrong_with_its_prompts(tmp_path: Path, embedding: Any, message: str) -> None:
    values = json.loads((embedder(tmp_path).path / "edgelm.json").read_bytes())
    with pytest.raises(BundleRejected, match=message):
        Manifest.from_bytes(json.dumps({**values, "embedding": embedding}).encode())


def test_prompts_are_for_embeddings_alone_and_written_back(tmp_path: Path) -> None:
    values = json.loads((embedder(tmp_path).path / "edgelm.json").read_bytes())
    spec = {"prompts": PROMPTS, "default_prompt_name": "query", "truncation": True, "new": [1]}
    manifest = Manifest.from_bytes(json.dumps({**values, "embedding": spec}).encode())
    assert json.loads(manifest.to_json())["embedding"] == spec
    classifier = {**values, "embedding": spec, "task": "text-classification", "labels": ["a", "b"]}
    with pytest.raises(BundleRejected, match="embedding belongs to feature-extraction, and the task is text-class"):
        Manifest.from_bytes(json.dumps(classifier).encode())
