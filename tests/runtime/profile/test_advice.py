"""Throughput by batch and threads, and advice: only what trials showed, and never a way that answers otherwise."""

from __future__ import annotations

import re
from dataclasses import replace
from time import sleep
from typing import Any

import pytest

from edgelm_runtime.device import CPU
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.profile import advice, report, throughput
from edgelm_runtime.profile.advice import Trial
from edgelm_runtime.profile.subject import Deadline, NotMeasured, Subject
from edgelm_runtime.profile.summary import summarize
from tests.runtime.profile.conftest import Make

TEXTS = ["the parcel is fast", "slow and broken", "good"]


class Sleepy:
    """A real model that sleeps before it answers one text: what does not ask it so is faster on any machine."""

    def __init__(self, model: Any, seconds: float) -> None:
        self._model = model
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, value: Any, **options: Any) -> Any:
        sleep(self._seconds)
        return self._model(value, **options)


def sleepy(subject: Subject, seconds: float = 0.02) -> Subject:
    subject.__dict__["model"] = Sleepy(subject.model, seconds)
    return subject


def advised(subject: Subject, seconds: float, cold: report.ColdStart | None = None) -> dict[str, report.Advice]:
    """Advice by what the user types, of a profile that has enough time or not."""
    try:
        found = advice.measure(subject, Deadline(seconds), cold=cold)
    except NotMeasured as short:
        found = short.found
    return {one.change: one for one in found.advice}


def test_throughput_of_all_sizes_and_threads(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "thread_counts", lambda: [1, 2])
    found = throughput.measure(classifier(TEXTS), Deadline(1.0))
    ways = [(one.threads, one.batch) for one in found]
    assert ways == [*((1, size) for size in throughput.SIZES), (2, 1), (2, 32)]
    assert all(one.texts_per_second.p50 > 0 for one in found)


def test_a_writer_gets_no_text_twice_in_a_pass(generator: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "thread_counts", lambda: [1])
    found = throughput.measure(generator(["one text", "another text", "a third text"]), Deadline(1.0))
    assert [one.batch for one in found] == [1, 2]


def test_ways_that_the_time_is_too_short_for_are_named(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "thread_counts", lambda: [1, 2])
    with pytest.raises(NotMeasured, match="1 in a call, threads 2") as short:
        throughput.measure(sleepy(classifier(TEXTS), 0.05), Deadline(0.01))
    assert [(one.threads, one.batch) for one in short.value.found] == [(1, 1)]


def test_texts_in_a_call_are_advised_where_that_is_faster(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "ways", lambda bundle: [])
    (found,) = advised(sleepy(classifier(TEXTS), 0.005), 2.0).values()
    assert found.change == "model.batch(texts)"
    assert re.fullmatch(r"\d+ texts in a call instead of one by one", found.text)
    assert found.unit == "ms a text"
    assert found.before >= 5 > found.after


