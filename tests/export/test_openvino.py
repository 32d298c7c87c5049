"""A real plug-in provider: OpenVINO's, which runs on Intel's processors and says so on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgelm_export.pipeline import ExportOptions, export

pytestmark = pytest.mark.skipif(
    find_spec("onnxruntime_ep_openvino") is None, reason="onnxruntime-ep-openvino is not installed"
)


def edgelm(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: a provider's library, once registered, stays in the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "edgelm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=120)


@pytest.fixture(scope="module")
def bundle(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier, for the CPU and for OpenVINO."""
    out = tmp_path_factory.mktemp("openvino") / "bundle"
    export(ExportOptions(bert_folder, out, targets=("cpu", "openvino")))
    return out


def test_it_runs_here_or_says_why_not(bundle: Path) -> None:
    run = ("run", "sentiment", "the parcel is good", "--bundle", bundle, "--json", "--receipt")
    found = json.loads(edgelm("devices", "--json").stdout)["devices"]
    (openvino,) = {one["problem"] for one in found if one["device"].startswith("openvino")}
    asked = edgelm(*run, "--device", "openvino:CPU")
    if openvino:
        assert "finds no hardware that it takes here, although its library loads" in openvino
        assert (asked.returncode, asked.stdout) == (4, "")
        assert "OpenVINOExecutionProvider finds no CPU that it takes here" in asked.stderr
        return
    if asked.returncode == 4:  # an onnxruntime whose OpenVINO leaves some nodes to the CPU
        assert "does not take the whole graph" in asked.stderr
        asked = edgelm(*run, "--device", "openvino:CPU", "--allow-fallback")
    assert asked.returncode == 0, asked.stderr
    there, here = json.loads(asked.stdout), json.loads(edgelm(*run, "--device", "cpu").stdout)
    assert there["receipt"]["variant"] == "qdq-int8"
    assert there["receipt"]["nodes"]["OpenVINOExecutionProvider"] > 0
    assert there["label"] == here["label"]
    assert abs(there["score"] - here["score"]) < 0.05


def test_tune_measures_it_or_leaves_it_out(bundle: Path) -> None:
    tuned = json.loads(edgelm("tune", bundle, "--json").stdout)
    devices = {one["device"] for one in tuned["candidates"]}
    found = json.loads(edgelm("devices", "--json").stdout)["devices"]
    usable = {one["device"] for one in found if one["device"].startswith("openvino") and not one["problem"]}
    assert devices == {"cpu"} | usable
