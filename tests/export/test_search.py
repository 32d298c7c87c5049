"""The search: what it measures, what it chooses, what it writes, and what it refuses."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelm_export import verify
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.search import Goal, check_goal
from edgelm_export.search.choose import Budget, choose
from edgelm_export.search.layers import LINEAR, Cost, Layer
from edgelm_export.search.memory import Memory
from edgelm_export.search.report import pareto
from edgelm_export.search.sensitivity import decisions_kept
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import InputError, ParityError
from edgelm_runtime.verify import verify_bundle
from perf.toy import train
from tests.export.rows import write_rows

NUMBERS = st.floats(0.01, 10)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A classifier that was trained for seconds, and fresh rows."""
    return train("sentiment", tmp_path_factory.mktemp("toy"))


def test_a_search_writes_a_verified_bundle_and_says_why(toy: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, rows = toy
    goal = Goal(max_drop=0.5, report=tmp_path / "report")
    report = export(ExportOptions(checkpoint, tmp_path / "bundle", precision="auto", eval_file=rows, goal=goal))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "report"]
    quality = open_bundle(tmp_path / "bundle").manifest.quality
    found = quality["search"]
    points = {point["name"]: point for point in found["points"]}
    assert {"fp32", "all int8-mixed", "all fastest"} <= set(points)
    chosen = points[found["chosen"]]
    assert chosen["drop"] <= 0.5
    assert chosen["bytes"] < 0.6 * points["fp32"]["bytes"]
    assert found["metric"] == "accuracy"
    assert 60 < found["rows"] < 120  # a fifth found the harm
    named = [layer for layers in found["layers"].values() for layer in layers]
    assert len(named) == len(set(named)) >= 8
    assert {"bert.embeddings.word_embeddings", "classifier"} <= set(named)
    assert "(chosen)" in report.table()
    assert "moves answers by" in report.table()
    assert verify_bundle(tmp_path / "bundle").golden > 0
    written = json.loads((tmp_path / "report" / "trade.json").read_text("utf-8"))
    assert written["chosen"] == found["chosen"]
    assert all(layer["costs"]["fp32"]["ms"] > 0 for layer in written["layers"])
    assert (tmp_path / "report" / "trade.png").read_bytes().startswith(b"\x89PNG")


