"""``python -m edgelm``, the same as the command."""

from __future__ import annotations

from edgelm.cli import main

if __name__ == "__main__":
    main()
