"""What edgelm tune remembers: used while it holds, ignored with a word when it does not."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime import memory
from edgelm_runtime.bundle import Bundle, open_bundle
from edgelm_runtime.machine import usable_cores
from edgelm_runtime.memory import Choice, recall, remember

CHOICE = Choice("fp32", "cpu", 1)


@pytest.fixture
def bundle(tiny_classifier: Path) -> Bundle:
    return open_bundle(tiny_classifier)


def test_a_choice_comes_back(bundle: Bundle, own_memory: Path) -> None:
    assert recall(bundle) == memory.Recalled()
    path = remember(bundle, CHOICE, [{"ms": 1.0}])
    assert path.parent == own_memory
    assert [file.name for file in own_memory.iterdir()] == [path.name]
    assert recall(bundle) == memory.Recalled(CHOICE)


@pytest.mark.parametrize(
    ("name", "value"), [("cpu", "another"), ("onnxruntime", "1.0"), ("cores", 99), ("isa", ["avx2", "amx_int8"])]
)
def test_under_other_circumstances_it_is_stale(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    remember(bundle, CHOICE, [])
    now = memory.circumstances()
    monkeypatch.setattr(memory, "circumstances", lambda: {**now, name: value})
    found = recall(bundle)
    assert found.choice is None
    assert found.notes == (f"what edgelm tune found is stale ({name} changed): ignored; tune again",)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000, b'{"format": 1}',
        {"format": 2}, {"choice": {"variant": "fp32", "device": "cpu", "threads": "1"}},
        {"choice": {"variant": "fp32", "device": "cpu", "threads": 0}}, {"choice": None}, {"choice": []},
        {"choice": {"variant": 7, "device": "cpu", "threads": 1}},
        {"choice": {"variant": "fp32", "device": "cpu", "threads": True}},
        {"choice": {"variant": "fp32", "device": "cpu", "threads": usable_cores() + 1}},
        {"choice": {"variant": "fp32", "device": "cpu", "threads": 1024}},
    ],
)  # fmt: skip
def test_a_damaged_memory_is_ignored_and_that_is_said(bundle: Bundle, data: bytes | dict[str, Any]) -> None:
    path = remember(bundle, CHOICE, [])
    whole = json.loads(path.read_text("utf-8"))
    path.write_bytes(data if isinstance(data, bytes) else json.dumps({**whole, **data}).encode())
    found = recall(bundle)
    assert found.choice is None
    assert "damaged: ignored" in found.notes[0]


def test_circumstances_that_are_no_object_are_stale(bundle: Bundle) -> None:
    path = remember(bundle, CHOICE, [])
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "circumstances": [1]}), "utf-8")
    assert "stale" in recall(bundle).notes[0]


def test_it_is_kept_by_the_bytes_of_the_bundle(bundle: Bundle, tiny_generator: Path) -> None:
    remember(bundle, CHOICE, [])
    assert recall(open_bundle(tiny_generator)) == memory.Recalled()


def test_without_a_variable_it_is_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGELM_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.home() == tmp_path / "edgelm"
    monkeypatch.setattr(memory.sys, "platform", "win32")
    assert memory.home() == tmp_path / "edgelm"
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.home().parts[-3:] == ("Library", "Caches", "edgelm")


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_who_tunes_is_rarely_who_answers(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGELM_HOME", str(tmp_path / "new"))
    before = os.umask(0o077)
    try:
        path = remember(bundle, CHOICE, [])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_a_memory_that_cannot_be_read_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = remember(bundle, CHOICE, [])

    def refused(*given: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(memory.os, "open", refused)
    expected = f"the memory of edgelm tune cannot be read: ignored ({path}: Permission denied)"
    assert recall(bundle) == memory.Recalled(notes=(expected,))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_not_waited_for(bundle: Bundle, kind: str) -> None:
    path = remember(bundle, CHOICE, [])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    (note,) = recall(bundle).notes
    assert "cannot be read: ignored" in note


def test_a_terabyte_is_not_read(bundle: Bundle) -> None:
    path = remember(bundle, CHOICE, [])
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)
    assert "damaged: ignored" in recall(bundle).notes[0]


def test_a_full_disk_leaves_nothing_behind(bundle: Bundle, own_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory.json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        remember(bundle, CHOICE, [])
    assert list(own_memory.iterdir()) == []
