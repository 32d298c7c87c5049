"""Two folders change places in one step, where the system can do that."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_AT_FDCWD = -100  # Linux
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux (man 2 renameat2), and RENAME_SWAP of macOS (man 2 renamex_np)


def exchange(one: Path, other: Path) -> bool:
    """Let two names stand for each other's folder, atomically. False where that cannot be had; nothing is done then."""
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            failed = library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
        elif sys.platform == "darwin":
            failed = library.renamex_np(os.fsencode(one), os.fsencode(other), _EXCHANGE)
        else:
            return False
    except (ImportError, OSError, AttributeError, TypeError):  # no ctypes, no such function in this system's library
        return False
    return bool(failed == 0)
