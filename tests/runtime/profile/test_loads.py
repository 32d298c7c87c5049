"""Generation and the scenarios of a profile: what is counted, what queueing costs, and that threads end."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest

from edgelm_runtime.errors import InputError
from edgelm_runtime.profile import generation, scenarios, server
from edgelm_runtime.profile.run import ProfileOptions
from edgelm_runtime.profile.subject import Deadline, NotMeasured, Subject
from tests.runtime.profile.conftest import Make

TEXTS = ["the parcel is fast", "slow and broken", "good"]


class Slow:
    """A model of one thread that takes its time, as two tills at a time can ask it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads = 1
        self.asked: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self.asked.append(value)
        sleep(self.seconds)

    def batch(self, values: Sequence[Any]) -> list[Any]:
        return [self(value) for value in values]


def slow(make: Make, seconds: float) -> Subject:
    """A subject whose answers take so many seconds, asleep: nothing else of this machine changes that."""
    subject = make(TEXTS)
    subject.__dict__["model"] = Slow(seconds)
    return subject


def left_behind() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edgelm-profile")]


def test_a_writer_is_counted_by_token(generator: Make) -> None:
    subject = generator()
    found = generation.measure(subject, Deadline(0.3))
    assert found is not None
    results = [subject.answer(value) for value in subject.values]
    assert {result.tokens for result in results if result.tokens > 1} >= {int(found.output_tokens.p50)}
    assert found.time_to_first_token.p50 > 0
    assert found.time_per_output_token.p50 > 0
    assert found.tokens_per_second.count == found.output_tokens.count >= 1
    assert found.lookup is None  # the bundle proposes none
    assert found.prefix_hits == 0  # every prompt is new in its round, and the template is short


def test_lookup_and_known_beginnings_are_shares(generator: Make) -> None:
    subject = generator(["the same beginning of a text that is long enough to be kept: " + end for end in "abc"])
    subject.model._defaults["prompt_lookup_num_tokens"] = 4
    found = generation.measure(subject, Deadline(0.3))
    assert found is not None
    assert found.lookup is None or 0 <= found.lookup <= 1
    assert found.prefix_hits is not None
    assert 0 < found.prefix_hits < 1


def test_an_encoder_writes_nothing(classifier: Make) -> None:
    assert generation.measure(classifier(), Deadline(0.1)) is None


def test_beams_have_no_first_token(generator: Make) -> None:
    subject = generator()
    subject.model._defaults["num_beams"] = 2
    with pytest.raises(NotMeasured, match="one after the other"):
        generation.measure(subject, Deadline(0.1))


def test_all_scenarios_of_a_real_bundle(classifier: Make) -> None:
    found = scenarios.measure(classifier(), Deadline(1.0), scenarios=scenarios.NAMES, latency_limit=50.0)
    assert found.single_stream is not None
    assert found.single_stream.latency.count >= 10
    assert found.offline is not None
    assert found.offline.texts_per_second.p50 > 0
    assert found.server is not None
    assert found.server.limit == 50.0
    assert found.server.tries
    assert found.server.rate == max((one.rate for one in found.server.tries if one.kept), default=0)
    assert left_behind() == []


def test_only_what_is_asked_for_is_in_the_report(classifier: Make) -> None:
    found = scenarios.measure(classifier(), Deadline(0.5), scenarios=("server",), latency_limit=None)
    assert (found.single_stream, found.offline) == (None, None)
    assert found.server is not None
    assert found.server.limit > 0


def test_waiting_in_the_queue_counts(classifier: Make) -> None:
    # Five texts at once, one worker: the last one waits for the four before it, however late it is read.
    latencies, kept = server._serve(slow(classifier, 0.02), np.zeros(5), 1, inf)
    assert kept
    assert sorted(latencies) == latencies
    assert latencies[0] >= 20
    assert latencies[-1] >= 100


def test_latencies_are_those_of_a_queue(classifier: Make) -> None:
    # Lindley's recursion with the least that an answer takes: real ones take longer, and never come sooner.
    due = np.cumsum(np.random.default_rng(3).exponential(0.006, 60))
    latencies, _ = server._serve(slow(classifier, 0.005), due, 1, inf)
    assert len(latencies) == len(due)
    free = 0.0
    for at, ms in zip(due, latencies, strict=True):
        free = max(free, at) + 0.005
        assert ms >= 1000 * (free - at) - 1e-6


def test_arrivals_are_not_answered_before_they_are_due(classifier: Make) -> None:
    start = perf_counter()
    latencies, _ = server._serve(slow(classifier, 0.001), np.array([0.0, 0.1, 0.2]), 2, inf)
    assert perf_counter() - start >= 0.2
    assert min(latencies) >= 1


def test_the_rate_is_that_of_a_queue(classifier: Make) -> None:
    # 10 ms an answer: no worker gives more than 100 a second, and what is tried beyond that is only a little more.
    found = server.measure(slow(classifier, 0.01), Deadline(2.0), 500.0)
    assert 0 < found.rate <= 125 * found.workers
    for one in found.tries:
        assert one.kept == (one.latency.p99 <= found.limit)


def test_no_rate_keeps_a_limit_below_the_answer_itself(classifier: Make) -> None:
    found = server.measure(slow(classifier, 0.01), Deadline(1.5), 5.0)
    assert found.rate == 0
    assert not any(one.kept for one in found.tries)
    # The second late answer decides; the other workers finish theirs.
    assert all(one.latency.count <= 1 + found.workers for one in found.tries)


def test_few_arrivals_are_said(classifier: Make) -> None:
    found = server.measure(slow(classifier, 0.02), Deadline(1.0), 1000.0)
    assert re.search(r"a try of \d+ arrivals", found.note)
    (kept,) = [one for one in found.tries if one.rate == found.rate]
    assert kept.latency.count < server.ENOUGH


def test_too_little_time_for_arrivals_leaves_the_rest(classifier: Make) -> None:
    with pytest.raises(NotMeasured, match="an answer takes") as refused:
        scenarios.measure(slow(classifier, 0.1), Deadline(1.0), scenarios=scenarios.NAMES, latency_limit=None)
    assert refused.value.found.single_stream is not None
    assert refused.value.found.offline is not None
    assert refused.value.found.server is None


def test_an_error_in_a_worker_comes_out_and_ends_all(classifier: Make) -> None:
    subject = replace(classifier(TEXTS), values=["good", ""])
    with pytest.raises(InputError):
        server._serve(subject, np.zeros(10), 2, inf)
    assert left_behind() == []


def test_ctrl_c_during_the_server_ends_at_once(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(futures: object) -> Any:
        sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "as_completed", interrupted)
    start = perf_counter()
    with pytest.raises(KeyboardInterrupt):
        server._serve(slow(classifier, 0.01), np.full(4, 60.0), 2, inf)
    assert perf_counter() - start < 5
    assert left_behind() == []


def test_writers_are_never_asked_the_same_twice_in_a_call(generator: Make, classifier: Make) -> None:
    assert len(scenarios.texts(generator(["one", "two"]), 8)) == 2
    assert scenarios.texts(classifier(["good", "bad"]), 3) == ["good", "bad", "good"]


@pytest.mark.parametrize("limit", [0.0, -1.0, nan, inf])
def test_limits_that_cannot_be(limit: float) -> None:
    with pytest.raises(InputError, match="latency_limit"):
        ProfileOptions(latency_limit=limit)


@pytest.mark.parametrize("names", [(), ("multi-stream",)])
def test_scenarios_that_are_none(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="single-stream, server, offline"):
        ProfileOptions(scenarios=names)
