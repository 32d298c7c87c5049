"""Deadlines and cancelling: an answer ends from outside, with whole sentences or an error that says so."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import Cancelled, DeadlineExceeded, InputError
from edgelm_runtime.generate.control import Control, Interrupted
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.generate.runs import Runs
from edgelm_runtime.guarded import GuardedTokenizer
from edgelm_runtime.loader import load
from edgelm_runtime.session import SessionOptions, create_session

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"
TEXT = "The sweater is soft and warm. It fits true to size. The colour is just as in the picture."


@pytest.fixture(scope="module")
def model() -> GeneratorSession:
    session = create_session(open_bundle(BUNDLE).read("model.onnx"), SessionOptions(1))
    return GeneratorSession(session, max_tokens=96, eos_ids=())


@pytest.fixture(scope="module")
def writer() -> Any:
    return load("summary")


def test_the_first_call_decides_and_a_deadline_can_be_let_go() -> None:
    control = Control()
    control.check()
    control.cancel()
    control._call("deadline")
    assert control.reason == "cancelled"
    with pytest.raises(Interrupted):
        control.check()
    late = Control(60_000)
    late.close()
    assert late.reason == ""


def test_a_request_that_is_refused_leaves_no_clock_behind(writer: Any) -> None:
    before = threading.active_count()
    for text in ("", " \n"):
        with pytest.raises(InputError):
            writer(text, deadline_ms=60_000)
    with pytest.raises(InputError):
        writer(TEXT, deadline_ms=60_000, must_include=["the worst"], banned=["worst"])
    assert threading.active_count() == before


def test_cancelled_before_the_first_token(model: GeneratorSession) -> None:
    stream = model.stream([9, 10], GenerationOptions())
    stream.cancel()
    with pytest.raises(Cancelled, match="was cancelled"):
        next(stream)
    assert list(stream) == []


def test_cancelled_from_another_thread_between_tokens(model: GeneratorSession) -> None:
    stream = model.stream([9, 10], GenerationOptions(max_new_tokens=50))
    tokens = [next(stream), next(stream)]
    thread = threading.Thread(target=stream.cancel)
    thread.start()
    thread.join()
    with pytest.raises(Cancelled):
        tokens += list(stream)
    assert len(tokens) == 2


@pytest.mark.parametrize("level", ["tokens", "text"])
def test_closed_while_another_thread_reads(model: GeneratorSession, writer: Any, level: str) -> None:
    """The thread that reads gets a Cancelled, and the one that closes no error."""
    reading, closed = threading.Event(), threading.Event()
    run = Runs.read

    def slow(runs: Runs, *given: Any) -> Any:
        reading.set()
        closed.wait(60)
        return run(runs, *given)

    ended: list[BaseException] = []

    def read(stream: Any) -> None:
        try:
            list(stream)
        except Cancelled as error:
            ended.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runs, "read", slow)
        made = model.stream([9, 10], GenerationOptions()) if level == "tokens" else writer.stream(TEXT)
        thread = threading.Thread(target=read, args=(made,))
        thread.start()
        assert reading.wait(60)
        if level == "text":
            with pytest.raises(InputError, match="two threads read one stream"):
                next(made)
        made.close()
        closed.set()
        thread.join(60)
    assert not thread.is_alive()
    assert len(ended) == 1


def test_a_deadline_ends_the_tokens_and_says_so(model: GeneratorSession) -> None:
    control = Control(60_000)
    stream = model.stream([9, 10], GenerationOptions(max_new_tokens=50), control=control)
    tokens = [next(stream) for _ in range(5)]
    control._call("deadline")  # what the timer does
    assert list(stream) == []
    assert (len(tokens), stream.finish_reason) == (5, "deadline")


def test_a_run_that_is_under_way_is_stopped(writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of onnxruntime: without the interruption the first token would come, however late."""
    control = Control()
    read = Runs.read

    def read_and_be_interrupted(self: Runs, *arguments: Any, **named: Any) -> Any:
        threading.Timer(0.001, control.cancel).start()
        return read(self, *arguments, **named)

    monkeypatch.setattr(Runs, "read", read_and_be_interrupted)
    prompt = [100 + number % 300 for number in range(380)]
    monkeypatch.setattr("edgelm_runtime.generate.loop.PREFILL_CHUNK", 500)
    with pytest.raises(Cancelled):
        list(writer.generator.stream(prompt, GenerationOptions(max_new_tokens=1), control=control))


def test_a_deadline_shorter_than_the_prompt_takes(writer: Any) -> None:
    with pytest.raises(DeadlineExceeded, match="the deadline came"):
        writer(TEXT * 4, deadline_ms=1)


def test_a_deadline_that_is_far_changes_nothing(writer: Any) -> None:
    plain, timed = writer(TEXT), writer(TEXT, deadline_ms=60_000)
    assert (timed.text, timed.finish_reason) == (plain.text, plain.finish_reason)
    assert "".join(writer.stream(TEXT, deadline_ms=60_000)) == plain.text


