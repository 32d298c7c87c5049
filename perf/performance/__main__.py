"""Write docs/performance.md from perf/results: `python -m perf.performance [FILE ...]`.

Each FILE is the output of measurements, or of `edgelm profile --json`; its reports are kept in perf/results first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from perf.bench import ROOT
from perf.kept import keep, kept, lines
from perf.performance.page import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    for file in parser.parse_args().files:
        for report in lines(file.read_text("utf-8")):
            path = keep(report)
            print(f"kept: {path.relative_to(ROOT)}" if path else "not kept: a smoke run, or skipped")
    write(kept(), ROOT / "docs")


if __name__ == "__main__":
    main()
