"""``edgelm finetune``, ``edgelm export`` and ``edgelm run`` one after the other, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.export.rows import pairs, reviews, write_rows

TINY = ("--base", "tiny", "--vocab-size", "400", "--batch-size", "16", "--learning-rate", "1e-3")


def _environment() -> dict[str, str]:
    path = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _edgelm(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgelm", *map(str, arguments)]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, encoding="utf-8", timeout=200)


def test_a_classifier_from_rows_to_answers(tmp_path: Path) -> None:
    data, checkpoint, bundle = (
        write_rows(tmp_path / "rows.jsonl", reviews(200)),
        tmp_path / "model",
        tmp_path / "bundle",
    )
    settings = ("--dev-fraction", "0.2", "--evaluations", "2", "--patience", "2", "--epochs", "5")
    trained = _edgelm("finetune", "sentiment", "--data", data, "--out", checkpoint, *TINY, *settings)
    assert trained.returncode == 0, trained.stderr
    assert "accuracy" in trained.stdout
    assert "step" not in trained.stdout
    assert "step" in trained.stderr
    assert "%|" not in trained.stderr  # no progress bar where there is no terminal

    facts = ("--language", "zh", "--language", "en", "--licence", "MIT", "--training-data", "a", "--training-data", "b")
    exported = _edgelm("export", checkpoint, "--out", bundle, "--eval", data, "--recipe", "finetune", *facts, "--json")
    assert exported.returncode == 0, exported.stderr
    report = json.loads(exported.stdout)
    assert list(report["metrics"]) == ["torch", "fp32", "int8"]
    assert report["metrics"]["int8"]["accuracy"] > 85
    assert report["bundle_bytes"] < 0.35 * report["checkpoint_bytes"]
    manifest = json.loads((bundle / "edgelm.json").read_text("utf-8"))
    assert (manifest["languages"], manifest["licence"]) == (["zh", "en"], "MIT")
    assert manifest["provenance"]["training_data"] == ["a", "b"]

    answered = _edgelm("run", "sentiment", "质量很好，喜欢", "--bundle", bundle, "--json")
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["label"] == "positive"
    assert _edgelm("verify", bundle).returncode == 0


def test_a_writer_from_rows_to_answers(tmp_path: Path) -> None:
    data, checkpoint, bundle = write_rows(tmp_path / "rows.jsonl", pairs(60)), tmp_path / "model", tmp_path / "bundle"
    settings = ("--dev-fraction", "0.2", "--epochs", "1", "--json")
    trained = _edgelm("finetune", "summary,description", "--data", data, "--out", checkpoint, *TINY, *settings)
    assert trained.returncode == 0, trained.stderr
    assert "summary ROUGE-L" in json.loads(trained.stdout)["metrics"]
    exported = _edgelm("export", checkpoint, "--out", bundle, "--prompt", "summary=<|summary|>{text}<|answer|>")
    assert exported.returncode == 0, exported.stderr
    assert "first token ms" in exported.stdout
    for task, text in (("summary", "The box is red. It came."), ("description", "类型#裙*颜色#白色")):
        answered = _edgelm("run", task, text, "--bundle", bundle, "--max-new-tokens", "4", "--json")
        assert answered.returncode == 0, answered.stderr
        assert json.loads(answered.stdout)["tokens"] <= 4


def test_refusals_are_one_line_and_an_exit_code(tmp_path: Path, gpt2_folder: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a", "label": 1}\n{"text": \n', "utf-8")
    broken = _edgelm("finetune", "sentiment", "--data", data, "--out", tmp_path / "out", *TINY)
    assert (broken.returncode, broken.stdout) == (5, "")
    assert f"{data}, line 2: not JSON" in broken.stderr
    assert len(broken.stderr.strip().splitlines()) == 1
    refused = _edgelm("export", gpt2_folder, "--out", tmp_path, "--precision", "fp32")
    assert (refused.returncode, refused.stdout) == (7, "")
    assert len(refused.stderr.strip().splitlines()) == 1


def test_an_interrupt_of_a_training_ends_with_130_and_keeps_what_was_reached(tmp_path: Path) -> None:
    data, out = write_rows(tmp_path / "rows.jsonl", reviews(400)), tmp_path / "model"
    command = [sys.executable, "-m", "edgelm", "finetune", "sentiment", "--data", data, "--out", out, *TINY]
    process = subprocess.Popen(
        [*map(str, command), "--epochs", "50", "--evaluations", "50", "--patience", "50"],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    state, deadline = tmp_path / "model.training", time.monotonic() + 120
    while not list(state.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    assert list(state.glob("checkpoint-*/trainer_state.json"))
