"""The encoder beside its peers: the engines that are installed here run, and the arithmetic of the report is right."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from perf.bench import ROOT
from perf.encode.ceiling import int8_products
from perf.encode.front import Front, copy_texts, padded
from perf.encode.harness import Bench
from perf.encode.page import write
from perf.encode.peers import peers
from perf.encode.protocol import PASSES, Measured, Plan, measure
from perf.encode.report import LENGTHS, Ceilings, Row, off_by, print_report
from perf.encode.shapes import DEFAULT_BUNDLE, LONGEST, SHAPES, make, product_weights, review_lengths, row
from tests.perf.runs import smoke_run

PLAN = Plan(2, {"16": [[1] * 16] * 3}, {"reviews": [[[1, 2], [3]], [[4]]]}, ["good", "bad"], 0.0, 5)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="edgelm[export] is not installed")
def test_a_smoke_run_measures_what_is_installed_and_names_what_is_not(tmp_path: Path) -> None:
    report, _ = smoke_run("encode", 1, tmp_path)
    rows = {(line["engine"], line["precision"]): line for line in report["details"]["smoke"]}
    ours = {("edgelm", "fp32"), ("edgelm", "int8"), (f"edgelm, {DEFAULT_BUNDLE}", "int8")}
    assert ours | {("transformers", "fp32"), ("transformers", "bf16")} <= set(rows)
    assert all(line["16 p50 ms"] > 0 and line["text p50 ms"] > 0 and line["files MB"] > 0 for line in rows.values())
    assert rows["edgelm", "fp32"]["off by"] < 1e-3
    assert rows["edgelm", "int8"]["off by"] < 0.3
    assert "384 p50 ms" not in rows[f"edgelm, {DEFAULT_BUNDLE}", "int8"]
    assert any("installs nothing" in failure for failure in report["details"]["failures"])
    figures = {figure["name"] for figure in report["figures"]}
    assert {"smoke, int8, 16 tokens: best peer's ms / ours", "smoke, int8, 8 reviews: texts/s / best peer"} <= figures
    assert f"{DEFAULT_BUNDLE}: text to label / transformers pipeline" in figures
    assert (tmp_path / "encoders.png").read_bytes().startswith(b"\x89PNG")
    assert "| edgelm | int8 |" in (tmp_path / "encoders.md").read_text("utf-8")


class Embedder:
    """An engine without logits, which counts its texts."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def load(self, model: Path, threads: int) -> None:
        self.loaded = model, threads

    def answer(self, text: str) -> object:
        self.asked.append(text)
        return [0.5]

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        return [self.answer(text) for text in texts]


class Classifier(Embedder):
    """An engine that makes the sum and the length of a row its logits."""

    def logits(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        self.asked += [len(row) for row in rows]
        return [[float(sum(row)), float(len(row))] for row in rows]


def test_every_cell_is_warmed_and_repeated() -> None:
    engine = Classifier()
    measured = measure(engine, Path("model"), PLAN)
    assert engine.loaded == (Path("model"), 2)
    rows, batches = [16] * (3 + 5), [2, 1, 1] * (1 + PASSES)
    texts = ["good", "bad"] + ["good", "bad", "good", "bad", "good"] + ["good", "bad"] * (1 + PASSES)
    assert engine.asked == rows + batches + texts
    assert measured.logits == [[3.0, 2.0], [3.0, 1.0], [4.0, 1.0]]
    assert [len(times) for times in (measured.row_ms["16"], measured.text_ms)] == [5, 5]
    assert all(speed > 0 for speed in (*measured.batch_texts_s["reviews"], *measured.texts_s))
    assert measured.resident_bytes > 10e6 or not Path("/proc/self/status").exists()


def test_an_embedder_is_asked_for_texts_only() -> None:
    measured = measure(Embedder(), Path("model"), PLAN)
    assert measured.row_ms == measured.batch_texts_s == {}
    assert len(measured.text_ms) == 5


def found(name: str, precision: str, ms: float, logits: Sequence[float] = (1.0, 2.0), bundle: str = "") -> Row:
    peer = next(peer for peer in peers() if peer.name == name)
    measured = Measured(
        load_s=0.2, row_ms={str(length): [length * ms] * 3 for length in LENGTHS}, text_ms=[ms] * 3, texts_s=[1 / ms],
        batch_texts_s={"reviews": [1000 / ms], "128": [100 / ms]}, logits=[[value, -value] for value in logits],
        resident_bytes=192_000_000,
    )  # fmt: skip
    if peer.gives == "embedding":
        measured = Measured(text_ms=[ms] * 3, texts_s=[1 / ms])
    return Row(peer, precision, Path("nowhere"), 100_000_000, PLAN, [measured] * 2, bundle=bundle)


def test_ratios_are_to_the_best_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, False, 2, peers())
    bench.fail("a peer: it broke")
    base = [
        found("edgelm", "fp32", 0.1), found("edgelm", "int8", 0.2), found("openvino", "int8", 0.3, (1.0, 1.9)),
        found("transformers", "bf16", 0.26, (2.0, 1.0)), found("transformers", "fp32", 0.5),
    ]  # fmt: skip
    small = [
        found("edgelm", "int8", 0.2), found("ctranslate2", "int8", 0.22), found("transformers", "fp32", 2.0),
        found("fastembed", "int8", 0.01), found("edgelm", "int8", 0.1, bundle=DEFAULT_BUNDLE),
    ]  # fmt: skip
    report = print_report(bench, {"bert-base": base, "minilm-l6": small}, Ceilings(30e9, [1e12, 1e12]))
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert len(figures) == 12
    first = figures["bert-base, int8, 16 tokens: best peer's ms / ours"]
    assert (first["median"], first["at_least"], first["met"]) == (pytest.approx(1.3), 1.25, True)
    assert figures["bert-base, int8, 384 tokens: best peer's ms / ours"]["at_least"] == 1.2
    assert figures["minilm-l6, int8, 32 tokens: best peer's ms / ours"]["met"] is False
    assert figures["bert-base, int8, 8 reviews: texts/s / best peer"]["median"] == pytest.approx(1.3)
    share = figures["bert-base, int8, 128 tokens: of the int8 ceiling"]
    assert share["median"] == pytest.approx(128 * 84_934_656 / (128 * 0.2e-3) / 1e12)
    assert figures[f"{DEFAULT_BUNDLE}: text to label / transformers pipeline"]["median"] == pytest.approx(0.05)
    off = {line["engine"]: line.get("off by") for line in report["details"]["bert-base"]}
    assert (off["edgelm"], off["OpenVINO"]) == (0.0, pytest.approx((0.01 / 0.5) ** 0.5))
    said = capsys.readouterr()
    assert "failed: a peer: it broke" in said.out
    assert "failed: a peer: it broke" in said.err
    write(report, tmp_path)
    text = (tmp_path / "encoders.md").read_text("utf-8")
    assert "| bert-base, int8, 16 tokens: best peer's ms / ours | 1.30 | at least 1.25 | yes |" in text
    assert "| fastembed | int8 | 0.00 |  |  | embedding | 0.01 | 100 |" in text
    assert "large reads 30.0 GB/s, int8 products 1.00 T multiply-adds/s" in text
    assert "- a peer: it broke" in text
    assert "- nowhere: off by 2.00 of torch's logits" in text


