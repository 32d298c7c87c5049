"""Temporary files and folders beside what they become, and those that a killed process left there.

One that is in use is locked (flock), which the system undoes with the process, however that ends. So at the next run
those that nobody holds are known and removed. A system without flock keeps them.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_RANDOM = re.compile(r"[a-z0-9_]{8}")  # what tempfile puts into a name


@contextmanager
def temporary(folder: Path, prefix: str, suffix: str = "", *, is_folder: bool = False) -> Iterator[Path]:
    """A new, empty file or folder for the time of the block, to be renamed in it; else it is removed at its end.

    What killed processes left under such names in `folder` is removed first. Raises OSError.
    """
    remove_leftovers(folder, prefix, suffix)
    path, lock = _held(folder, prefix, suffix, is_folder)
    try:
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def remove_leftovers(folder: Path, prefix: str, suffix: str = "") -> None:
    """Remove the files and folders of this user's with such names, as tempfile makes them, that no process holds."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        for path in list(folder.iterdir()):
            name = path.name
            if name.startswith(prefix) and _RANDOM.fullmatch(name.removeprefix(prefix).removesuffix(suffix)):
                _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(lock)
            ours = status.st_uid == os.geteuid() and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))
            if ours and _lock(lock):
                _remove(path)
        finally:
            os.close(lock)


def _held(folder: Path, prefix: str, suffix: str, is_folder: bool) -> tuple[Path, int | None]:
    """A new file or folder, and the descriptor that holds it, where there is such a thing."""
    while True:
        if is_folder:
            path = Path(tempfile.mkdtemp(suffix, prefix, folder))
        else:
            handle, name = tempfile.mkstemp(suffix, prefix, folder)
            os.close(handle)
            path = Path(name)
        if sys.platform == "win32":
            return path, None
        try:
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another process took it for a leftover before it was held
        held = _lock(lock)
        if held is not False and path.exists():
            return path, lock
        os.close(lock)


def _lock(descriptor: int) -> bool | None:
    """Take the lock; False where another process has it, None where this disk knows no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