def test_an_ended_search_goes_on_and_limits_are_kept(
    toy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, rows = toy
    memory = tmp_path / ".bundle.search.json"
    goal = Goal(latency_limit=1e-6)
    options = ExportOptions(checkpoint, tmp_path / "bundle", precision="auto", eval_file=rows, goal=goal)
    with pytest.raises(ParityError, match=r"--latency-limit 1e-06 was not reached.*smallest has 0\.\d.*fastest takes"):
        export(options)
    assert [path.name for path in tmp_path.iterdir()] == [memory.name]
    harms = json.loads(memory.read_text("utf-8"))["harms"]
    assert all(set(found) >= {"int8-blocks"} for found in harms.values())  # all schemes, where harm is what counts
    monkeypatch.setattr("edgelm_export.search.sensitivity._distance", None)  # nothing is measured a second time
    monkeypatch.setattr("edgelm_export.search.run._layers", None)
    whole = sum(path.stat().st_size for path in checkpoint.iterdir())
    limit = 0.5 * whole / 1e6
    report = export(
        ExportOptions(checkpoint, options.out, precision="auto", eval_file=rows, goal=Goal(size_limit=limit))
    )
    assert report.bundle_bytes < 1e6 * limit
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_drop_that_is_not_met_says_the_best_and_writes_it_only_if_told(
    toy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, rows = toy
    monkeypatch.setattr("edgelm_export.search.run.Point.answers", False)
    options = ExportOptions(checkpoint, tmp_path / "bundle", precision="auto", eval_file=rows, goal=Goal(minutes=0.001))
    with pytest.raises(ParityError, match=r"--max-drop 0.3 was not reached in 0.001 minutes: the best lost -?\d"):
        export(options)
    assert not options.out.exists()
    goal = Goal(minutes=0.001, best_effort=True)
    export(ExportOptions(checkpoint, options.out, precision="auto", eval_file=rows, goal=goal))
    assert verify_bundle(options.out).golden > 0


@pytest.mark.parametrize(
    ("goal", "precision", "rows", "message"),
    [
        (Goal(), "auto", None, "--precision auto needs --eval FILE"),
        (Goal(max_drop=-0.1), "auto", "dev.jsonl", "--max-drop -0.1: accepted is a number above 0, or 0"),
        (Goal(max_drop=math.nan), "auto", "dev.jsonl", "--max-drop nan"),
        (Goal(minutes=0), "auto", "dev.jsonl", "--search-minutes 0"),
        (Goal(size_limit=-1), "auto", "dev.jsonl", "--size-limit -1"),
        (Goal(latency_limit=math.inf), "auto", "dev.jsonl", "--latency-limit inf"),
        (Goal(max_drop=1, size_limit=5), "auto", "dev.jsonl", "--max-drop contradicts --size-limit"),
        (Goal(max_drop=1), "int8", "dev.jsonl", "are for --precision auto, not for int8"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(goal: Goal, precision: str, rows: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_goal(goal, precision, None if rows is None else Path(rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "good", "label": "great"}] * 9, "great"),
        ([{"text": "good", "label": 1}] * 9, "every row has the label"),
        ([{"text": "good"}] * 9, "no row has the fields"),
        ([{"text": "good", "label": 1}, {"text": "bad", "label": 0}], "rows are left to evaluate on"),
    ],
)
def test_rows_that_say_nothing_are_refused(
    toy: tuple[Path, Path], tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    path = write_rows(tmp_path / "dev.jsonl", rows)
    with pytest.raises(InputError, match=message):
        export(ExportOptions(toy[0], tmp_path / "bundle", precision="auto", eval_file=path))


@given(
    st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3), min_size=1, max_size=4), st.floats(0, 20)
)
@settings(max_examples=40, deadline=None)
def test_the_choice_is_the_best_of_all(costs: list[list[tuple[float, float]]], limit: float) -> None:
    layers = [
        Layer(f"l{i}", LINEAR, (1,), {f"s{j}": Cost(1, ms) for j, (ms, _) in enumerate(options)})
        for i, options in enumerate(costs)
    ]
    harms = {f"l{i}": {f"s{j}": harm for j, (_, harm) in enumerate(options)} for i, options in enumerate(costs)}
    every = [(sum(ms for ms, _ in parts), sum(harm for _, harm in parts)) for parts in product(*costs)]
    kept = [ms for ms, harm in every if harm <= limit]
    chosen = choose(layers, harms, Budget(harm=limit))
    if not kept:
        assert chosen is None or sum(harms[name][used] for name, used in chosen.items()) <= limit * (1 + 1e-5) + 1e-6
        return
    assert chosen is not None
    assert sum(layer.costs[chosen[layer.name]].ms for layer in layers) <= min(kept) * (1 + 1e-4) + 1e-6
    least = choose(layers, harms, Budget())
    assert least is not None
    assert sum(harms[name][used] for name, used in least.items()) == pytest.approx(
        min(harm for _, harm in every), rel=1e-4
    )


def test_a_distance_turns_only_what_is_no_further_apart() -> None:
    likely = [(0.9, 0.1), (0.6, 0.4), (0.51, 0.49), (1.0, 0.0)]
    cases = [verify.Case("sentiment", "", [], np.log(np.array(row) + 1e-12).astype(np.float32)) for row in likely]
    assert decisions_kept(cases, 0) == 0
    assert decisions_kept(cases, 100) == pytest.approx(0.5, abs=1e-6)
    assert decisions_kept(cases, 100 / 3) == pytest.approx(0.1, abs=1e-6)


def test_a_memory_of_something_else_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    memory = Memory(path, "a", [Layer("l", LINEAR, (2, 3), {"fp32": Cost(5, 0.5)})])
    memory.note("l", "int8", 0.25)
    assert Memory.opened(path, "a") == memory
    assert Memory.opened(path, "b").layers == []
    path.write_text(path.read_text("utf-8")[:40], "utf-8")
    assert Memory.opened(path, "a").harms == {}


def test_the_front_has_what_nothing_beats() -> None:
    class Seen:
        def __init__(self, name: str, size: int, ms: float, drop: float) -> None:
            self.name, self.bytes, self.ms, self.drop = name, size, ms, drop

    points: Any = [Seen("a", 1, 1, 1), Seen("b", 2, 2, 0), Seen("c", 2, 2, 2), Seen("d", 1, 1, 1)]
    assert pareto(points) == {"a", "b", "d"}
