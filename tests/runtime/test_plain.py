"""Files that are opened without waiting and without following, also where they are swapped between two looks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import monotonic

import pytest

from edgelm_runtime import plain

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither pipes nor links of this kind")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.parent / "other")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [pipe, link, folder])
@pytest.mark.parametrize("swapped", [True, False])
def test_what_is_no_plain_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, swapped: bool
) -> None:
    assert callable(make)
    (tmp_path / "other").write_text("other")
    make(tmp_path / "file")
    if swapped:  # after it was looked at
        monkeypatch.setattr(plain, "_check", lambda *_: None)
    begun = monotonic()
    with pytest.raises(OSError, match=r"plain file|symbolic links|symlink"):
        plain.read_plain(tmp_path / "file", 10)
    assert monotonic() - begun < 5


def test_a_folder_on_the_way_that_is_swapped_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    (tmp_path / "inside" / "way").symlink_to(tmp_path / "outside")
    monkeypatch.setattr(plain, "_check", lambda *_: None)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"), plain.opened(tmp_path / "inside", "way/file"):
        pass


def test_a_file_is_read_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert plain.read_plain(tmp_path / "file", 9) == b"12345"
    assert plain.read_plain(tmp_path / "file", 3) == b"1234"
