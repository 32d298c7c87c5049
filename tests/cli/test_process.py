"""The command as a process: interrupts, closed pipes, odd locales, missing extras."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Start


def test_an_interrupt_ends_with_130_and_no_traceback(start: Start, tiny_classifier: Path) -> None:
    process = start("run", "sentiment", "--bundle", tiny_classifier)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"good\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith(b"positive")  # it is at work, and waits for the next line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, b"Traceback" in err) == (130, False)


def begun(start: Start, bundle: Path, source: Path, target: Path) -> subprocess.Popen[bytes]:
    """A run that has written some answers and is at work on the others."""
    source.write_text("good\n" * 200_000, "utf-8")
    process = start("run", "sentiment", "--bundle", bundle, "--input", source, "--output", target)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in target.parent.glob(".out.csv.*.tmp")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_keeps_the_answers_and_says_where(start: Start, tiny_classifier: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    target.write_text("earlier", "utf-8")
    process = begun(start, tiny_classifier, source, target)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    partial = tmp_path / "out.partial.csv"
    assert (process.returncode, b"Traceback" in err) == (130, False)
    assert f"note: interrupted; the answers until then are in {partial}" in err.decode()
    assert target.read_text("utf-8") == "earlier"
    header, *rows = partial.read_text("utf-8").splitlines()
    assert (header, 0 < len(rows) < 200_000) == ("line,input,label,score", True)
    assert {*tmp_path.iterdir()} == {source, target, partial}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_no_file(
    start: Start, tiny_classifier: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = begun(start, tiny_classifier, tmp_path / "in.txt", tmp_path / "out.csv")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-number, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_a_kill_leaves_is_removed_by_the_next_run(start: Start, tiny_classifier: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    process = begun(start, tiny_classifier, source, target)
    process.kill()
    process.communicate(timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    source.write_text("good\n", "utf-8")
    start("run", "sentiment", "--bundle", tiny_classifier, "--input", source, "--output", target).communicate(
        timeout=60
    )
    assert {*tmp_path.iterdir()} == {source, target}


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("closed", "given", "code", "message"),
    [
        (
            ">&-",
            "good",
            1,
            "Error: stdout is closed; give it a file or a pipe, or write to a file with --output\n",
        ),
        (">&-", "good --output out.txt", 0, ""),
        (">&- <&- ", "good --output out.txt", 0, ""),
        ("<&-", "", 2, "no input"),
        ("2>&-", "good", 0, ""),
        ("2>&-", "''", 5, ""),
        (">&-", "--stream", 2, "generates no text"),
    ],
)
def test_closed_streams(
    environment: dict[str, str], tiny_classifier: Path, tmp_path: Path, closed: str, given: str, code: int, message: str
) -> None:
    command = f"{sys.executable} -m edgelm run sentiment --bundle {tiny_classifier} {given} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    if "out.txt" in given:
        assert (tmp_path / "out.txt").read_text("utf-8").startswith("positive")


def test_a_closed_pipe_ends_quietly(start: Start, tiny_classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("good\n" * 20_000, "utf-8")
    process = start("run", "sentiment", "--bundle", tiny_classifier, "--input", path, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_a_slow_writer_is_answered_line_by_line(start: Start, tiny_classifier: Path) -> None:
    process = start("run", "sentiment", "--bundle", tiny_classifier)
    assert process.stdin is not None
    assert process.stdout is not None
    for text, label in ((b"good\n", b"positive"), ("差\n".encode(), b"negative")):
        process.stdin.write(text)
        process.stdin.flush()
        assert process.stdout.readline().split()[0] == label
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX")
def test_a_terminal_shows_a_progress_bar(tiny_classifier: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "many.txt"
    path.write_text("good\n" * 2000, "utf-8")
    command = [sys.executable, "-m", "edgelm", "run", "sentiment", "--bundle", tiny_classifier, "--input", path]
    screen, terminal = os.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how the other end of a pseudo-terminal says that it is closed
            while piece := os.read(screen, 4096):
                shown += piece
        assert process.stdout is not None
        assert process.stdout.read().count(b"positive") == 2000
    os.close(screen)
    assert (process.returncode, b"100%" in shown) == (0, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(tiny_classifier: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "edgelm", "run", "sentiment", "good", "--bundle", str(tiny_classifier)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, encoding="utf-8", env=environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX closes it")
@pytest.mark.parametrize("command", ["run sentiment good", "run sentiment good --json", "inspect sentiment", "--help"])
def test_a_stdout_that_is_closed_is_one_line(command: str, environment: dict[str, str]) -> None:
    call = f'exec "{sys.executable}" -m edgelm {command} >&-'
    done = subprocess.run(["bash", "-c", call], env=environment, capture_output=True, encoding="utf-8", timeout=60)
    expected = "Error: stdout is closed; give it a file or a pipe, or write to a file with --output\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX closes it")
def test_without_stdout_and_stderr_a_file_is_written(environment: dict[str, str], tmp_path: Path) -> None:
    """As from cron, or from a program without a console."""
    path = tmp_path / "answers.jsonl"
    call = f'exec "{sys.executable}" -m edgelm run sentiment good --output "{path}" <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", call], env=environment, timeout=60)
    assert done.returncode == 0
    assert [json.loads(line)["label"] for line in path.read_text("utf-8").splitlines()] == ["positive"]


def test_answers_are_utf8_in_any_locale(start: Start, tiny_classifier: Path) -> None:
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    process = start("inspect", tiny_classifier, "--json", **settings)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out.decode("utf-8"))["name"] == "tiny-classifier"
    process = start("run", "sentiment", "--bundle", tiny_classifier, "--json", **settings)
    out, err = process.communicate("很好\n".encode(), timeout=60)
    assert (process.returncode, json.loads(out.decode("utf-8"))["label"]) == (0, "positive"), err


def test_an_argument_that_is_not_utf8_is_refused(start: Start, tiny_classifier: Path) -> None:
    process = start("run", "sentiment", "--bundle", tiny_classifier, b"gut \xe9")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, b"TEXT: not UTF-8 at byte 4 (value 0xe9)" in err) == (5, True)


@pytest.mark.parametrize("debug", ["0", "1"])
def test_unexpected_errors_are_one_line_unless_debugging(
    environment: dict[str, str], tiny_classifier: Path, debug: str
) -> None:
    code = """
import edgelm_runtime.loader, sys
def fail(*args, **kwargs): raise ValueError("two\\nlines")
edgelm_runtime.loader.load = fail
sys.argv = ["edgelm", "run", "sentiment", "good"]
from edgelm.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env={**environment, "EDGELM_DEBUG": debug}
    )
    assert done.returncode == 1
    assert "edgelm: error: unexpected ValueError: two lines" in done.stderr
    assert ("Traceback" in done.stderr) == (debug == "1")
    assert debug == "1" or done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "checkpoint", "--out", "bundle"],
        ["finetune", "sentiment", "--base", "tiny", "--data", "a.jsonl", "--out", "b"],
    ],
)
@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(
    environment: dict[str, str], arguments: list[str], missing: str
) -> None:
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["edgelm", *{arguments!r}]
from edgelm.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 7
    assert done.stderr == (
        f"edgelm: error: {missing} is not installed, and this needs it; install with: pip install 'edgelm[export]'\n"
    )
