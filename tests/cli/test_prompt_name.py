"""``edgelm run embed --prompt-name``: the prompt before every text."""

from __future__ import annotations

import json
from pathlib import Path

from edgelm_runtime.manifest import EmbeddingSpec
from tests.cli.conftest import Invoke
from tests.runtime.test_encoders import embedder

SPEC = EmbeddingSpec({"query": "the good ", "passage": "bad "}, "passage")


def test_run_puts_a_named_prompt_before_every_text(invoke: Invoke, tmp_path: Path) -> None:
    prompted, plain = embedder(tmp_path / "a", embedding=SPEC).path, embedder(tmp_path / "b").path

    def vectors(*args: object, stdin: str) -> list[list[float]]:
        result = invoke("run", "embed", *args, "--json", stdin=stdin)
        assert (result.exit_code, result.stderr) == (0, "")
        return [json.loads(line)["embedding"] for line in result.stdout.splitlines()]

    named = vectors("--bundle", prompted, "--prompt-name", "query", stdin="slow\nparcel\n")
    assert named == vectors("--bundle", plain, stdin="the good slow\nthe good parcel\n")
    assert vectors("--bundle", prompted, stdin="slow\n") == vectors("--bundle", plain, stdin="bad slow\n")


def test_run_refuses_a_prompt_once_and_for_other_tasks(invoke: Invoke, tmp_path: Path) -> None:
    bundle = embedder(tmp_path, embedding=SPEC).path
    refused = invoke("run", "embed", "--bundle", bundle, "--prompt-name", "other", stdin="slow\nparcel\n")
    assert refused.exit_code != 0
    assert refused.stderr.count("has no prompt 'other'; it has query, passage") == 1
    other = invoke("run", "sentiment", "good", "--prompt-name", "query")
    assert (other.exit_code, "--prompt-name: sentiment has no such prompts; embed has" in other.stderr) == (2, True)


def test_inspect_shows_the_prompts(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("inspect", embedder(tmp_path, embedding=SPEC).path).stdout
    assert "query: the good" in shown
    assert "passage (by default): bad" in shown
