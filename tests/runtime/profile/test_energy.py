"""Energy counters, in a folder like the one that Linux keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelm_runtime.profile import energy
from edgelm_runtime.profile.subject import Deadline, NotMeasured
from tests.runtime.profile.conftest import Make


def domain(folder: Path, number: str, name: str, counter: str, most: int = 1_000_000_000) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True, exist_ok=True)
    for file, text in (("name", name), ("energy_uj", counter), ("max_energy_range_uj", str(most))):
        (path / file).write_text(f"{text}\n", encoding="utf-8")
    return path


def test_packages_count_and_their_parts_do_not(tmp_path: Path) -> None:
    domain(tmp_path, "0", "package-0", "1000000")
    domain(tmp_path, "1", "package-1", "999000000")
    domain(tmp_path, "0:0", "core", "5")
    (tmp_path / "intel-rapl").mkdir()
    before = energy.counters(tmp_path)
    domain(tmp_path, "0", "package-0", "3000000")
    domain(tmp_path, "1", "package-1", "500000")
    after = energy.counters(tmp_path)
    assert len(after.microjoules) == 2
    assert after.since(before) == pytest.approx(2.0 + 1.5)  # the second began again at its range


def test_joules_an_answer_are_what_the_counter_went_up_by(
    tmp_path: Path, classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain(tmp_path, "0", "package-0", "0")
    subject = classifier(["good", "bad"])
    answer, answers = type(subject).answer, []

    def and_count(self: object, value: str) -> object:
        answers.append(value)
        domain(tmp_path, "0", "package-0", str(4000 * len(answers)))
        return answer(self, value)  # type: ignore[arg-type]

    monkeypatch.setattr(type(subject), "answer", and_count)
    monkeypatch.setattr(energy, "LEAST_SECONDS", 0.05)
    found = energy.measure(subject, Deadline(0), tmp_path)
    assert found.joules_per_answer == pytest.approx(0.004)
    assert found.source == "RAPL intel-rapl:0"
    assert found.idle_watts == 0.0
    assert 0 < found.watts <= 0.004 * len(answers) / 0.05
    assert answers[:2] == ["good", "bad"]


@pytest.mark.parametrize(
    ("name", "counter", "reason"),
    [("psys", "5", "no energy counter"), ("package-0", "", "root alone"), ("package-0", "-1", "root alone")],
)
def test_what_is_not_there_or_hidden_is_left_out(
    tmp_path: Path, classifier: Make, name: str, counter: str, reason: str
) -> None:
    domain(tmp_path, "0", name, counter)
    with pytest.raises(NotMeasured, match=reason):
        energy.measure(classifier(), Deadline(0), tmp_path)
    with pytest.raises(NotMeasured, match="no energy counter"):
        energy.counters(tmp_path / "nowhere")
