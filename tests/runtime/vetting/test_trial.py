"""A tokenizer that is new here is tried in a child, which may die; what passed is remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime import child
from edgelm_runtime.bundle import default_bundles, open_bundle
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.loader import load
from edgelm_runtime.vetting import trial

DATA = Path(__file__).parents[2] / "data"
CONTENT = (DATA / "tiny-classifier" / "tokenizer.json").read_bytes()


@pytest.mark.trial
def test_a_new_tokenizer_is_tried_once(
    tiny_classifier: Path, own_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tiny_classifier, threads=1)("the parcel is good").label == "positive"
    (known,) = (own_memory / "tokenizers").iterdir()
    monkeypatch.setattr(trial, "check_tokenizer", lambda *_: pytest.fail("it is known"))
    bundle = open_bundle(tiny_classifier)
    assert trial.tokenizer_content(bundle) == CONTENT
    known.unlink()
    with pytest.raises(pytest.fail.Exception):
        trial.tokenizer_content(bundle)


def test_shipped_bundles_are_not_tried(own_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "check_tokenizer", lambda *_: pytest.fail("it is ours"))
    for path in default_bundles().values():
        trial.tokenizer_content(open_bundle(path, verify="lazy"))
    assert not list(own_memory.iterdir())


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child run this before it does what it is for."""
    started = subprocess.run

    def changed(command: list[str], **options: Any) -> Any:
        assert command[1] == "-c"
        first, rest = command[2].split("; from", 1)
        return started([*command[:2], f"{first}; {code}; from{rest}", *command[3:]], **options)

    monkeypatch.setattr(child.subprocess, "run", changed)


@pytest.mark.trial
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bound on processor time: the clock is left")
def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = "from edgelm_runtime.vetting import trial; trial.CPU_SECONDS = 1; "
    instead(monkeypatch, f"{setup}trial.try_tokenizer = lambda data: list(iter(int, 1))")
    with pytest.raises(BundleRejected, match=r"the process that tried it ended with signal \d+ \(SIG"):
        trial.is_tried(CONTENT, "tokenizer.json")


@pytest.mark.trial
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory")
def test_what_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "from edgelm_runtime.vetting import trial; trial.MEMORY_BYTES = 1 << 28")
    content = json.loads(CONTENT)
    double = {"type": "Replace", "pattern": {"String": "x"}, "content": "xx"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [double] * 32}
    with pytest.raises(BundleRejected, match="the process that tried it ended with signal"):
        trial.is_tried(json.dumps(content).encode(), "tokenizer.json")


@pytest.mark.trial
@pytest.mark.parametrize("how", ["import os; os.abort()", "sys.exit(3)"])
def test_a_child_that_dies_is_the_tokenizers_fault_once_it_has_begun(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    with monkeypatch.context() as before:
        instead(before, how)
        assert not trial.is_tried(CONTENT, "tokenizer.json")
    instead(monkeypatch, f"sys.stdout.write('begun'); sys.stdout.flush(); {how}")
    with pytest.raises(BundleRejected, match=r"tried it ended with (signal 6 \(SIGABRT\)|exit code 3)"):
        trial.is_tried(CONTENT, "tokenizer.json")


@pytest.mark.trial
@pytest.mark.parametrize("program", ["", "/usr/bin/uwsgi", "/opt/till/till"])
def test_a_program_that_is_no_python_starts_nothing(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(child.subprocess, "run", lambda *_, **__: pytest.fail("started"))
    assert not trial.is_tried(CONTENT, "tokenizer.json")


def test_where_nothing_can_be_remembered_the_checks_alone_count(
    tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGELM_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(trial, "is_tried", lambda *_: pytest.fail("tried"))
    asked: list[Any] = []
    monkeypatch.setattr(trial, "check_tokenizer", lambda *given: asked.append(given))
    assert trial.tokenizer_content(open_bundle(tiny_classifier)) == CONTENT
    assert asked
    assert os.listdir(tmp_path) == ["file"]


def test_the_texts_are_read_by_every_shipped_tokenizer() -> None:
    for path in default_bundles().values():
        trial.try_tokenizer((path / "tokenizer.json").read_bytes())
