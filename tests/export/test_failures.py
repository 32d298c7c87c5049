"""Exports that fail, are killed, or run out of disk: each says why, and none leaves anything behind."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from edgelm_export import draft, pipeline, verify
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize.int8_blocks import Int8Blocks
from edgelm_export.quantize.int8_dynamic import Int8Dynamic
from edgelm_export.quantize.int8_mixed import Int8Mixed
from edgelm_export.quantize.int8_static import Int8Static
from edgelm_export.texts import verification_inputs
from edgelm_export.tolerance import TOLERANCES
from edgelm_runtime import bundle as bundles
from edgelm_runtime.bundle import bundles_in, open_bundle
from edgelm_runtime.errors import ExportError, InputError, ParityError, UnsupportedCheckpoint
from edgelm_runtime.verify import verify_bundle


def _names(folder: Path) -> list[str]:
    """Everything in a folder, hidden entries too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "prompts", [{"summary": "no text"}, {"summary": "{text}{text}"}, {"summary": 5}, {"poem": "{text}"}, {}]
)
def test_prompts_that_cannot_be_used_are_refused(gpt2_folder: Path, tmp_path: Path, prompts: Any) -> None:
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    (folder / "prompts.json").write_text(json.dumps(prompts))
    with pytest.raises(InputError, match="a generator needs a prompt"):
        export(ExportOptions(folder, tmp_path / "bundle"))
    assert _names(tmp_path) == ["gpt2"]


@pytest.mark.parametrize("options", [{"task": "summary"}, {"prompts": {"summary": "{text}"}}])
def test_a_classifier_writes_no_summaries(bert_folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="summary: the checkpoint is for text-classification"):
        export(ExportOptions(bert_folder, tmp_path / "bundle", **options))


def test_a_generator_gives_no_sentiment(gpt2_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="a GPT2LMHeadModel for 'text-generation'"):
        export(ExportOptions(gpt2_folder, tmp_path / "bundle", task="sentiment"))


@pytest.mark.parametrize("folder", ["bert_folder", "gpt2_folder"])
def test_a_bundle_that_answers_otherwise_is_refused(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    generator = np.random.default_rng(0)
    for used in (Int8Dynamic, Int8Mixed, Int8Static, Int8Blocks):
        placed = used.linear

        def perturbed(self: Any, graph: Any, x: Any, weight: Any, *rest: Any, placed: Any = placed, **more: Any) -> Any:
            noise = generator.normal(0, 3, weight.shape).astype(np.float32)
            return placed(self, graph, x, weight + noise, *rest, **more)

        monkeypatch.setattr(used, "linear", perturbed)
    with pytest.raises(ParityError) as refused:
        export(ExportOptions(request.getfixturevalue(folder), tmp_path / "bundle"))
    message = str(refused.value)
    assert refused.value.exit_code == 7
    assert "does not answer like the checkpoint" in message
    assert "accepted are 0.25 and 0.06" in message
    checkpoint = load_checkpoint(request.getfixturevalue(folder))
    inputs = [
        text
        for task in tuple(checkpoint.prompts) or ("sentiment",)
        for text in verification_inputs(task, draft._languages(checkpoint))
    ]
    assert any(f"Worst input: {text[:200]!r}" in message for text in inputs)
    assert _names(tmp_path) == []


def test_the_worst_input_is_the_one_that_is_named(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consult = verify.consult

    def with_one_wrong(*arguments: Any, **named: Any) -> tuple[list[verify.Case], dict[str, float]]:
        cases, ranges = consult(*arguments, **named)
        wrong = np.where(cases[5].expected == cases[5].expected.max(), -20, 20).astype(np.float32)
        cases[5] = verify.Case(cases[5].task, "the worst one", cases[5].ids, wrong)
        return cases, ranges

    monkeypatch.setattr(verify, "consult", with_one_wrong)
    with pytest.raises(ParityError, match="Worst input: 'the worst one'"):
        export(ExportOptions(bert_folder, tmp_path / "bundle"))


def test_a_checkpoint_that_answers_nothing_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert_folder, tmp_path / "bert"))
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedCheckpoint, match="NaN"):
        export(ExportOptions(folder, tmp_path / "bundle"))
    assert _names(tmp_path) == ["bert"]


