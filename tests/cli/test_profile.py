"""``edgelm profile`` as it is typed: what it refuses before it measures, what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgelm.commands import profile as profile_command
from edgelm.commands.profile import _chosen
from edgelm.reports.layout import cells
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.machine import usable_cores
from edgelm_runtime.profile.reading import parse_report, read_report
from edgelm_runtime.profile.report import Report
from tests.cli.conftest import Invoke, Start
from tests.runtime.profile.filled import WRITTEN

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX")
MEASURED = {field.name for field in fields(Report) if field.default is None} - {"trust"}


@pytest.fixture(scope="session")
def profiled(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real report of the tiny classifier as JSON."""
    path = tmp_path_factory.mktemp("profiled") / "旧 old.json"
    command = [sys.executable, "-m", "edgelm", "profile", str(tiny_classifier), "--seconds", "1", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)
    path.write_bytes(done.stdout)
    return path


def changed(report: Path, tmp_path: Path, **parts: object) -> Path:
    """The report with other fields."""
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({**json.loads(report.read_text("utf-8")), **parts}), "utf-8")
    return path


@pytest.mark.parametrize(
    ("option", "value", "accepted"),
    [
        *(("--seconds", value, "1<=x<=3600") for value in ("0", "0.5", "-1", "nan", "inf", "1e9")),
        ("--seconds", "soon", "is not a valid float range"),
        *(("--latency-limit", value, "0<x<=3600000") for value in ("0", "nan", "inf")),
        ("--tolerance", "nan", "0<=x<=1000"),
        ("--tolerance", "-1", "0<=x<=1000"),
        ("--scenario", "multi-stream", "'single-stream', 'server', 'offline'"),
        ("--threads", "0", "x>=1"),
        ("--tolerance", "5", "only --compare OLD.json"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    invoke: Invoke, tiny_classifier: Path, option: str, value: str, accepted: str
) -> None:
    result = invoke("profile", tiny_classifier, option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert accepted in result.stderr


def test_what_contradicts_itself_is_one_too(invoke: Invoke, tiny_classifier: Path) -> None:
    for options, said in (
        ([tiny_classifier, "--json", "--prometheus"], "give one of the two"),
        ([tiny_classifier, "--any-machine"], "only --compare"),
        ([tiny_classifier, "--html", "both", "--trace", "both"], "named twice"),
        ([tiny_classifier, "--html", "texts.txt", "--input", "texts.txt"], "named twice"),
        (["sentiment", "--task", "summary"], "another one"),
        ([tiny_classifier, "--column", "text"], "has columns"),
        ([tiny_classifier, "--column", "text", "--input", "texts.txt"], "has columns"),
        ([tiny_classifier, "--scenario", "offline", "--latency-limit", 9], "only the server scenario"),
    ):
        result = invoke("profile", *options)
        assert (result.exit_code, said in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no input"),
        (b"\n  \n\n", "holds no input"),
        (b"good\n\xe9\n", "not UTF-8 at byte 5 (line 2"),
    ],
)
def test_a_file_without_usable_texts_is_refused(
    invoke: Invoke, tiny_classifier: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(content)
    result = invoke("profile", tiny_classifier, "--input", path)
    assert (result.exit_code, result.stdout) == (5, "")
    assert said in result.stderr


def test_a_folder_is_no_file_of_texts(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    result = invoke("profile", tiny_classifier, "--input", tmp_path)
    assert (result.exit_code, "is a folder; give a file" in result.stderr) == (5, True)


def test_texts_are_profiled_on_the_bundle_that_most_of_them_go_to(tiny_classifier: Path) -> None:
    tiny = open_bundle(tiny_classifier)
    english, chinese = (
        replace(tiny, path=Path(name), manifest=replace(tiny.manifest, name=name, languages=(language,)))
        for name, language in (("en-tiny", "en"), ("zh-tiny", "zh"))
    )
    chosen, values, notes = _chosen([english, chinese], "sentiment", ["good", "很好", "差"])
    assert (chosen, values) == (chinese, ["很好", "差"])
    assert len(notes) == 1
    assert notes[0].startswith("1 of 3 texts are left out: they go to en-tiny, which is for English")
    assert _chosen([english, chinese], "sentiment", ["good"]) == (english, ["good"], ())
    assert _chosen([chinese], "sentiment", ["good"]) == (chinese, ["good"], ())
    chosen, values, notes = _chosen([english, chinese], "sentiment", None)
    assert (chosen, values) == (english, None)
    assert notes == ("sentiment is profiled with en-tiny; name zh-tiny for the others",)


def test_a_line_that_is_refused_is_named(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('"good"\n{"text": 3}\n', "utf-8")
    result = invoke("profile", tiny_classifier, "--input", path)
    assert (result.exit_code, "line 2: text is a JSON number" in result.stderr) == (5, True)
    path.write_text('{"text": "good"}\n{"text": "  "}\n', "utf-8")
    result = invoke("profile", tiny_classifier, "--input", path)
    assert (result.exit_code, "texts.jsonl, input 2:" in result.stderr) == (5, True)


def test_what_is_not_there_ends_with_its_own_code(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (["no-such-bundle"], 3),
        (["classify"], 3),
        ([tmp_path], 3),
        ([tiny_classifier, "--device", "tpu"], 4),
        ([tiny_classifier, "--use-variant", "int2"], 4),
        ([tiny_classifier, "--input", tmp_path / "missing.txt"], 5),
        ([tiny_classifier, "--compare", tmp_path / "missing.json"], 5),
        ([tiny_classifier, "--compare", tmp_path], 5),
    ):
        result = invoke("profile", *arguments)
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert result.stderr.startswith("edgelm: error: ")


@pytest.mark.parametrize("option", ["--html", "--trace"])
@pytest.mark.parametrize("place", ["missing/report", "file/report", ".", "/proc/report"])
def test_a_report_that_cannot_be_written_is_refused_before_measuring(
    invoke: Invoke, tiny_classifier: Path, tmp_path: Path, option: str, place: str
) -> None:
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("this system has no /proc, in which nobody can write")
    (tmp_path / "file").write_text("no folder", "utf-8")
    began = monotonic()
    result = invoke("profile", tiny_classifier, option, tmp_path / place, "--seconds", 60)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr
    assert monotonic() - began < 10


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-40], "not valid JSON"),
        (lambda data: data.replace(b'"schema": 1', b'"schema": 2', 1), "its schema is '2', this edgelm reads 1"),
        (lambda data: b"{}", "it has no schema number"),
        (lambda data: b"", "not valid JSON"),
        (lambda data: WRITTEN, "of the task"),
    ],
)
def test_an_old_report_is_checked_before_measuring(
    invoke: Invoke, tiny_classifier: Path, profiled: Path, tmp_path: Path, spoil: object, said: str
) -> None:
    assert callable(spoil)
    path = tmp_path / "old.json"
    path.write_bytes(spoil(profiled.read_bytes()))
    began = monotonic()
    result = invoke("profile", tiny_classifier, "--compare", path, "--seconds", 60)
    assert (result.exit_code, result.stdout) == (5, "")
    assert said in result.stderr
    assert monotonic() - began < 10


def test_another_machine_is_refused_unless_any_will_do(
    invoke: Invoke, tiny_classifier: Path, profiled: Path, tmp_path: Path
) -> None:
    machine = {**json.loads(profiled.read_text("utf-8"))["machine"], "cpu": "Z80", "cores": 1}
    old = changed(profiled, tmp_path, machine=machine)
    result = invoke("profile", tiny_classifier, "--compare", old)
    assert (result.exit_code, result.stdout) == (5, "")
    assert re.search(r"another machine \(cpu: Z80, here .*--any-machine", result.stderr)
    result = invoke("profile", tiny_classifier, "--compare", old, "--any-machine", "--seconds", 1, "--tolerance", 1000)
    assert result.exit_code in (0, 8)
    assert "- the machines differ" in result.stdout


def test_a_comparison_takes_the_limit_of_the_earlier_profile(profiled: Path, tmp_path: Path) -> None:
    scenarios = json.loads(profiled.read_text("utf-8"))["scenarios"]
    server = {"limit": 123.25, "rate": 1.0, "workers": 1, "tries": [], "note": ""}
    old = changed(profiled, tmp_path, scenarios={**scenarios, "server": server})
    assert profile_command._limit_of(read_report(old)) == 123.25
    absurd = changed(profiled, tmp_path, scenarios={**scenarios, "server": {**server, "limit": -1.0}})
    assert profile_command._limit_of(read_report(absurd)) is None
    assert profile_command._limit_of(None) is None


def test_the_json_is_one_object_that_is_read_back(profiled: Path) -> None:
    report = read_report(profiled)
    assert report.to_dict() == {**json.loads(profiled.read_text("utf-8"), parse_float=float), **report.to_dict()}
    assert (report.complete, report.subject.task, report.subject.bundle) == (True, "sentiment", "tiny-classifier")
    assert report.steady is not None
    assert report.trust is not None
    missing = {name for name in MEASURED if getattr(report, name) is None}
    assert missing - {"generation"} <= {reason.partition(":")[0] for reason in report.left_out}


def test_a_slower_bundle_ends_with_8_and_the_table_says_where(
    invoke: Invoke, tiny_classifier: Path, profiled: Path, tmp_path: Path
) -> None:
    steady = json.loads(profiled.read_text("utf-8"))["steady"]
    fast = {name: value if name == "count" else value and value / 1000 for name, value in steady["total"].items()}
    old = changed(profiled, tmp_path, steady={**steady, "total": fast, "drift": 0.0})
    result = invoke("profile", tiny_classifier, "--seconds", 1, "--compare", old)
    assert result.exit_code == 8
    assert re.search(r"^\| answer, p50, ms \| .* \| \*\*worse\*\* \|$", result.stdout, re.MULTILINE)
    assert "edgelm: error: worse than" in result.stderr
    assert "answer, p50, ms" in result.stderr


def test_beside_json_the_comparison_goes_to_stderr(
    invoke: Invoke, tiny_classifier: Path, profiled: Path, tmp_path: Path
) -> None:
    slow = {"steady": None, "cold": None, "throughput": None, "scenarios": None, "memory": None}
    old = changed(profiled, tmp_path, **slow)
    result = invoke("profile", tiny_classifier, "--seconds", 1, "--compare", old, "--json")
    assert result.exit_code == 0
    assert parse_report(result.stdout.encode("utf-8")).complete
    assert "**tiny-classifier**, sentiment: nothing to compare" in result.stderr


def test_prometheus_reads_what_it_prints(invoke: Invoke, tiny_generator: Path) -> None:
    result = invoke("profile", tiny_generator, "--task", "summary", "--seconds", 1, "--prometheus")
    assert (result.exit_code, result.stderr) == (0, "")
    found = {family.name: family for family in text_string_to_metric_families(result.stdout)}
    labels = found["edgelm_answer_seconds"].samples[0].labels
    assert (labels["bundle"], labels["task"], labels["quantile"]) == ("tiny-generator", "summary", "0.5")
    assert 0 < found["edgelm_answer_seconds"].samples[0].value < 10


def test_texts_of_the_user_are_what_is_profiled(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "评论.csv"
    path.write_text("review\n很好\n差\nthe parcel is good\n", "utf-8")
    result = invoke("profile", tiny_classifier, "--seconds", 1, "--input", path, "--column", "review", "--threads", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "3 from 评论.csv" in result.stdout
    assert "threads 1" in result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_name_that_is_no_utf8_is_readable_in_the_json(start: Start, tiny_classifier: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/gut\xe9.txt"
    Path(os.fsdecode(path)).write_text("good\n", "utf-8")
    out, err = start("profile", tiny_classifier, "--seconds", 1, "--input", path, "--json").communicate(timeout=120)
    assert parse_report(out).inputs.source == "gut?.txt", err


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system does not tell the load of others")
def test_under_heavy_load_the_verdict_is_noisy_and_the_exit_0(invoke: Invoke, tiny_classifier: Path) -> None:
    with busy(2 * usable_cores()):
        result = invoke("profile", tiny_classifier, "--seconds", 1)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "tiny-classifier, sentiment: NOISY"
    assert "other programs took" in lines[1]


class Terminal:
    """A process whose stderr, or stdout too, is a pseudo-terminal of some columns, in a process group of its own."""

    def __init__(self, arguments: list[object], environment: dict[str, str], *, columns: int, stdout: bool) -> None:
        import fcntl
        import struct
        import termios

        self.screen, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-m", "edgelm", *map(str, arguments)]
        kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command, stdout=terminal if stdout else subprocess.PIPE, stderr=terminal, env=kept, start_new_session=True
        )
        os.close(terminal)
        self.shown = b""

    def until(self, *words: bytes, seconds: float = 90) -> None:
        """Read the screen until one of the words is there, or to its end where there are none."""
        end = monotonic() + seconds
        with suppress(OSError):  # how the other end of a pseudo-terminal says that it is closed
            while not any(word in self.shown for word in words):
                assert monotonic() < end, self.shown
                if select.select([self.screen], [], [], 1)[0]:
                    piece = os.read(self.screen, 4096)
                    if not piece:
                        return
                    self.shown += piece

    def close(self) -> None:
        self.until()
        os.close(self.screen)
        self.process.wait(timeout=60)


@POSIX
def test_a_terminal_of_40_columns_shows_everything_within_them(
    tiny_classifier: Path, environment: dict[str, str]
) -> None:
    terminal = Terminal(["profile", tiny_classifier, "--seconds", 1], environment, columns=40, stdout=True)
    terminal.close()
    assert terminal.process.returncode == 0
    shown = terminal.shown.decode("utf-8")
    assert "%  " in shown  # the bar
    table = shown.rpartition("\x1b[K")[2].splitlines()
    assert max(map(cells, table)) <= 40
    assert table[0].startswith("tiny-classifier, sentiment: ")
    assert {"answer, ms", "cold start, ms"} <= set(table)


def interrupted(terminal: Terminal, *, group: bool, codes: tuple[int, ...] = (130,)) -> Report | None:
    """Send SIGINT, to the whole group as a terminal does or to the process alone; the JSON that came, if any."""
    if group:
        os.killpg(terminal.process.pid, signal.SIGINT)
    else:
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.stdout is not None
    out = terminal.process.stdout.read()
    terminal.close()
    assert b"Traceback" not in terminal.shown
    assert terminal.process.returncode in codes
    return parse_report(out) if out else None


@POSIX
@pytest.mark.parametrize(
    ("during", "seconds", "group"),
    [(("steady", "scenarios"), 60, False), (("memory",), 12, True)],  # of memory another process is asked
)
def test_ctrl_c_writes_what_was_measured_so_far(
    tiny_classifier: Path,
    profiled: Path,
    environment: dict[str, str],
    tmp_path: Path,
    during: tuple[str, ...],
    seconds: int,
    group: bool,
) -> None:
    page, old = tmp_path / "page.html", tmp_path / "old.json"
    old.write_bytes(profiled.read_bytes())
    arguments: list[object] = ["profile", tiny_classifier, "--seconds", seconds, "--json", "--html", page]
    arguments += ["--compare", old, "--tolerance", 0]
    terminal = Terminal(arguments, environment, columns=80, stdout=False)
    terminal.until(*(f"  {part}".encode() for part in during))
    report = interrupted(terminal, group=group)
    assert report is not None
    assert not report.complete
    assert report.cold is not None
    assert any(reason.endswith("interrupted") for reason in report.left_out)
    assert b"edgelm: note: interrupted; this is what was measured until then" in terminal.shown
    assert b"- the new profile was interrupted" in terminal.shown
    assert page.read_text("utf-8").startswith("<!")


@POSIX
@pytest.mark.parametrize("group", [True, False])
def test_ctrl_c_before_anything_was_measured_writes_nothing(
    tiny_classifier: Path, environment: dict[str, str], *, group: bool
) -> None:
    arguments: list[object] = ["profile", tiny_classifier, "--seconds", 60, "--json"]
    terminal = Terminal(arguments, environment, columns=80, stdout=False)
    terminal.until(b"  cold")
    assert interrupted(terminal, group=group) is None
    assert b"interrupted before anything was measured; no report was written" in terminal.shown


@POSIX
def test_a_second_ctrl_c_ends_it_at_once(tiny_classifier: Path, environment: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments: list[object] = ["profile", tiny_classifier, "--seconds", 60, "--json", "--html", page]
    terminal = Terminal(arguments, environment, columns=80, stdout=False)
    terminal.until(b"  scenarios")
    terminal.process.send_signal(signal.SIGINT)
    sleep(0.3)
    began = monotonic()
    # While Python takes itself down, the signal itself ends the process: a shell calls that 130, too.
    found = interrupted(terminal, group=True, codes=(130, -signal.SIGINT))
    assert monotonic() - began < 20
    # What was written by then is whole.
    assert list(tmp_path.iterdir()) in ([], [page])
    assert not page.exists() or page.read_text("utf-8").rstrip().endswith("</html>")
    assert found is None or page.exists()


def test_a_pipe_gets_no_bar_and_may_be_closed(start: Start, tiny_classifier: Path) -> None:
    process = start("profile", tiny_classifier, "--seconds", 1)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.wait(timeout=120), process.stderr.read()) == (0, b"")
    process.stderr.close()
