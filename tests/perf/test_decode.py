"""The decoder beside its peers: the engines that are installed here run, and the arithmetic of the report is right."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from perf.decode import summary
from perf.decode.harness import Bench
from perf.decode.page import write
from perf.decode.peers import peers
from perf.decode.protocol import WARM_TOKENS, Measured, Plan, measure
from perf.decode.report import Row, print_report
from perf.decode.shapes import SHAPES, product_weights, prompt
from tests.perf.runs import smoke_run

ROOT = Path(__file__).parent.parent.parent
PLAN = Plan(2, {"64": [[1] * 64] * 3, "512": [[2] * 512] * 2}, [[3] * 64], 4)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="edgelm[export] is not installed")
def test_a_smoke_run_measures_what_is_installed_and_names_what_is_not(tmp_path: Path) -> None:
    report, said = smoke_run("decode", 2, tmp_path)
    rows = {(row["engine"], row["precision"]): row for row in report["details"]["smoke"]}
    assert {("edgelm", "fp32"), ("edgelm", "int8"), ("edgelm", "int4"), ("transformers", "fp32")} <= set(rows)
    assert all(row["tokens/s"] > 0 and row["files MB"] > 0 for row in rows.values())
    assert any("installs nothing" in failure for failure in report["details"]["failures"])
    assert "alike" in said or "transformers 8" in said
    assert (tmp_path / "decoders.png").read_bytes().startswith(b"\x89PNG")
    assert "| edgelm | int8 |" in (tmp_path / "decoders.md").read_text("utf-8")


class Counting:
    """An engine that counts on from the last token of its prompt."""

    def __init__(self, short: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self._short = short

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        self.loaded = model, threads, lookup

    def answer(self, prompt: Sequence[int], count: int, seen: Any) -> None:
        self.asked.append((len(prompt), count))
        for number in range(count - self._short):
            seen(prompt[-1] + 1 + number)


def test_an_engine_is_asked_once_without_counting_and_then_as_planned() -> None:
    engine = Counting()
    measured = measure(engine, Path("model"), PLAN)
    assert engine.loaded == (Path("model"), 2, False)
    assert engine.asked == [(64, WARM_TOKENS), *[(64, 1)] * 3, *[(512, 1)] * 2, (64, 4)]
    assert [len(times) for times in measured.first_ms.values()] == [2, 1]
    assert measured.tokens == [[4, 5, 6, 7]]
    assert len(measured.token_ms) == 3
    assert measured.resident_bytes > 10e6 or not Path("/proc/self/status").exists()
    with pytest.raises(SystemExit, match="3 tokens came, 4 were asked for"):
        measure(Counting(short=1), Path("model"), Plan(2, {}, [[1], [2]], 4))


def row(name: str, precision: str, token_ms: float, *, size: int = 100_000_000, tokens: Sequence[int] = (1, 2)) -> Row:
    peer = next(peer for peer in peers() if peer.name == name)
    found = Measured(
        load_s=0.3 if name == "edgelm" else 0.2, first_ms={"64": [10 * token_ms], "512": [50 * token_ms]},
        token_ms=[token_ms, token_ms], answer_s=[64 * token_ms] * 6, tokens=[list(tokens)], resident_bytes=192_000_000,
    )  # fmt: skip
    return Row(peer, precision, Path("nowhere"), size, Plan(2, {}, [], 2, lookup=False), [found] * 2)


def test_ratios_are_to_the_best_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "checkpoints" / "gpt2-124m"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text(json.dumps(SHAPES["gpt2-124m"]))
    bench = Bench(tmp_path, False, 2, peers())
    bench.fail("a peer: it broke")
    rows = [
        row("edgelm", "int8", 5.0), row("openvino", "int8", 10.0), row("llama_cpp", "int8", 8.0),
        row("edgelm", "fp32", 9.0), row("transformers", "fp32", 20.0, tokens=(1, 3)),
    ]  # fmt: skip
    report = print_report(bench, {"gpt2-124m": rows}, [], 20e9)
    figures = {figure["name"].removeprefix("gpt2-124m, int8: "): figure for figure in report["figures"]}
    assert figures["tokens/s / best peer"]["median"] == pytest.approx(1.6)
    assert figures["tokens/s / best peer"]["met"] is False
    assert figures["first token of 512 / best peer"]["median"] == pytest.approx(0.625)
    assert figures["of the ceiling"]["median"] == pytest.approx(200 * 123_532_032 / 20e9)
    assert figures["resident / (files + 60 MB)"]["median"] == pytest.approx(1.2)
    assert figures["load / llama.cpp"]["median"] == pytest.approx(1.5)
    said = capsys.readouterr()
    assert "failed: a peer: it broke" in said.out
    assert "failed: a peer: it broke" in said.err
    assert "transformers 1" in said.out
    write(report, tmp_path)
    text = (tmp_path / "decoders.md").read_text("utf-8")
    assert "| gpt2-124m, int8: tokens/s / best peer | 1.60 | at least 2.0 | no |" in text
    assert "- a peer: it broke" in text


def test_a_summary_is_compared_without_lookup_and_with() -> None:
    rows = [row("edgelm", "int8", 2.0), row("openvino", "int8", 8.0), row("llama_cpp", "int8", 6.0)]
    rows += [row("edgelm", "int8", 1.0), row("openvino", "int8", 2.0)]
    for with_lookup in rows[3:]:
        with_lookup.plan = Plan(2, {}, [], 2, lookup=True)
    figures = {figure.name: figure for figure in summary.figures(rows)}
    assert figures["summary of quoting, lookup / best peer without"].median == pytest.approx(6.0)
    assert figures["summary of reviews, lookup / OpenVINO with lookup"].median == pytest.approx(2.0)
    assert all(len(text.split()) > 200 for texts in summary.texts() for text in texts)


def test_every_peer_has_its_engine_and_its_requirements() -> None:
    names = {peer.name for peer in peers()}
    folder = ROOT / "perf" / "decode"
    assert {path.stem for path in (folder / "engines").glob("*.py")} - {"__init__"} == names
    assert {path.stem for path in (folder / "peers").glob("*.txt")} == names - {"edgelm"}
    assert all(peer.versions() for peer in peers() if peer.name != "edgelm")


def test_prompts_differ_from_the_first_token_on(tmp_path: Path) -> None:
    prompts = [prompt(50257, 64, number) for number in range(50)]
    assert len({ids[0] for ids in prompts}) == 50
    assert all(5 <= token < 50257 for ids in prompts for token in ids)
    (tmp_path / "config.json").write_text(json.dumps(SHAPES["llama-135m"]))
    assert product_weights(tmp_path) == 134_479_872
