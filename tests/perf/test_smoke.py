"""Every measurement runs in its smallest form and ends with its JSON line; what they share is checked by itself."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from perf.__main__ import MEASUREMENTS
from perf.bench import Figure, Report, in_turns, run_process, table
from perf.reviews import MEDIAN_CHARACTERS, reviews

ROOT = Path(__file__).parent.parent.parent
FIGURES = {
    "cold_start": {"answer / median of imports", "answer, peak"},
    "throughput": {"edgelm run --input FILE --json", "model.batch(texts)"},
    "generation": set(),
    "engine": {"outside onnxruntime / a token", "tokens/s, 4 answers / one", "facts locked / plain"},
    "overhead": {"sentiment: timings / none", "description: inside model.profile() / none"},
    "export_cost": {"export", "export, peak / checkpoint"},
    "outliers": {"accuracy, int8 - torch", "perplexity, int8 / torch - 1", "distance of the function after spreading"},
    "zoo": {"same answers, all checkpoints"},
    "families": {"gpt2: largest error, float32", "gpt2: same choice, int8"},
    "search": {"sentiment: drop", "sentiment: time, auto / all int8", "sentiment: float32 / size"},
    "neighbour": {"idle model, CPU", "frame p99, beside answers at low priority"},
    "network": {"sentiment: connect", "summary: sendto", "description: all network calls"},
}


def smoke(name: str, *options: str) -> dict[str, Any]:
    """What the last line of a smoke run says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])}
    done = subprocess.run(
        [sys.executable, "-m", f"perf.{name}", "--smoke", *options], cwd=ROOT, env=environment, capture_output=True,
        encoding="utf-8", timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_runs_and_says_what_it_promises(name: str) -> None:
    if name in ("export_cost", "outliers", "search", "families", "zoo") and importlib.util.find_spec("torch") is None:
        pytest.skip("edgelm[export] is not installed")
    report = smoke(name)
    assert report["benchmark"] == name
    assert report["smoke"]
    assert report["machine"]["onnxruntime"]
    if report["skipped"]:
        pytest.skip(report["skipped"])
    assert FIGURES[name] <= {figure["name"] for figure in report["figures"]}
    assert all(figure["median"] >= 0 and figure["met"] is None for figure in report["figures"])
    if name == "network":
        assert [figure["median"] for figure in report["figures"]] == [0] * 9


def test_the_cost_of_a_large_generator_is_measured_in_small(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="edgelm[export] is not installed")
    report = smoke("export_cost", "--shape", "1.5b", "--work", str(tmp_path))
    assert FIGURES["export_cost"] <= {figure["name"] for figure in report["figures"]}
    assert list(tmp_path.iterdir()) == []


def test_every_measurement_is_in_the_list() -> None:
    named = {path.stem for path in (ROOT / "perf").glob("*.py") if "arguments(" in path.read_text(encoding="utf-8")}
    assert set(MEASUREMENTS) == named - {"bench"}
    assert set(FIGURES) == set(MEASUREMENTS)


def test_a_figure_is_held_against_its_goal() -> None:
    assert Figure("time", "s", [1.0, 3.0, 2.0], at_most=2.0).met
    assert Figure("time", "s", [1.0, 3.0, 2.0], at_most=1.9).met is False
    assert Figure("rate", "1/s", [1.0, 3.0, 2.0], at_least=2.0).met
    assert Figure("rate", "1/s", [1.0]).met is None
    assert Figure("time", "s", [1.0, 2.0, 3.0, 4.0, 5.0]).spread == (2.0, 4.0)
    assert Figure("time", "s", [7.0]).spread == (7.0, 7.0)


def test_the_report_ends_with_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("example", smoke=False, excludes="nothing", facts={"texts": 2})
    report.add(Figure("rate", "1/s", [612.0, 598.5, 605.0], at_least=500.0, ceiling=1000.0))
    report.print()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["rate", "605", "602", "..", "608", "1/s", "1,000", ">=", "500", "yes"]
    assert json.loads(lines[-1])["figures"][0]["met"] is True


def test_turns_alternate_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    results = in_turns(2, lambda: calls.append("a") or len(calls), lambda: calls.append("b") or len(calls))
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert results == [[3, 6], [4, 5]]


def test_a_process_tells_time_and_memory_or_ends_the_measurement() -> None:
    run = run_process([sys.executable, "-c", "x = b'x' * 60_000_000"])
    assert run.seconds > 0
    assert not hasattr(os, "wait4") or run.peak_bytes > 60_000_000
    with pytest.raises(SystemExit, match="exit code 3\nno such thing"):
        run_process([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_a_table_is_aligned() -> None:
    assert table([["what", "median"], ["a", "1.00"]]) == "what  median\n----  ------\na     1.00"


def test_the_reviews_are_as_long_and_as_varied_as_real_ones() -> None:
    made = reviews(4000, seed=0)
    lengths = sorted(map(len, made))
    assert abs(median(lengths) - MEDIAN_CHARACTERS) <= 1
    assert 14 <= lengths[1000] <= 20
    assert 50 <= lengths[3000] <= 64
    assert lengths[0] >= 2
    assert lengths[-1] < 450
    assert len(set(made)) > 0.9 * len(made)
    assert all(text.strip() and "\n" not in text and "{" not in text for text in made)
    assert made[:10] == reviews(10, seed=0)
    assert made[:10] != reviews(10, seed=1)
