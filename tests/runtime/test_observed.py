"""Who watches a model: all answers are seen, nothing grows, and a profile holds those of its block."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgelm
from edgelm_runtime.profile.summary import summarize
from edgelm_runtime.tasks import observed
from edgelm_runtime.tasks.observed import WINDOW, Answers

DATA = Path(__file__).parent.parent / "data"
TEXT = "soft and warm, a good buy"


def answer(total: float) -> Any:
    return SimpleNamespace(timings={"total": total})


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=3000))
def test_the_last_answers_are_counted_as_a_profile_counts_them(totals: list[float]) -> None:
    answers = Answers()
    assert answers.latency() is None
    for total in totals:
        answers.seen(answer(total))
    found, slow = answers.latency(), summarize(totals[-WINDOW:])
    assert found is not None
    assert (found.count, found.p50, found.p99) == (len(totals), slow.p50, slow.p99)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "MOST", 5)
    answers, profile = Answers(), observed.Profile()
    answers.observe(profile.add)
    for total in range(10 * WINDOW):
        answers.seen(answer(total))
    assert len(answers._last) == WINDOW
    assert len(profile) == 5
    assert profile.stages()["total"].max == 10 * WINDOW - 1


def test_a_profile_has_the_answers_of_its_block_from_every_thread() -> None:
    model = edgelm.load(DATA / "tiny-classifier", task="sentiment")
    model(TEXT)
    with model.profile() as outer:
        with model.profile() as inner, ThreadPoolExecutor(4) as pool:
            list(pool.map(model, [TEXT] * 40))
        model.batch([TEXT] * 10)
    model(TEXT)
    assert (len(inner), len(outer)) == (40, 50)
    assert model.latency().count == 52
    assert list(inner.stages()) == ["tokenize", "infer", "decode", "total"]
    assert all(found.count == 40 for found in inner.stages().values())
    lines = inner.table().splitlines()
    assert lines[0].split() == ["ms", "p50", "p90", "p99", "max", "answers"]
    assert lines[-1].split()[0] == "total"
    assert observed.Profile().table().count("\n") == 0


def test_an_observer_that_raises_is_heard_and_can_be_removed() -> None:
    model = edgelm.load(DATA / "tiny-classifier", task="sentiment")

    def refuse(result: Any) -> None:
        raise RuntimeError(result.bundle)

    end = model.observe(refuse)
    with pytest.raises(RuntimeError, match="tiny-classifier"):
        model(TEXT)
    end()
    assert model(TEXT).bundle == "tiny-classifier"


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"temperature": 0.8, "seed": 1}, {"stop": ["zzz"]}])
def test_the_stages_of_a_text_are_two_cuts_of_the_same_time(options: dict[str, Any]) -> None:
    model = edgelm.load(DATA / "tiny-generator", task="summary")
    timings = model(TEXT, max_new_tokens=12, min_new_tokens=4, **options).timings
    written = timings.get("prefill", 0.0) + timings["decode"]
    assert timings["infer"] > 0
    assert timings["infer"] + timings["sample"] + timings["detokenize"] == pytest.approx(written)
    assert timings["tokenize"] + written <= timings["total"]


def test_answers_in_step_have_the_groups_time() -> None:
    model = edgelm.load(DATA / "tiny-generator", task="summary")
    with model.profile() as profile:
        results = model.batch([TEXT, TEXT + "!", TEXT + "?"], max_new_tokens=12, ignore_eos=True)
    assert len(profile) == len(results) == 3
    assert len({result.timings["infer"] for result in results}) == 1
    for result in results:
        parts = sum(result.timings[name] for name in ("infer", "sample", "detokenize"))
        assert parts == pytest.approx(result.timings["decode"])


def test_routed_models_are_watched_together() -> None:
    model = edgelm.load("sentiment")
    with model.profile() as profile:
        model("物流很快，质量也好")
        model("arrived quickly, works well")
        model.batch(["很好", "good"])
    assert len(profile) == model.latency().count == 4
    assert model.for_language("en").latency().count == 4
