"""Temporary files and folders: gone after use, and after a kill at the next run; those in use stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgelm_runtime.leftovers import remove_leftovers, temporary
from edgelm_runtime.visible import visible

HOLD = """
import sys, time
from pathlib import Path
from edgelm_runtime.leftovers import temporary
with temporary(Path(sys.argv[1]), ".b.export-", is_folder=sys.argv[2] == "folder") as path:
    if path.is_dir():
        (path / "model.onnx").write_bytes(b"half")
    print(path, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_not_renamed_is_removed(tmp_path: Path, is_folder: bool) -> None:
    with temporary(tmp_path, ".b.", ".tmp", is_folder=is_folder) as path:
        assert path.is_dir() is is_folder
    assert list(tmp_path.iterdir()) == []
    with temporary(tmp_path, ".b.", ".tmp", is_folder=is_folder) as path:
        path.rename(tmp_path / "b")
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no flock")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path, kind: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        assert left.parent == tmp_path
        remove_leftovers(tmp_path, ".b.export-")
        assert left.exists()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert left.exists()
    with temporary(tmp_path, ".b.export-", is_folder=True):
        assert not left.exists()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    names = [".b.export-", ".b.export-short", ".b.export-12345678.txt", ".c.export-12345678", "b.export-12345678"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "target").mkdir()
    (tmp_path / ".b.export-abcdefgh").symlink_to(tmp_path / "target")
    remove_leftovers(tmp_path, ".b.export-")
    assert {path.name for path in tmp_path.iterdir()} == {*names, "target", ".b.export-abcdefgh"}
    remove_leftovers(tmp_path / "none", ".b.export-")


def test_control_characters_are_shown() -> None:
    assert visible("a\x1b[1m\x9b\x7f\n\t\u202e\u2066\u2028\ud800z") == (
        r"a\x1b[1m\x9b\x7f\n\t\u202e\u2066\u2028\ud800z"
    )
    assert visible("a\n\tb", keep="\n\t") == "a\n\tb"
    assert visible("好 👨‍👩‍👧 é \u200f\u00ad") == "好 👨‍👩‍👧 é \u200f\u00ad"
