"""The page of a profile: what is in it, what is kept out of it, and what happens to hostile or absurd reports."""

from __future__ import annotations

import html
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgelm.cli import cli
from edgelm.reports.chinese import MOST, sentence
from edgelm.reports.html import page, write_page
from edgelm.reports.layout import size
from edgelm.reports.remarks import other_threads, tiles, what_to_do
from edgelm.reports.words import duration, headline, plain, share
from edgelm_runtime.profile.reading import parse_report, read_report
from edgelm_runtime.profile.report import Report
from edgelm_runtime.profile.summary import histogram, summarize
from tests.docs.markdown import blocks
from tests.reports.example import classifier, writer

DOCS = Path(__file__).parent.parent.parent / "docs"
HOSTILE = "<script>alert('x')</script>\"&$\\frac{1}{0}$\x00\u202e" + "长" * 10_000
PARTS = (
    "cold", "steady", "generation", "scenarios", "throughput", "memory", "energy", "operators", "ceiling",
    "advice", "trust",
)  # fmt: skip


def words(found: str) -> str:
    """What a reader sees of a page: no tags, no style, entities as characters."""
    body = found[found.index("<body>") :]
    return html.unescape(re.sub(r"<[^>]+>", " ", body))


def test_one_sentence_says_how_long_a_customer_waits() -> None:
    report = classifier()
    assert report.steady is not None
    total = summarize([2.6] * 98 + [6.1, 7.0])
    sentence = headline(replace(report, steady=replace(report.steady, total=total)))
    assert sentence.en.replace("\xa0", " ") == "A customer waits 2.60 ms; 1 in 100 waits longer than 6.10 ms."
    assert sentence.zh.replace("\xa0", " ") == "顾客等待 2.60 毫秒；每 100 次中有 1 次超过 6.10 毫秒。"


def test_few_answers_have_a_slowest_and_no_one_in_a_hundred() -> None:
    sentence = headline(writer()).en
    assert "the slowest of 64 answers" in sentence
    assert "for its first word" in sentence
    assert "100" not in sentence


def test_one_text_has_no_distribution_and_a_model_without_products_no_roofline() -> None:
    report = classifier()
    assert report.ceiling is not None
    inputs = replace(report.inputs, count=1, tokens=summarize([6.0]), lengths=histogram([6.0], 10))
    found = page(replace(report, inputs=inputs, ceiling=replace(report.ceiling, operations=0)))
    shown = words(found)
    assert "One text (the bundle's own) of 6 tokens" in shown
    assert "half of them longer" not in shown
    assert "The large dot" not in shown
    assert {'aria-label="roofline"', 'aria-label="histogram of the lengths"'} & set(
        re.findall('aria-label="[^"]*"', found)
    ) == set()


@pytest.fixture(scope="module")
def made() -> str:
    """The classifier's page."""
    return page(classifier())


def test_the_page_asks_for_nothing_and_runs_nothing(made: str) -> None:
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in made
    assert "<script" not in made
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*", made) == []
    assert "url(" not in made.replace("url(#", "")
    assert "@import" not in made


@pytest.mark.parametrize("report", [classifier(), writer()], ids=["classifier", "writer"])
def test_every_part_of_a_report_is_shown(report: Report) -> None:
    shown = words(page(report))
    assert report.trust is not None
    assert report.memory is not None
    expected = [report.trust.verdict, *report.trust.reasons, *report.trust.excluded, *report.left_out]
    expected += [report.subject.bundle, report.machine.cpu, size(report.memory.peak), "MatMulIntegerToFloat"]
    expected += [one.change for one in report.advice or ()]
    assert [text for text in expected if text not in shown] == []
    assert ("Interrupted" in shown) is not report.complete


def test_parts_that_were_not_measured_are_named_and_have_no_chart() -> None:
    found = page(replace(classifier(), **dict.fromkeys(PARTS)))
    shown = words(found)
    assert found.count("<svg") == 1  # the lengths of the texts
    for part in ("cold start", "memory", "operators", "throughput", "distance to the ceiling"):
        assert re.search(rf"{part}.{{0,40}}not measured", shown, re.DOTALL), part
    assert "ended before an answer was measured" in shown


def test_the_first_answer_comes_before_the_program_ends(made: str) -> None:
    cold = classifier().cold
    assert cold is not None
    shown = words(made)
    assert duration(cold.total.p50 - cold.stages["exit"].p50) in shown[: shown.index("How long does")]
    assert duration(cold.total.p50) not in shown[: shown.index("How long does")]


