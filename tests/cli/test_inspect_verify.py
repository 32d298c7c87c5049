"""``edgelm inspect`` and ``edgelm verify`` on a real, tiny bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelm.locate import bundles_of
from edgelm.manifest_text import describe
from edgelm.quality_text import describe_quality
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import BundleNotFound
from tests.cli.conftest import Invoke


def test_inspect_shows_what_a_person_asks_first(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("inspect", tiny_classifier)
    assert (result.exit_code, result.stderr) == (0, "")
    for expected in ("tiny-classifier", "sentiment", "negative, positive", "Apache-2.0", "model.onnx", "kB"):
        assert expected in result.stdout


def test_inspect_json_is_the_manifest_on_one_line(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("inspect", tiny_classifier, "--json")
    assert len(result.stdout.splitlines()) == 1
    assert json.loads(result.stdout) == json.loads((tiny_classifier / "edgelm.json").read_text("utf-8"))


def test_a_manifest_does_not_steer_the_terminal(tiny_classifier: Path) -> None:
    manifest = open_bundle(tiny_classifier, verify="lazy").manifest
    page = describe(replace(manifest, quality={"\x1b[2J": ["\x07", 0.123456789, None]}), tiny_classifier)
    assert "\x1b" not in page
    assert "\\x1b[2J" in page
    assert "\\x07; 0.123457; null" in page


def test_verify_reports_what_was_checked(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("verify", tiny_classifier)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "tiny-classifier: verified" in result.stdout
    report = json.loads(invoke("verify", tiny_classifier, "--json").stdout)
    assert report["golden"] >= 1
    assert report["files"] == 3


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_bundle_ends_with_3(invoke: Invoke, tmp_path: Path, command: str) -> None:
    for name in ("no-such-bundle", str(tmp_path)):
        result = invoke(command, name)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("edgelm: error: ")


def test_verify_refuses_a_flipped_byte(invoke: Invoke, copied_classifier: Path) -> None:
    path = copied_classifier / "golden.json"
    path.write_bytes(path.read_bytes().replace(b"good", b"gooD"))
    result = invoke("verify", copied_classifier)
    assert (result.exit_code, "golden.json" in result.stderr) == (3, True)


def test_a_name_means_a_task_then_a_default_bundle_then_a_folder(
    tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "shipped").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgelm.locate.default_bundles", lambda: {"shipped": tiny_classifier})
    assert bundles_of("sentiment") == [tiny_classifier]
    assert bundles_of("shipped") == [tiny_classifier]
    assert bundles_of("./sentiment") == [Path("sentiment")]
    with pytest.raises(BundleNotFound, match="shipped"):
        bundles_of("summary")


def test_inspect_placement_loads_and_shows_every_node(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("inspect", tiny_classifier, "--placement")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "tiny-classifier"
    assert "nodes          2 on CPUExecutionProvider" in lines
    assert [line.split()[:2] for line in lines[-2:]] == [
        ["CPUExecutionProvider", "Gather"], ["CPUExecutionProvider", "ReduceMean"],
    ]  # fmt: skip
    loaded = json.loads(invoke("inspect", tiny_classifier, "--placement", "--json").stdout)
    assert loaded["nodes"] == {"CPUExecutionProvider": 2}
    assert [node["op_type"] for node in loaded["placement"]] == ["Gather", "ReduceMean"]


def test_options_of_a_load_need_one(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("inspect", tiny_classifier, "--device", "cpu")
    assert result.exit_code == 2
    assert "only --placement loads the bundle" in result.stderr


@pytest.mark.parametrize("device", ["tpu", "openvino:TPU", "xnnpack"])
def test_a_device_that_is_not_there_ends_with_4(invoke: Invoke, tiny_classifier: Path, device: str) -> None:
    for arguments in (
        ["run", "sentiment", "good", "--bundle", tiny_classifier],
        ["verify", tiny_classifier],
        ["inspect", tiny_classifier, "--placement"],
    ):
        result = invoke(*arguments, "--device", device)
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr.startswith("edgelm: error: ")


def test_verify_says_what_it_ran(invoke: Invoke, tiny_classifier: Path) -> None:
    assert "fp32 on cpu" in invoke("verify", tiny_classifier, "--use-variant", "fp32").stdout
    assert invoke("verify", tiny_classifier, "--use-variant", "other").exit_code == 4


def test_devices_lists_all_of_them(invoke: Invoke) -> None:
    result = invoke("devices")
    assert (result.exit_code, result.stderr) == (0, "")
    for expected in ("cores", "memory", "onnxruntime", "+ cpu ", "openvino", "cuda", "xnnpack"):
        assert expected in result.stdout
    found = json.loads(invoke("devices", "--json").stdout)
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 0
    assert {one["device"].partition(":")[0] for one in found["devices"]} >= {"cpu", "openvino", "cuda", "qnn"}


def test_tune_remembers_and_run_uses_it(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("tune", tiny_classifier)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "* fp32" in result.stdout
    measured = json.loads(invoke("tune", tiny_classifier, "--json").stdout)
    assert Path(measured["file"]).is_file()
    assert all(one["ms"] > 0 for one in measured["candidates"])
    answer = invoke("run", "sentiment", "the parcel is good", "--bundle", tiny_classifier, "--json", "--receipt")
    receipt = json.loads(answer.stdout)["receipt"]
    assert receipt["why"] == "the fastest that edgelm tune measured here"
    assert receipt["nodes"] == {"CPUExecutionProvider": 2}
    assert receipt["threads"] == measured["choice"]["threads"]
    Path(measured["file"]).write_text("not what it was", "utf-8")
    answer = invoke("run", "sentiment", "the parcel is good", "--bundle", tiny_classifier, "--json", "--receipt")
    assert "damaged: ignored" in json.loads(answer.stdout)["receipt"]["notes"][0]


QUALITY = {
    "scheme": "int8-mixed",
    "parity": {"inputs": 36, "worst": 0.0223273, "kl": 0.0001, "worst_input": "long " * 40, "new\x1b": 1},
    "metrics": {"torch": {"accuracy": 92.0684}, "int8": {"accuracy": 92.1461, "same answer as torch": 99.9}},
    "metrics_on": "dev.jsonl",
    "differences": [{"metric": "accuracy", "rows": 3858, "difference": 0.0777, "interval": [-0.05, 0.2], "p": 0.25}],
    "variants": {"qdq-int8": {"inputs": 36, "worst": 0.05}},
    "text_parity": {
        "texts": 29,
        "same": 28,
        "explained": [{"why": "x"}],
        "left_out": {"cut": 2},
        "answered_by": ["torch"],
    },
    "calibrated on": "our own texts",
}


def test_quality_is_told_as_tables(tiny_classifier: Path) -> None:
    manifest = open_bundle(tiny_classifier, verify="lazy").manifest
    page = describe_quality(replace(manifest, quality=QUALITY))
    lines = [line.split("  ") for line in page.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["distance of probabilities, worst", "0.02233", "0.05"] in cells
    assert ["KL divergence in nats, mean", "0.0001"] in cells
    assert ["new\\x1b", "1"] in cells
    assert ["with the answer of transformers", "28"] in cells
    assert ["accuracy", "92.07", "92.15"] in cells
    assert ["same answer as torch", "99.9"] in cells
    assert ["metrics, in percent, on dev.jsonl"] in cells
    assert ["accuracy", "3858", "0.0777", "[-0.05, 0.2]", "0.25"] in cells
    assert ["golden answers", "golden.json; edgelm verify replays them"] in cells
    assert ["calibrated on", "our own texts"] in cells
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) < 140


@pytest.mark.parametrize(
    "quality",
    [
        {},
        {"parity": 3, "metrics": [1]},
        {"metrics": {"torch": 4}, "differences": [5, {}], "variants": "no", "text_parity": 9},
    ],
)
def test_quality_that_is_something_else_is_shown_all_the_same(tiny_classifier: Path, quality: dict[str, Any]) -> None:
    manifest = open_bundle(tiny_classifier, verify="lazy").manifest
    assert "golden answers" in describe_quality(replace(manifest, quality=quality))


def test_inspect_quality_needs_the_runtime_alone(invoke: Invoke, tiny_classifier: Path) -> None:
    result = invoke("inspect", tiny_classifier, "--quality")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("tiny-classifier")
    stored = json.loads((tiny_classifier / "edgelm.json").read_text("utf-8"))["quality"]
    assert json.loads(invoke("inspect", tiny_classifier, "--quality", "--json").stdout) == stored
    assert invoke("inspect", tiny_classifier, "--quality", "--placement").exit_code == 2
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'onnx', 'sklearn', 'scipy']));"
        f"from edgelm.cli import cli; cli(['inspect', {str(tiny_classifier)!r}, '--quality'], standalone_mode=False)"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_verify_isolated_reports_the_same_or_refuses(
    invoke: Invoke, tiny_classifier: Path, copied_classifier: Path
) -> None:
    result = invoke("verify", tiny_classifier, "--isolated")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "tiny-classifier: verified" in result.stdout
    (copied_classifier / "golden.json").write_bytes(b"{}")
    result = invoke("verify", copied_classifier, "--isolated")
    assert result.exit_code == 3
    assert "golden.json does not match the manifest" in result.stderr