def test_an_answer_that_is_the_same_for_every_row_is_off_by_one() -> None:
    exact = [[1.0, -1.0], [3.0, -3.0]]
    assert off_by(exact, exact) == 0.0
    assert off_by([[2.0, -2.0]] * 2, exact) == pytest.approx(1.0)


def test_every_peer_has_its_requirements_with_exact_versions() -> None:
    engines = peers()
    assert engines[0].name == "edgelm"
    assert {path.stem for path in (ROOT / "perf" / "encode" / "peers").glob("*.txt")} == {
        peer.name for peer in engines[1:]
    }
    for peer in engines[1:]:
        lines = peer.requirements.read_text("utf-8").split()
        assert list(peer.versions()) == [line.split("==")[0] for line in lines if "==" in line]
        assert len(peer.versions()) == len(lines)
    assert {peer.name for peer in engines if peer.gives == "embedding"} == {"fastembed", "sentence_transformers"}


def test_rows_are_padded_on_the_right() -> None:
    inputs = padded([[5, 6, 7], [8]])
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_an_engine_without_a_tokenizer_reads_texts_in_order(tmp_path: Path) -> None:
    import numpy as np

    make("smoke", tmp_path / "checkpoint")
    copy_texts(tmp_path / "checkpoint", tmp_path / "model")
    seen: list[int] = []

    def logits(rows: Sequence[Sequence[int]]) -> Any:
        seen.extend(map(len, rows))
        return np.array([[0.0, 1.0] if len(row) > 4 else [1.0, 0.0] for row in rows])

    front = Front(tmp_path / "model", logits)
    assert front.answer("good") == "negative"
    texts = ["good", "good good good", "bad"] * 4
    assert front.answers(texts) == ["negative", "positive", "negative"] * 4
    assert seen[1:] == sorted(seen[1:])
    calibration = json.loads((tmp_path / "checkpoint" / "calibration.json").read_text("utf-8"))
    assert len(calibration) == 72
    assert all(ids[0] == row(16, 0)[0] and ids[-1] == row(16, 0)[-1] for ids in calibration)


def test_rows_and_lengths() -> None:
    rows = [row(16, number) for number in range(50)]
    assert len({tuple(ids) for ids in rows}) == 50
    assert all(len(ids) == 16 and max(ids) < SHAPES["bert-base"].vocabulary for ids in rows)
    lengths = review_lengths(400)
    assert 30 <= median(lengths) <= 36
    assert max(lengths) <= LONGEST
    assert lengths == review_lengths(400)
    assert product_weights(SHAPES["bert-base"]) == 84_934_656
    assert int8_products(1, smoke=True) > 1e8
