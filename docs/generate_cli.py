"""Write docs/cli.md from the help texts of the command: ``python docs/generate_cli.py``."""

from __future__ import annotations

from pathlib import Path

import click

from edgelm.cli import cli

TARGET = Path(__file__).with_name("cli.md")
WIDTH = 100
INTRODUCTION = """\
# The command line

Written by `make docs` from the help texts; a test checks that it is current. Answers go to stdout, everything else to
stderr.
"""


def render() -> str:
    """The whole page: the group first, then each command."""
    with _context("edgelm", cli, None) as group:
        commands = [(name, cli.get_command(group, name)) for name in cli.list_commands(group)]
        parts = [INTRODUCTION, _section(group)]
        parts += [_section(_context(name, command, group)) for name, command in commands if command is not None]
    return "\n".join(parts)


def _context(name: str, command: click.Command, parent: click.Context | None) -> click.Context:
    return command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )


def _section(context: click.Context) -> str:
    lines = [line.rstrip() for line in context.command.get_help(context).splitlines()]
    return f"## {context.command_path}\n\n```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
