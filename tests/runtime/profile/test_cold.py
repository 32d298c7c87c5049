"""Cold starts and memory: both from fresh processes."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.machine import resident_bytes
from edgelm_runtime.profile import child, cold, fresh, memory, report
from edgelm_runtime.profile.subject import Deadline, NotMeasured
from tests.runtime.profile.conftest import Make


def test_the_stages_of_a_cold_start_add_up(classifier: Make) -> None:
    found = cold.measure(classifier(), Deadline(0))
    assert tuple(found.stages) == cold.STAGES
    assert found.total.count == cold.LEAST
    assert all(stage.count == cold.LEAST and stage.p50 >= 0 for stage in found.stages.values())
    assert sum(stage.max for stage in found.stages.values()) >= found.total.max
    assert max(stage.p50 for stage in found.stages.values()) < found.total.p50


def test_more_samples_where_time_allows_but_not_without_end(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "LEAST", 1)
    monkeypatch.setattr(cold, "MOST", 2)
    assert cold.measure(classifier(), Deadline(100)).total.count == 2


def test_a_text_is_written_cold_too(generator: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "LEAST", 1)
    assert cold.measure(generator(), Deadline(0)).stages["first_answer"].p50 > 0


def test_folders_with_spaces_and_chinese_characters_and_refused_texts(
    tmp_path: Path, tiny_classifier: Path, classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_classifier, tmp_path / "我的 bundle" / "情感 分析"))
    monkeypatch.chdir(folder.parent)
    assert fresh.ask(classifier(["物流很快"], Path("情感 分析")), ["物流很快"], None).reply["stages"]
    with pytest.raises(InputError):
        fresh.ask(classifier(folder=folder), [" "], None)


def test_what_loading_refuses_there_is_refused_here(copied_classifier: Path, classifier: Make) -> None:
    subject = classifier(folder=copied_classifier)
    (copied_classifier / "model.onnx").write_bytes(b"x" * (copied_classifier / "model.onnx").stat().st_size)
    with pytest.raises(BundleRejected, match="sha256"):
        cold.measure(subject, Deadline(0))
    with pytest.raises(BundleRejected, match="sha256"):
        memory.measure(subject, Deadline(0))


def test_golden_answers_that_are_asked_for_again_are_a_stage_of_their_own(
    copied_classifier: Path, classifier: Make
) -> None:
    manifest = json.loads((copied_classifier / "edgelm.json").read_text(encoding="utf-8"))
    manifest["provenance"]["machines"] = ["a machine of another kind"]
    before = fresh.ask(classifier(folder=copied_classifier), ["good"], None).reply["stages"]
    (copied_classifier / "edgelm.json").write_text(json.dumps(manifest), encoding="utf-8")
    after = fresh.ask(classifier(folder=copied_classifier), ["good"], None).reply["stages"]
    assert before["goldens"] < after["goldens"]
    assert all(after[name] > 0 for name in ("imports", "verification", "session", "goldens", "first_answer"))


def test_pairs_of_texts_and_attributes_arrive_as_they_were() -> None:
    values = [("a text", "另一个"), {"类型": "裙", "颜色": ["白", "黑"]}, "a text"]
    assert [child._value(value) for value in json.loads(json.dumps(values))] == values


def test_without_an_interpreter_it_is_left_out(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = classifier()
    for executable in ("", "/no/such/python"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(NotMeasured, match="started"):
            cold.measure(subject, Deadline(0))


def test_a_process_that_dies_is_left_out_with_its_last_word(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_CODE", "import sys; print('no room\\nkilled', file=sys.stderr); sys.exit(9)")
    with pytest.raises(NotMeasured, match="ended with 9: killed"):
        cold.measure(classifier(), Deadline(0))


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory_is_that_of_a_process_that_only_answers(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LEAST_SECONDS", 0.05)
    held = np.ones(50_000_000)  # 400 MB of ours, which do not count
    found = memory.measure(classifier(["good", "bad"]), Deadline(0.3))
    assert held.nbytes > found.peak
    assert found.imported is not None
    assert found.loaded is not None
    assert 1_000_000 < found.imported <= found.loaded <= found.points[-1].resident <= found.peak
    assert found.growth is not None
    answers = [point.answers for point in found.points]
    assert answers == sorted(set(answers))
    assert 2 <= len(answers) <= 101
    assert found.points[-1].seconds >= 0.25


def test_growth_is_the_slope_with_its_standard_error_and_what_settles() -> None:
    points = [report.MemoryPoint(0.0, 10 * index, 1000 + 50 * index + (-1) ** index) for index in range(20)]
    growth, noise = memory._growth(points)
    answers, resident = [point.answers for point in points], [point.resident for point in points]
    (slope, _), covariance = np.polyfit(answers, resident, 1, cov=True)
    assert growth == pytest.approx(1000 * slope)
    assert noise == pytest.approx(1000 * np.hypot(np.sqrt(covariance[0, 0]), memory.SETTLING / 190))
    assert growth == pytest.approx(5000, rel=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize("seconds", [0, 0.2])
def test_a_time_too_short_for_growth_tells_the_rest(classifier: Make, seconds: float) -> None:
    with pytest.raises(NotMeasured, match=r"growth takes 50 answers and 0\.5 s") as caught:
        memory.measure(classifier(), Deadline(seconds))
    found = caught.value.found
    assert (found.growth, found.noise) == (None, None)
    assert found.peak >= found.points[-1].resident > 1_000_000


def test_a_system_without_proc_tells_the_peak_or_nothing(
    tmp_path: Path, classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "resident_bytes", partial(resident_bytes, proc=tmp_path))
    assert child.resident_bytes("VmRSS") is None
    peak = child._peak()
    assert sys.platform == "win32" or (peak is not None and peak > 1_000_000)
    told = {"imported": None, "loaded": None, "peak": 5_000_000, "points": [[0.1, 1, None], [0.2, 2, None]]}
    monkeypatch.setattr(memory, "ask", lambda *given: fresh.Fresh(told, 0.0, 1.0))
    assert memory.measure(classifier(), Deadline(1)) == report.Memory(None, None, 5_000_000, None, None, ())
    told["peak"] = None
    with pytest.raises(NotMeasured, match="does not tell"):
        memory.measure(classifier(), Deadline(1))


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (5, 1, [0])])
def test_values_are_taken_evenly(count: int, most: int, expected: list[int]) -> None:
    assert memory.evenly(range(count), most) == expected
