"""The search on what is no classifier built from weights: generators, text to text, traced and imported graphs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.search import Goal, deadline, sensitivity
from edgelm_export.search.trials import Trials
from edgelm_export.tolerance import TOLERANCES
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import InputError, ParityError
from edgelm_runtime.loader import load
from edgelm_runtime.verify import verify_bundle
from tests.export import graphs, onnx_folder, tiny
from tests.export.rows import reviews, write_rows
from tests.export.seq2seq import save, seq2seq

LABELS = {"num_labels": 2, "id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
ROWS, LENGTH = 20, 10
LAYERS = 6  # of the GPT-2
MADE: dict[str, Callable[[Path], Path]] = {
    "gpt2": lambda folder: _generator(folder, tiny.gpt2(spread=0.1, n_layer=1)),
    "llama": lambda folder: _generator(folder, tiny.decoder("llama", spread=0.1, num_hidden_layers=1)),
    "t5": lambda folder: save(folder, seq2seq("t5", num_layers=1), {"max_length": LENGTH}),
    "bart": lambda folder: save(folder, seq2seq("bart", encoder_layers=1, decoder_layers=1), {"max_length": LENGTH}),
    "albert": lambda folder: graphs.save(folder, "albert", graphs.TASKS[0], **LABELS),
    "onnx": lambda folder: onnx_folder.write(folder, tiny.bert(spread=0.1), "logits"),
}
WRITERS = ("gpt2", "llama", "t5", "bart")
PLAIN = {"gpt2": "int8-static", "llama": "int8-static"}  # the scheme that all of the bundle is in, for a comparison
Made = Callable[[str], tuple[Path, Path]]


def _generator(folder: Path, model: Any) -> Path:
    tiny.save_gpt2(folder, model, {"summary": tiny.PROMPTS["summary"]})
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": LENGTH}), "utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """``made(kind)`` is a checkpoint and rows; of a writer those that it answers right itself, 100 points."""
    done: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            checkpoint, rows = MADE[kind](folder / "checkpoint"), reviews(80)
            if kind in WRITERS:
                export(ExportOptions(checkpoint, folder / "fp32", precision="fp32"))
                model: Any = load(folder / "fp32")
                texts = [row["text"] for row in rows[:ROWS]]
                rows = [{"text": text, "summary": model(text, temperature=0.0, num_beams=1).text} for text in texts]
            done[kind] = checkpoint, write_rows(folder / "dev.jsonl", rows)
        return done[kind]

    return make


def _options(made: Made, kind: str, out: Path, goal: Goal, **further: Any) -> ExportOptions:
    checkpoint, rows = made(kind)
    return ExportOptions(checkpoint, out, precision="auto", eval_file=rows, goal=goal, **further)


@pytest.mark.parametrize("kind", MADE)
def test_a_search_keeps_the_drop_and_says_why(made: Made, kind: str, tmp_path: Path) -> None:
    options = _options(made, kind, tmp_path / "bundle", Goal(max_drop=5, report=tmp_path / "report"))
    table = export(options).table()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "report"]
    trade = json.loads((tmp_path / "report" / "trade.json").read_text("utf-8"))
    points = {point["name"]: point for point in trade["points"]}
    assert {"fp32", f"all {PLAIN.get(kind, 'int8-mixed')}", "all fastest"} <= set(points)
    assert points[trade["chosen"]]["drop"] <= 5
    if kind in WRITERS:  # there is something to lose
        assert max(point["drop"] for point in points.values()) > 5
        assert trade["rows"] < ROWS
        assert not any("int8" in layer["costs"] for layer in trade["layers"])  # its scale depends on the neighbours
    assert "(chosen)" in table
    assert (tmp_path / "report" / "trade.png").read_bytes().startswith(b"\x89PNG")
    assert verify_bundle(options.out).golden > 0


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_search_that_was_interrupted_goes_on(
    made: Made, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = _options(made, kind, tmp_path / "bundle", Goal(max_drop=5, report=tmp_path / "report"))
    calls, measured = count(), sensitivity._distance

    def interrupted(*given: Any) -> float:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return measured(*given)

    with monkeypatch.context() as patch:
        patch.setattr(sensitivity, "_distance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export(options)
    (memory,) = tmp_path.iterdir()
    before = json.loads(memory.read_text("utf-8"))["harms"]
    assert sum(map(len, before.values())) == 3
    export(options)
    trade = json.loads((tmp_path / "report" / "trade.json").read_text("utf-8"))
    harms = {layer["name"]: layer["harms"] for layer in trade["layers"]}
    assert all(harms[layer][used] == harm for layer, found in before.items() for used, harm in found.items())


def test_what_is_under_way_when_the_time_is_up_is_thrown_away(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Trials] = []
    looks, until = count(), Trials.until

    def begin(trials: Trials, given: deadline.Deadline) -> None:
        begun.append(trials)
        until(trials, given)

    def now() -> float:  # a clock that stands still, and jumps amid the rows of the first trial
        return math.inf if begun and next(looks) > LAYERS + 10 else 0.0

    monkeypatch.setattr(Trials, "until", begin)
    monkeypatch.setattr(deadline, "monotonic", now)
    report = export(_options(made, "gpt2", tmp_path / "bundle", Goal(minutes=3)))
    found = open_bundle(report.out).manifest.quality["search"]
    assert [point["name"] for point in found["points"]] == ["fp32"]
    assert found["chosen"] == "fp32"
    assert found["unfinished"] == (
        f"3 minutes were not enough for the whole search: 0 of {LAYERS} layers had been measured alone; "
        "all int8-static was being measured and is not counted"
    )
    assert found["unfinished"] in report.table()


def test_almost_no_time_still_gives_a_verified_bundle(made: Made, tmp_path: Path) -> None:
    report = export(_options(made, "t5", tmp_path / "bundle", Goal(minutes=1e-4)))
    assert "0.0001 minutes were not enough for the whole search: no layer had been measured alone" in report.table()
    assert report.parity.within(TOLERANCES["fp32"])
    assert verify_bundle(report.out).golden > 0


def test_a_drop_that_a_writer_cannot_keep_says_the_best(made: Made, tmp_path: Path) -> None:
    given: dict[str, Any] = {"kv_cache": "int8"}  # that alone moves the answers of these weights
    options = _options(made, "gpt2", tmp_path / "bundle", Goal(max_drop=0), **given)
    with pytest.raises(
        ParityError, match=r"--max-drop 0 was not reached in 10 minutes: the best lost \d+\.\d\d points"
    ):
        export(options)
    assert not options.out.exists()
    report = export(_options(made, "gpt2", tmp_path / "bundle", Goal(max_drop=0, best_effort=True), **given))
    assert verify_bundle(report.out).golden > 0


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "good", "label": 1}] * 9, "no row has the fields text and summary"),
        ([{"text": "good", "summary": " "}] * 9, "no row has the fields text and summary"),
        ([{"text": "good", "summary": "good"}], "rows are left to evaluate on"),
        ([{"text": "good " * 900, "summary": "good"}] * 9, "every row of the evaluation file is longer"),
    ],
)
def test_rows_that_a_writer_cannot_be_measured_on_are_refused(
    made: Made, kind: str, tmp_path: Path, rows: Sequence[dict[str, Any]], message: str
) -> None:
    path = write_rows(tmp_path / "dev.jsonl", rows)
    with pytest.raises(InputError, match=message):
        export(ExportOptions(made(kind)[0], tmp_path / "bundle", precision="auto", eval_file=path))
    assert [path.name for path in tmp_path.iterdir()] == ["dev.jsonl"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "good", "label": "great"}] * 9, "9 of 9 rows have labels that the model does not have: 'great'"),
        ([{"text": "good", "label": "positive"}] * 9, "every row has the label 'positive'"),
        ([{"text": "good"}] * 9, "no row has the fields text and label"),
    ],
)
def test_rows_that_a_graph_cannot_be_measured_on_are_refused(
    made: Made, tmp_path: Path, rows: Sequence[dict[str, Any]], message: str
) -> None:
    path = write_rows(tmp_path / "dev.jsonl", rows)
    with pytest.raises(InputError, match=message):
        export(ExportOptions(made("onnx")[0], tmp_path / "bundle", precision="auto", eval_file=path))
