"""The options that every comparison with peers has."""

from __future__ import annotations

import argparse
from pathlib import Path

from perf.bench import ROOT


def parser_for(name: str, page: str, work: Path, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m perf.{name}`, which writes `page`.md and `page`.png; `work` is below the repository."""
    parser = argparse.ArgumentParser(prog=f"python -m perf.{name}", description=description)
    parser.add_argument("--smoke", action="store_true", help="a tiny model and the engines that are installed here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: the usable cores, at most 4")
    parser.add_argument("--engines", help="names, with commas; default: all")
    help_work = f"environments and models; default: {work}"
    parser.add_argument("--work", type=Path, default=ROOT / work, help=help_work)
    parser.add_argument("--page", type=Path, metavar="FOLDER", help=f"write {page}.md and {page}.png there")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was given; a number of rounds below 1 is refused."""
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    return given