@pytest.fixture
def describe() -> Any:
    return load("description")


ATTRIBUTES = "类型: 裙; 颜色: 白色; 材质: 棉; 风格: 简约; 图案: 条纹"


def called_after(describe: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the deadline come after so many tokens."""
    take, count = describe.generator.stream, 0

    def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        stream, control = take(*arguments, **named), arguments[-1]
        following = stream._tokens

        def tokens() -> Any:
            nonlocal count
            for token in following:
                yield token
                count += 1
                if count == most:
                    control._call("deadline")

        stream._tokens = tokens()
        return stream

    monkeypatch.setattr(describe.generator, "stream", slow)


def test_what_is_there_at_the_deadline_is_cut_at_a_sentence(describe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = describe(ATTRIBUTES)
    ends = [index for index, character in enumerate(plain.text) if character in "。！"]
    assert len(ends) > 1 or len(plain.text) > ends[0] + 1
    called_after(describe, 3 * plain.tokens // 4, monkeypatch)
    cut = describe(ATTRIBUTES, deadline_ms=60_000)
    assert cut.finish_reason == "deadline"
    assert 0 < len(cut.text) < len(plain.text)
    assert plain.text.startswith(cut.text)
    assert cut.text[-1] in "。！？"


def test_a_thousand_answers_leave_no_threads_behind(model: GeneratorSession) -> None:
    for _ in range(200):
        control = Control(60_000)
        list(model.stream([9], GenerationOptions(max_new_tokens=2), control=control))
        control.close()
    time.sleep(0.05)
    assert threading.active_count() < 20


def test_without_a_clock_thread_the_deadline_is_seen_between_two_runs(
    model: GeneratorSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    control = Control(60_000)
    stream = model.stream([9, 10], GenerationOptions(max_new_tokens=50), control=control)
    assert isinstance(next(stream), int)
    control._end = 0.0
    assert list(stream) == []
    assert stream.finish_reason == "deadline"


def test_what_must_be_included_is_kept_or_the_answer_is_not_given(
    describe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = describe(ATTRIBUTES)
    early = plain.text[:4]
    called_after(describe, 3 * plain.tokens // 4, monkeypatch)
    assert describe(ATTRIBUTES, deadline_ms=60_000, must_include=[early]).finish_reason == "deadline"
    monkeypatch.undo()
    called_after(describe, 3 * plain.tokens // 4, monkeypatch)
    with pytest.raises(DeadlineExceeded, match="before 新品到店 was written, which the answer must include"):
        describe(ATTRIBUTES, deadline_ms=60_000, must_include=["新品到店"])
    monkeypatch.undo()
    called_after(describe, 3 * plain.tokens // 4, monkeypatch)
    (result,) = describe.try_batch([ATTRIBUTES], deadline_ms=60_000, must_include=["新品到店"])
    assert isinstance(result, DeadlineExceeded)


class Clock:
    """Goes on by a tenth of a second each time it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


LONG = {
    "summary": ["The sweater is soft. " * 90_000, "a" * 1_900_000, "好看的衣服很柔软。" * 200_000],
    "description": ["类型#裙*描述#" + "soft and warm " * 120_000, {"描述": "好看的衣服很柔软" * 200_000}],
}


@pytest.mark.parametrize(("task", "value"), [(task, value) for task, values in LONG.items() for value in values])
def test_reading_counts_too(task: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = load(task), list[int]()
    encode = GuardedTokenizer.encode

    def noted(tokenizer: GuardedTokenizer, text: str, *given: Any, **named: Any) -> Any:
        read.append(len(text))
        return encode(tokenizer, text, *given, **named)

    monkeypatch.setattr(GuardedTokenizer, "encode", noted)
    monkeypatch.setattr("edgelm_runtime.generate.control.perf_counter", Clock())
    with pytest.raises(
        (DeadlineExceeded, InputError), match=r"the deadline came while the input was read|more than 383"
    ):
        model(value, deadline_ms=450)
    assert sum(read) < 100_000


def test_a_description_that_cannot_fit_is_refused_before_all_of_it_is_read(
    describe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"the prompt has more than 383 tokens, accepted: at most 383 .*shorten"):
        describe({"描述": "好看的衣服很柔软" * 200_000})
    with pytest.raises(InputError, match="more than 200 attributes given, accepted: at most 200"):
        describe("*".join(f"特点{number}#好" for number in range(100_000)))


def test_what_is_prepared_is_waited_for_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait(60)
        done.set()
        return "made"

    control = Control(50)
    with pytest.raises(DeadlineExceeded, match="while the input was read"):
        control.waited_for(work)
    assert begun.is_set()
    assert not done.is_set()
    go_on.set()
    assert done.wait(60)
    assert Control(60_000).waited_for(work) == "made"
    assert Control().waited_for(work) == "made"
    with pytest.raises(InputError, match="refused"):
        Control(60_000).waited_for(refuse)


def refuse() -> None:
    raise InputError("refused")
