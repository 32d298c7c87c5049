"""The comparison of answers: rows that everybody reads alike, differences to torch, and a page that keeps its words."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perf.beside.peers import Peer
from perf.fidelity import page
from perf.fidelity.harness import Bench, Row, engines
from tests.perf.runs import smoke_run

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="edgelm[export] is not installed")


@needs_torch
def test_a_smoke_run_compares_what_is_installed_and_names_what_is_not(tmp_path: Path) -> None:
    report, printed = smoke_run("fidelity", 1, tmp_path)
    encoder = {(line["engine"], line["precision"]): line for line in report["details"]["smoke-encode"]["lines"]}
    assert {("torch", "fp32"), ("edgelm", "int8")} <= set(encoder)
    assert encoder["torch", "fp32"]["ms"] > 0
    assert encoder["edgelm", "int8"]["same answer"] >= 80
    decoder = {(line["engine"], line["precision"]): line for line in report["details"]["smoke-decode"]["lines"]}
    assert {("torch", "fp32"), ("edgelm", "int8")} <= set(decoder)
    assert any("installs nothing" in failure for failure in report["details"]["failures"])
    figures = {figure["name"] for figure in report["figures"]}
    assert {"smoke-encode: points that edgelm int8 loses", "smoke-decode: points that edgelm int8 loses"} <= figures
    assert "smoke-encode: accuracy of 8 rows" in printed
    assert "| edgelm | int8 |" in (tmp_path / "fidelity.md").read_text("utf-8")
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")


class FakeTimes:
    """What a process measured, as far as the report looks."""

    def __init__(self, ms: float) -> None:
        self.row_ms = {"rows": [ms] * 3}


def _row(name: str, precision: str, ms: Sequence[float], scores: Sequence[float]) -> Row:
    peer: Peer[Any] = next(peer for peer in engines(name) if peer.home == "encode")
    row = Row(peer, precision, Path("nowhere"), 4_000_000, None, [FakeTimes(one) for one in ms])
    row.scores, row.answers = np.array(scores), [str(score) for score in scores]
    return row


@needs_torch
def test_points_are_against_torch_and_the_best_peer(tmp_path: Path) -> None:
    from perf.fidelity.report import Model, print_report

    torch = _row("transformers", "fp32", [8.0, 8.0], [100.0] * 90 + [0.0] * 10)
    ours = _row("edgelm", "int8", [2.0, 2.0], [100.0] * 89 + [0.0] * 11)
    good = _row("openvino", "int8-accuracy", [4.0, 3.0], [100.0] * 90 + [0.0] * 9 + [100.0])
    poor = _row("optimum_onnx", "int8", [5.0, 5.0], [100.0] * 40 + [0.0] * 60)
    rows = [torch, ours, good, poor]
    model = Model("tiny", "accuracy", "a row", torch.answers, torch.scores, rows)
    report = print_report(Bench(tmp_path, False, 2, engines(None)), [model])
    figures = {figure["name"]: figure for figure in report["figures"]}
    lost = figures["tiny: points that edgelm int8 loses"]
    assert (lost["median"], lost["at_most"], lost["met"]) == (pytest.approx(1.0), 0.3, False)
    behind = figures["tiny: points behind the best peer, chance aside"]
    assert (behind["median"], behind["met"]) == (0.0, True)  # two rows of a hundred may be chance
    assert figures["tiny: fastest peer's ms / ours"]["median"] == pytest.approx(1.75)
    lines = {line["engine"]: line for line in report["details"]["tiny"]["lines"]}
    assert lines["torch"]["ms"] == 8.0
    assert lines["optimum-onnx"]["difference"] == pytest.approx(-50.0)
    assert lines["optimum-onnx"]["p"] < 1e-9
    assert lines["edgelm"]["same answer"] == pytest.approx(99.0)

    ours.scores = np.array([100.0] * 60 + [0.0] * 40)
    again = print_report(Bench(tmp_path, False, 2, engines(None)), [model])
    figures = {figure["name"]: figure for figure in again["figures"]}
    assert figures["tiny: points behind the best peer, chance aside"]["median"] == pytest.approx(31.0)

    (tmp_path / "fidelity.md").write_text(f"# Words\n\n{page.BEGIN}\nold\n{page.END}\n\nmore words\n", "utf-8")
    for _ in range(2):
        page.write(report, tmp_path)
        text = (tmp_path / "fidelity.md").read_text("utf-8")
        assert text.startswith("# Words\n")
        assert text.endswith("more words\n")
        assert "old" not in text
        assert text.count("| OpenVINO | int8-accuracy | 91.00 | +1.00 |") == 1


@needs_torch
def test_everybody_is_asked_the_same_rows(tmp_path: Path) -> None:
    from perf.fidelity import cases
    from perf.fidelity.smoke import checkpoint_and_rows

    checkpoint, rows = checkpoint_and_rows("encode", tmp_path)
    given = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    asked = cases.classifier(checkpoint, rows, 5, tmp_path / "out")
    assert len(asked) == 4  # every fourth of 16
    held = json.loads((tmp_path / "out" / "validation.json").read_text("utf-8"))
    assert len(held) == 4
    assert json.loads((tmp_path / "out" / "calibration.json").read_text("utf-8")) == [row["ids"] for row in held]
    assert not {tuple(row["ids"]) for row in held} & {tuple(row.ids) for row in asked}
    assert [row["label"] for row in held] == [row["label"] for row in given[::5]]
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text("utf-8"))
    assert (settings["tokenizer_class"], settings["cls_token"]) == ("PreTrainedTokenizerFast", "[CLS]")


@needs_torch
def test_an_answer_ends_at_its_end_token(tmp_path: Path) -> None:
    from edgelm_export.checkpoint import load_checkpoint
    from edgelm_runtime.tokenizer import TextTokenizer
    from perf.fidelity import cases
    from perf.fidelity.scores import Texts, rouge
    from perf.fidelity.smoke import checkpoint_and_rows

    checkpoint, rows = checkpoint_and_rows("decode", tmp_path)
    given = load_checkpoint(checkpoint)
    ids = TextTokenizer(given.tokenizer_json, given.tokenizer).encode("works well", special=False)
    texts = Texts(checkpoint, 8)
    assert texts.text([*ids, *given.tokenizer.eos_ids, *ids]) == texts.text(ids) == "works well"
    asked = cases.generator(checkpoint, rows, 3, 8, tmp_path / "out")
    assert rouge(asked, [row.answer for row in asked]) == pytest.approx(100.0)
    assert len(texts.reference(asked)) == len(asked) <= 3


def test_a_model_to_ask_is_needed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from perf.fidelity.__main__ import _arguments

    monkeypatch.setattr("sys.argv", ["perf.fidelity"])
    with pytest.raises(SystemExit):
        _arguments()
    assert "give --classifier or --generator" in capsys.readouterr().err
