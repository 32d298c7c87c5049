"""``edgelm inspect`` and ``edgelm verify`` on a real, tiny bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgelm.locate import bundles_of
from edgelm.manifest_text import describe
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
    answer = invoke("run", "sentiment", "the parcel is good", "--bundle", tiny_classifier, "--json")
    receipt = json.loads(answer.stdout)["receipt"]
    assert receipt["why"] == "the fastest that edgelm tune measured here"
    assert receipt["nodes"] == {"CPUExecutionProvider": 2}
    assert receipt["threads"] == measured["choice"]["threads"]
    Path(measured["file"]).write_text("not what it was", "utf-8")
    answer = invoke("run", "sentiment", "the parcel is good", "--bundle", tiny_classifier, "--json")
    assert "damaged: ignored" in json.loads(answer.stdout)["receipt"]["notes"][0]