def test_the_best_way_to_load_the_bundle_is_advised(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = sleepy(classifier(TEXTS), 0.01)
    variant = subject.model.engine.variant
    monkeypatch.setattr(advice, "ways", lambda bundle: [(variant, CPU, threads) for threads in (1, 2, 3)])
    found = advised(subject, 4.0)
    (change,) = found.keys() - {"model.batch(texts)"}
    assert change in ("--threads 2", "--threads 3")
    assert "instead of 1; edgelm tune" in found[change].text
    assert found[change].before >= 10 > found[change].after


def test_a_way_that_answers_otherwise_is_none(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise BundleRejected("a golden answer differs", what="golden.json")

    subject = sleepy(classifier(TEXTS), 0.005)
    variant = subject.model.engine.variant
    monkeypatch.setattr(advice, "ways", lambda bundle: [(replace(variant, name="other"), CPU, 1)])
    monkeypatch.setattr(Subject, "loaded", lambda subject, **_: subject)
    monkeypatch.setattr(advice, "replay", refused)
    assert advised(subject, 2.0).keys() == {"model.batch(texts)"}


def test_variants_and_devices_are_named_as_they_are_typed(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = classifier(TEXTS)
    own = subject.model.engine.variant
    # The same graph by another name: that loading it works is what counts here.
    other = replace(own, name="cpu-int4")
    manifest = subject.bundle.manifest
    bundle = replace(subject.bundle, manifest=replace(manifest, variants=(*manifest.variants, other)))
    subject = replace(subject, bundle=bundle)
    monkeypatch.setattr(advice, "ways", lambda bundle: [(own, CPU, 1), (other, CPU, 2)])
    (trial,) = advice._loads(subject)
    assert trial.change == "--use-variant cpu-int4 --threads 2"
    assert trial.text.startswith(f"the variant cpu-int4 instead of {own.name}, 2 threads instead of 1")
    answers: list[Any] = []
    monkeypatch.setattr(Subject, "answer", lambda asked, value: answers.append(asked.model.engine.variant.name))
    trial.prepared()(TEXTS)
    assert answers == ["cpu-int4"] * 3


def test_threads_that_do_not_spin_are_tried_where_there_are_several(
    classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "ways", lambda bundle: [])
    subject = classifier(TEXTS)
    assert list(advice._loads(subject)) == []
    (trial,) = advice._loads(subject.loaded(threads=2))
    assert trial.change == "--low-priority"
    trial.prepared()(TEXTS)
    assert list(advice._loads(subject.loaded(threads=2, low_priority=True))) == []


@pytest.mark.parametrize(
    ("other", "gained"),
    [
        ([8.0] * 8, True),
        ([8.0] * 7 + [30.0], True),  # one turn was disturbed
        ([8.0] * 6 + [30.0] * 2, False),
        ([9.6] * 8, False),  # always a little less
        ([10.0] * 8, False),
        ([12.0] * 8, False),
    ],
)
def test_a_gain_counts_where_it_is_large_and_sure(
    classifier: Make, monkeypatch: pytest.MonkeyPatch, other: list[float], gained: bool
) -> None:
    now, ms = 0.0, iter(other)

    def take(milliseconds: float) -> None:
        nonlocal now
        now += milliseconds / 1000

    monkeypatch.setattr(advice, "perf_counter", lambda: now)
    monkeypatch.setattr(Subject, "answer", lambda subject, value: take(10.0))
    trial = Trial("otherwise", "--other", lambda: lambda values: take(next(ms)), ["one"])
    found = advice._tried(classifier(TEXTS), trial, trial.prepared(), trial.values)
    assert (found is not None) == gained
    if found is not None:
        assert (found.before, found.after) == (pytest.approx(10.0), pytest.approx(8.0))


def test_too_little_time_names_what_was_not_tried(classifier: Make) -> None:
    with pytest.raises(NotMeasured, match=r"model.batch\(texts\)") as short:
        advice.measure(sleepy(classifier(TEXTS)), Deadline(0.1), cold=None)
    assert short.value.found == ((), ())


def test_a_session_that_is_most_of_the_start_is_to_be_kept(classifier: Make) -> None:
    stages = {"interpreter": summarize([30.0]), "session": summarize([800.0]), "first_answer": summarize([20.0])}
    cold = report.ColdStart(stages, summarize([850.0]))
    assert advised(classifier(TEXTS), 0.01, cold)["model = edgelm.load(...)"].before == 850.0
    (found,) = advice._keeping(cold, 0.5)
    assert "0.8 s at load" in found.text
    assert (found.before, found.after) == (850.0, 0.5)
    for session in (100.0, 0.0):
        assert list(advice._keeping(replace(cold, stages={**stages, "session": summarize([session])}), 0.5)) == []
    assert list(advice._keeping(None, 0.5)) == []


def test_writers_are_tried_with_lookup_and_with_shorter_answers(generator: Make) -> None:
    subject = generator()
    lookup, shorter = advice._writing(subject)
    assert lookup.change == f"--prompt-lookup-num-tokens {advice.LOOKUP}"
    assert shorter.change == "--max-new-tokens 8"
    assert all(result.tokens <= 8 for result in shorter.prepared()(subject.values))
    subject.model._defaults["prompt_lookup_num_tokens"] = 4
    assert next(advice._writing(subject)).change == "--prompt-lookup-num-tokens 0"
    subject.model._defaults["num_beams"] = 2
    assert "lookup" not in next(advice._writing(subject)).text


def test_an_encoder_has_nothing_to_write(classifier: Make) -> None:
    assert list(advice._writing(classifier(TEXTS))) == []


def test_what_was_tried_is_told_whatever_it_showed(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "ways", lambda bundle: [])
    monkeypatch.setattr(advice, "_tried", lambda *_: None)
    assert advice.measure(classifier(TEXTS), Deadline(4.0), cold=None) == ((), ("model.batch(texts)",))
