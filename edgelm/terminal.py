"""What is said on stderr and stdout: never what steers a terminal."""

from __future__ import annotations

from collections.abc import Iterable

import click

from edgelm_runtime.visible import visible


def say(text: str, *, err: bool = False) -> None:
    """Print lines of a page or a table, with control characters as Python writes them."""
    click.echo(visible(text, keep="\n\t"), err=err)


def say_line(text: str) -> None:
    """Print one line on stderr, whatever is in it."""
    click.echo(visible(text), err=True)


def note(notes: Iterable[str], line: int | None = None) -> None:
    """Say what was changed or left out of an input."""
    where = "" if line is None else f"line {line}: "
    for text in notes:
        say_line(f"edgelm: note: {where}{text}")
