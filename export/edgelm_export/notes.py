"""What an export or a training says on the way, on standard error."""

from __future__ import annotations

import sys

from edgelm_runtime.visible import visible


def note(text: str) -> None:
    """Say something that is no failure; names out of checkpoints and files are shown so that none steers a terminal."""
    print(visible(f"edgelm: note: {text}"), file=sys.stderr)
