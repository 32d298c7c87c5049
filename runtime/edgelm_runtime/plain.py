"""Plain files, opened so that nothing else answers: no symlink, and no pipe or device, on which an open would wait."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC", "O_NOCTTY"):
    _FLAGS |= getattr(os, _name, 0)
_FOLDER_FLAGS = _FLAGS | getattr(os, "O_DIRECTORY", 0)


@contextmanager
def opened(folder: Path, name: str) -> Iterator[int]:
    """File descriptor of a plain file inside `folder`; `name` has "/" between its parts, and no symlink among them.

    What is there is looked at before it is opened, which may do something to a device, and again once it is open, as
    it may have been swapped. Raises OSError, with a text of ours for what is no plain file.
    """
    _check(folder, name)
    descriptor = _open(folder, name.split("/"))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_plain(path: Path, most: int) -> bytes:
    """At most `most` bytes of a plain file, and one more where it is longer. Raises OSError like `opened`."""
    with opened(path.parent, path.name) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(most + 1)


def status(folder: Path, name: str) -> os.stat_result:
    """Status of a plain file inside `folder`, not opened. Raises OSError like `opened`."""
    return _check(folder, name)


def _check(folder: Path, name: str) -> os.stat_result:
    parts = name.split("/")
    for depth in range(1, len(parts)):
        if not stat.S_ISDIR(os.lstat(folder.joinpath(*parts[:depth])).st_mode):
            raise OSError(errno.ENOTDIR, "a folder on its way is a symlink or not a folder")
    found = os.lstat(folder.joinpath(*parts))
    if not stat.S_ISREG(found.st_mode):
        why = "it is a symlink" if stat.S_ISLNK(found.st_mode) else "it is not a plain file"
        raise OSError(errno.EINVAL, why)
    return found


def _open(folder: Path, parts: list[str]) -> int:
    """Open part by part, each as an entry of the folder that is open: nothing can be put in between."""
    if os.open not in os.supports_dir_fd:  # Windows
        return os.open(folder.joinpath(*parts), _FLAGS)
    at = os.open(folder, _FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(parts[-1], _FLAGS, dir_fd=at)
    finally:
        os.close(at)