def test_engineers_come_after_what_is_to_be_done(made: str) -> None:
    heads = [html.unescape(re.sub("<[^>]+>", " ", one)) for one in re.findall("<h2>(.*?)</h2>", made)]
    order = [
        "How long does a customer", "Where does the time go", "How long does a start", "How many customers",
        "Does its memory grow", "What is to be done",
        "For engineers", "What do more texts", "How far from", "Which operators", "What was measured",
    ]  # fmt: skip
    places = [next(at for at, head in enumerate(heads) if part in head) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Most is gained by: two texts in a call are answered faster (402 → 575 texts/s)."),
        ({"trust": writer().trust}, "Measure again on a quiet machine before you decide anything."),
        ({"advice": (), "tried": ("--threads 1",)}, "Nothing that was tried was faster."),
        ({"advice": ()}, None),
    ],
)
def test_one_sentence_says_what_is_to_be_done(changes: dict[str, Any], expected: str | None) -> None:
    found = what_to_do(replace(classifier(), **changes))
    assert (found and found.en) == expected


def test_what_was_tried_is_shown() -> None:
    assert "--threads 1" in words(page(replace(classifier(), advice=(), tried=("--threads 1",))))


def test_a_load_that_was_not_measured_is_said_where_its_chart_would_be() -> None:
    report = classifier()
    assert report.scenarios is not None
    alone = replace(report.scenarios, server=None)
    reason = "scenarios: server: an answer takes 183 ms, and 4.0 s are too short for arrivals; give more --seconds"
    shown = words(page(replace(report, scenarios=alone, left_out=(reason,))))
    load = shown[shown.index("How many customers") : shown.index("Does its memory")]
    assert reason.removeprefix("scenarios: ") in load
    assert "每次回答需 183 毫秒，4.0 秒不足以模拟到达" in load
    assert "were not asked for" not in load
    assert "were not asked for" in words(page(replace(report, scenarios=alone)))
    assert reason in words(page(replace(report, scenarios=None, left_out=(reason,))))


def test_bars_are_of_the_threads_of_the_profile_and_better_ones_are_named(made: str) -> None:
    assert "texts in a call (threads: 2)" in made
    assert other_threads(classifier()) is None
    report = classifier()
    found = page(replace(report, subject=replace(report.subject, threads=1)))
    assert "(threads: 1)" not in found  # one bar is no chart
    assert re.search(r"More was done with threads: 2, 1 in a call: \d+ texts a second instead of \d+\.", found)


def test_growth_below_the_noise_was_not_seen() -> None:
    report = classifier()
    assert report.memory is not None
    shown = words(page(replace(report, memory=replace(report.memory, growth=151e3, noise=930e3))))
    assert "Growth: none seen. " in shown
    assert "151 kB ± 930 kB" in shown
    assert "Growth: 1.90 kB per 1,000 answers." in words(page(report))


@pytest.mark.parametrize(
    ("names", "chinese"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_TW"}, True),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8"}, False),
    ],
)
def test_the_language_of_who_makes_the_page_is_first(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str], chinese: bool
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert ('<html lang="zh-Hans">' in page(replace(writer(), operators=None))) is chinese


def test_every_card_says_how_good_its_number_is() -> None:
    found = {one.what.en: one for one in tiles(writer())}
    assert all(one.hint.en and one.hint.zh for one in found.values())
    assert "below 1 s" in found["half of the answers take less"].hint.en
    assert found["memory at most"].hint.en == "1.4 % of this machine's memory"
    assert found["energy an answer"].hint.en == "0.539 Wh for 1,000 answers"


def test_the_chinese_page_names_verdict_and_parts_in_chinese() -> None:
    assert "受干扰（NOISY）" in page(writer())
    assert sentence("operators: interrupted").zh == "算子：中途停止"
    note = "threads 8 are more than the 2 usable cores: they wait for each other"
    report = classifier()
    assert "线程数 8 多于可用的 2 个核心" in page(replace(report, subject=replace(report.subject, notes=(note,))))
    assert "faster here" in words(page(replace(report, subject=replace(report.subject, why="faster here"))))


def test_a_growth_that_is_not_known_is_said_with_its_reason() -> None:
    report = classifier()
    assert report.memory is not None
    reason = "its growth takes 50 answers and 1 s once buffers have settled; give more --seconds"
    found = replace(report, memory=replace(report.memory, growth=None, noise=None), left_out=(f"memory: {reason}",))
    shown = words(page(found))
    assert reason in shown[: shown.index("For engineers")]