def test_an_existing_target_is_refused_before_any_work(bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ExportError, match=r"exists.*--force"):
        export(ExportOptions(bert_folder / "not even there", tmp_path / "bundle"))


def test_force_replaces_a_bundle_and_nothing_else(bert_folder: Path, tmp_path: Path) -> None:
    options = ExportOptions(bert_folder, tmp_path / "bundle", precision="fp32", force=True)
    export(options)
    export(ExportOptions(bert_folder, tmp_path / "bundle", force=True))
    assert open_bundle(tmp_path / "bundle").manifest.variants[0].precision == "int8"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(ExportError, match="not a bundle"):
        export(ExportOptions(bert_folder, tmp_path / "letters", force=True))
    assert _names(tmp_path) == ["bundle", "letters"]
    assert _names(tmp_path / "letters") == ["a.txt"]


def test_a_target_below_a_file_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export(ExportOptions(bert_folder, tmp_path / "file" / "bundle"))


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger: writing fails with OSError, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_a_full_disk_leaves_nothing(bert_folder: Path, tmp_path: Path, size: int) -> None:
    with _largest_file(size), pytest.raises(ExportError, match="free some space"):
        export(ExportOptions(bert_folder, tmp_path / "bundle"))
    assert _names(tmp_path) == []


@pytest.mark.parametrize("good", range(3, 6))
def test_a_disk_that_fills_up_while_the_bundle_is_written_leaves_nothing(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    written: list[str] = []
    write = bundles._write_file

    def full(folder: Path, name: str, source: bytes | Path) -> Any:
        if len(written) == good:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(name)
        return write(folder, name, source)

    monkeypatch.setattr(bundles, "_write_file", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export(ExportOptions(bert_folder, tmp_path / "bundle"))
    assert len(written) == good  # the candidate has three files, so this was the bundle itself
    assert _names(tmp_path) == []


def test_an_interrupt_leaves_nothing(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "measure_latency", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(ExportOptions(bert_folder, tmp_path / "bundle"))
    assert _names(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import edgelm_runtime.bundle as bundles
from edgelm_export import pipeline

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

replace = bundles._replace
def kill_at_the_last(temporary, folder):
    kill() if folder.name == "bundle" else replace(temporary, folder)

if sys.argv[3] == "verifying":
    pipeline.verify.measure_parity = kill
else:
    bundles._replace = kill_at_the_last
pipeline.export(pipeline.ExportOptions(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.parametrize("moment", ["verifying", "renaming"])
def test_a_kill_leaves_no_bundle_and_disturbs_no_later_export(bert_folder: Path, tmp_path: Path, moment: str) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    target = tmp_path / "bundle"
    command = [sys.executable, "-c", KILLED, str(bert_folder), str(target), moment]
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not target.exists()
    assert bundles_in(tmp_path) == {}
    assert all(name.startswith(".bundle.") for name in _names(tmp_path))
    export(ExportOptions(bert_folder, target))
    assert list(bundles_in(tmp_path)) == ["bundle"]
    verify_bundle(target)


@pytest.mark.parametrize("text", ["", '{"other": 1}\n', "{broken"])
def test_an_evaluation_file_without_usable_rows_is_refused(bert_folder: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text(text)
    with pytest.raises(InputError):
        export(ExportOptions(bert_folder, tmp_path / "bundle", eval_file=path))
    assert _names(tmp_path) == ["dev.jsonl"]


def test_an_unknown_precision_is_a_bug_of_the_caller(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError)):
        export(ExportOptions(bert_folder, tmp_path / "bundle", precision="int3"))
    assert {*pipeline.ENCODER_SCHEMES, *pipeline.DECODER_SCHEMES, "fp16"} == set(TOLERANCES)
