from __future__ import annotations

import dataclasses
import json
import time

import pytest

from edgelm_runtime import errors
from edgelm_runtime.results import Lookup, SentimentResult, TextResult
from edgelm_runtime.timing import Stopwatch

SENTIMENT = SentimentResult(
    "positive", 0.9, {"negative": 0.1, "positive": 0.9}, "zh", 5, 1, ("a note",), "tiny", {"total": 1.0}
)
TEXT = TextResult("一段", ("一段", "二段"), "stop", "zh", 4, 7, 1, (), "tiny", {"total": 2.0}, Lookup(6, 3))


@pytest.mark.parametrize("result", [SENTIMENT, TEXT])
def test_a_result_is_frozen_and_ready_for_json(result: SentimentResult | TextResult) -> None:
    plain = result.to_dict()
    assert list(plain) == [field.name for field in dataclasses.fields(result)]
    assert json.loads(json.dumps(plain)) == plain
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.bundle = "other"  # type: ignore[misc]


def test_a_stopwatch_adds_stages_up() -> None:
    watch = Stopwatch({"tokenize": 100.0})
    for _ in range(2):
        with watch("infer"):
            time.sleep(0.001)
    with pytest.raises(ZeroDivisionError), watch("decode"):
        raise ZeroDivisionError
    watch.add("decode", 0.25)
    timings = watch.timings()
    assert timings["decode"] >= 0.25
    assert list(timings) == ["tokenize", "infer", "decode", "total"]
    assert timings["infer"] >= 2.0
    assert timings["total"] >= timings["tokenize"] + timings["infer"]
    assert watch.elapsed() >= timings["total"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.EdgeLMError, 1),
        (errors.BundleNotFound, 3),
        (errors.BundleRejected, 3),
        (errors.DeviceError, 4),
        (errors.InputError, 5),
        (errors.DeadlineExceeded, 6),
        (errors.Cancelled, 6),
        (errors.UnsupportedCheckpoint, 7),
        (errors.ParityError, 7),
        (errors.MissingExtra, 7),
    ],
)
def test_every_error_has_its_exit_code_and_message(kind: type[errors.EdgeLMError], code: int) -> None:
    error = kind("what went wrong")
    assert error.exit_code == code
    assert str(error) == "what went wrong"
    assert isinstance(error, errors.EdgeLMError)


def test_a_refusal_carries_both_sides() -> None:
    error = errors.BundleRejected("m", what="model.onnx", expected="3 bytes", found="4 bytes")
    assert (error.what, error.expected, error.found) == ("model.onnx", "3 bytes", "4 bytes")
