"""Where PyInstaller finds its hooks for edgelm, by the entry point `pyinstaller40`: a plain freeze then works."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """This folder."""
    return [str(Path(__file__).parent)]