def test_ids_occur_once(made: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', made)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:url\(|href=\")#([^\")]+)", made)) <= set(ids)


def test_a_report_from_a_file_gives_the_page_of_the_report_itself(made: str, tmp_path: Path) -> None:
    (tmp_path / "till.json").write_text(json.dumps(classifier().to_dict()), encoding="utf-8")
    [example] = blocks(DOCS / "profile.md", "python")
    subprocess.run([sys.executable, "-c", example.text], cwd=tmp_path, check=True)
    assert body(tmp_path / "till.html") == body(made)


def body(found: str | Path) -> str:
    """What does not depend on the locale of who made the page."""
    text = found if isinstance(found, str) else found.read_text(encoding="utf-8")
    return text[text.index("<header>") :]


def test_the_picture_of_the_docs_is_of_a_report_that_is_there() -> None:
    assert "A customer waits" in page(read_report(DOCS / "profile-example.json"))
    assert (DOCS / "profile.png").stat().st_size < 300_000


def test_names_and_texts_are_escaped_and_cut() -> None:
    report = parse_report(json.dumps(_edited(classifier().to_dict(), str, HOSTILE), ensure_ascii=False).encode())
    found = page(report)
    assert "<script>alert" not in found
    assert "&lt;script&gt;" in found
    assert "\x00" not in found
    assert "\u202e" not in found
    assert len(found) < 300_000


@pytest.mark.parametrize("number", [0, -1, 1, 1e-300, 1e300, 2**62])
def test_a_report_of_one_absurd_number_is_still_a_page(number: float) -> None:
    values = _edited(_edited(classifier().to_dict(), float, float(number)), int, min(int(number), 2**62))
    found = page(parse_report(json.dumps({**values, "schema": 1}).encode()))
    assert "What was measured" in found
    assert "nan" not in words(found)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(8))
def test_a_report_with_any_numbers_is_still_a_page(seed: int) -> None:
    chance = random.Random(seed)
    numbers = chance.sample([0.0, 1.0, -1.0, 3.7, 120.5, 1e-12, 1e-9, 1e9, 1e12, 1e15, 1e308, 5e-324], 5)

    def some(number: float) -> float:
        return chance.choice(numbers) if chance.random() < 0.5 else number

    values = _edited(classifier().to_dict(), float, some)
    assert "</html>" in page(parse_report(json.dumps(values).encode()))


def _edited(values: Any, kind: type, to: Any) -> Any:
    """The same tree, every leaf of a type replaced."""
    if isinstance(values, dict):
        return {name: _edited(value, kind, to) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_edited(value, kind, to) for value in values]
    if type(values) is not kind:
        return values
    return to(values) if callable(to) else to


def test_numbers_have_three_digits_and_a_unit() -> None:
    assert [duration(ms) for ms in (0.038, 2.613, 1520, 0)] == ["38.0 µs", "2.61 ms", "1.52 s", "0 ms"]
    assert [share(part) for part in (0.74, 1.0, 0.0083, 12)] == ["74 %", "100 %", "0.83 %", "1,200 %"]


def test_sentences_of_a_measurement_are_also_chinese(tiny_classifier: Path) -> None:
    done = CliRunner().invoke(cli, ["profile", str(tiny_classifier), "--seconds", "1", "--json"])
    trust = json.loads(done.stdout)["trust"]
    found = [sentence(text) for text in (*trust["excluded"], *trust["reasons"])]
    assert [one.en for one in found if one.en == one.zh] == []
    known = sentence("other programs took 38% of the 2 usable cores, during cold 70% (accepted: 10%)")
    assert sentence("the time was over with the rate between 1 and 2; nobody knows").zh.endswith("2 之间；nobody knows")
    assert known.zh == "其他程序占用了 2 个可用核心的 38%，其中测冷启动时占 70%（允许 10%）"


def test_an_unknown_sentence_stays_as_it_is_and_is_cut() -> None:
    assert sentence("nobody wrote this").zh == "nobody wrote this"
    assert len(sentence("took {} " * 1000).zh) == MOST + 1


def test_a_text_from_outside_is_one_short_line() -> None:
    assert plain("a\nb\ud800\u200f") == "a\ufffdb\ufffd\ufffd"
    assert plain("x" * 50 + "y" * 50, 30) == "x" * 20 + "…" + "y" * 10


def test_a_page_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "中文 report.html"
    write_page(classifier(), path)
    before = path.read_bytes()
    monkeypatch.setattr("edgelm.whole_file.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        write_page(writer(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_writes_the_page(tiny_classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    done = CliRunner().invoke(cli, ["profile", str(tiny_classifier), "--seconds", "1", "--html", str(path)])
    assert done.exit_code == 0, done.output
    assert "A customer waits" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["nowhere/report.html", "file/report.html", "."])
def test_a_page_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(cli, ["profile", "no-such-bundle", "--html", str(tmp_path / target)])
    assert done.exit_code == 2
    assert "name" in done.output
    assert "--html" in done.output


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc, in which nobody can write")
def test_a_read_only_folder_is_refused_before_measuring() -> None:
    done = CliRunner().invoke(cli, ["profile", "no-such-bundle", "--html", "/proc/report.html"])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_one_line_before_measuring(tmp_path: Path, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from edgelm.cli import main; main()"
    call = [sys.executable, "-c", code, "profile", "no-such-bundle", "--html", str(tmp_path / "page.html")]
    done = subprocess.run(call, capture_output=True, encoding="utf-8")
    assert done.returncode == 7
    assert done.stderr.strip() == (
        f"edgelm: error: {module} is not installed, and this needs it; install with: pip install 'edgelm[report]'"
    )
