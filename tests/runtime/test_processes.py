"""Models in a process that is copied, that ends while threads answer, or that may have few threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime import placement, session, workers
from edgelm_runtime.errors import DeviceError
from edgelm_runtime.loader import load
from edgelm_runtime.session import SessionOptions, TooFewThreads, create_session

DATA = Path(__file__).parents[1] / "data"
MODEL = (DATA / "tiny-classifier" / "model.onnx").read_bytes()
TEXTS = ["good", "bad"] * 8

FORK = """
import os, sys
from edgelm_runtime.errors import DeviceError
from edgelm_runtime.loader import load

path, threads, low = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "low"
model = load(path, threads=threads, low_priority=low)
before = model("good").label
pid = os.fork()
if pid == 0:
    try:
        assert model("good").label == before
        print("answered")
    except DeviceError as error:
        print(error)
    again = load(path, threads=threads, low_priority=low)
    assert again("good").label == before
    model = None  # what it was loaded with must not be waited for
    sys.exit(7)
assert model("good").label == before
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

DAEMONS = """
import sys, threading, time
from edgelm_runtime.loader import load

kind, low = sys.argv[2], sys.argv[3] == "low"
model = load(sys.argv[1], task="sentiment" if kind == "classifier" else "summary", threads=2, low_priority=low)
answered = threading.Event()

def answer():
    while True:
        model("soft and warm")
        answered.set()

for _ in range(3):
    threading.Thread(target=answer, daemon=True).start()
answered.wait(60)
"""

FEW = """
import resource, sys
import edgelm_runtime.tasks.classify, edgelm_runtime.tasks.summary, edgelm_runtime.verify
from edgelm_runtime.errors import DeadlineExceeded, DeviceError
from edgelm_runtime.loader import load
from edgelm_runtime.ort import onnxruntime

onnxruntime()
classifier, generator, few = sys.argv[1], sys.argv[2], int(sys.argv[3])
# The stack of a thread takes 4 GB of addresses here (RLIMIT_STACK), so that this is a limit of threads.
stack = 1 << 32
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + few * stack + stack // 2,) * 2)

def refused(**options):
    try:
        return load(classifier, **options)("good").label
    except DeviceError as error:
        return str(error)

model = load(classifier)
print([result.label for result in model.batch(["good", "bad"] * 8)] == ["positive", "negative"] * 8)
print(refused(threads=6))
print(refused(threads=1, low_priority=True))
writer = load(generator, task="summary")
print(len(writer("soft and warm", deadline_ms=60_000).text) > 0)
try:
    writer("soft and warm", deadline_ms=1)
except DeadlineExceeded as error:
    print(error)
"""


def python(code: str, *arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", code, *map(str, arguments)]
    if before:
        call = ["bash", "-c", f'{before}; exec "$@"', "bash", *call]
    return subprocess.run(call, capture_output=True, encoding="utf-8", timeout=120)


@pytest.mark.skipif(not hasattr(session.os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("threads", "priority"), [(1, ""), (1, "low"), (3, ""), (3, "low")])
def test_a_model_in_a_copied_process_answers_or_says_why_not(
    threads: int, priority: str, tiny_classifier: Path
) -> None:
    done = python(FORK, tiny_classifier, threads, priority)
    said, code = done.stdout.splitlines()
    assert code == "7", done.stderr
    if threads == 1:
        assert said == "answered"
    else:
        assert "loaded before the process was copied (fork), and its 3 threads are not in the copy" in said
        assert "load it after the fork, or with threads=1, or start processes by spawn" in said


@pytest.mark.parametrize(("kind", "priority"), [("classifier", ""), ("classifier", "low"), ("generator", "")])
def test_daemon_threads_that_answer_do_not_disturb_the_end(
    kind: str, priority: str, tiny_classifier: Path, tiny_generator: Path
) -> None:
    done = python(DAEMONS, tiny_classifier if kind == "classifier" else tiny_generator, kind, priority)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit that is set here is Linux's")
@pytest.mark.parametrize("few", [0, 1, 2])
def test_few_threads_are_enough_or_the_limit_is_named(few: int, tiny_classifier: Path, tiny_generator: Path) -> None:
    done = python(FEW, tiny_classifier, tiny_generator, few, before="ulimit -s 4194304")
    assert done.returncode == 0, done.stderr
    batch, many, low, written, late = done.stdout.splitlines()
    assert (batch, written) == ("True", "True")
    assert "give threads=1" in many
    assert "ulimit -u" in many
    assert low == "positive" or "low_priority: a thread of lower priority cannot be started here" in low
    assert "the deadline came" in late


def test_the_default_is_one_thread_where_more_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path
) -> None:
    monkeypatch.setattr(placement, "default_threads", lambda: 4)
    monkeypatch.setattr(session, "startable", lambda count: count - 1)
    model = load(tiny_classifier)
    (note,) = model.receipt().notes
    assert note.startswith("one thread is used: 4 threads were asked for, and this process may start only 2 of the 3")
    assert (model.receipt().threads, model("good").label) == (1, "positive")
    with pytest.raises(TooFewThreads, match="4 threads were asked for"):
        load(tiny_classifier, threads=4)


@pytest.mark.parametrize("possible", [0, 1])
def test_a_batch_needs_no_threads(monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path, possible: int) -> None:
    model = load(tiny_classifier, threads=3)
    plain, seen = [model(text).label for text in TEXTS], []
    start, begun = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(begun) == possible:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert [result.label for result in model.batch(TEXTS, progress=seen.append)] == plain
    assert seen == list(range(1, len(TEXTS) + 1))


def test_an_error_in_a_batch_is_raised_and_nothing_goes_on(tiny_classifier: Path) -> None:
    model: Any = load(tiny_classifier, threads=2)
    seen: list[int] = []

    def broken(*given: object) -> None:
        seen.append(1)
        raise DeviceError("broken")

    model._answer = broken
    before = threading.active_count()
    with pytest.raises(DeviceError, match="broken"):
        model.batch(TEXTS * 20)
    assert threading.active_count() == before
    assert len(seen) <= 2  # one a thread


def test_a_thread_that_onnxruntime_cannot_start_is_no_fault_of_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: object, **options: object) -> None:
        raise RuntimeError("PosixThread pthread_create failed, error code: 11")

    monkeypatch.setattr(session.onnxruntime(), "InferenceSession", failing)
    with pytest.raises(TooFewThreads, match="a thread could not be started"):
        create_session(MODEL, SessionOptions(2))


def test_a_refused_graph_prints_nothing(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = session.onnxruntime().InferenceSession

    def failing(self: object, *given: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(inner, "_create_inference_session", failing)
    with pytest.raises(session.BundleRejected, match="no such thing"):
        create_session(MODEL, SessionOptions(1))
    assert capfd.readouterr() == ("", "")


def test_threads_that_can_be_started_are_counted() -> None:
    before = threading.active_count()
    assert workers.startable(3) == 3
    assert threading.active_count() == before
