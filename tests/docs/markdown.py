"""Just enough Markdown for the tests of the pages: fenced blocks, headings, tables, links."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FIGURE = re.compile(r"<fill: [^>]*>|\d(?:[\d,.]*\d)?")
_SHELL_COMMENT = re.compile(r"(?:^|\s+)# .*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page that it begins on."""

    kind: str
    text: str
    line: int


def blocks(page: Path, *kinds: str) -> list[Block]:
    """The fenced blocks of some kinds, in the order of the page."""
    text = page.read_text(encoding="utf-8")
    found = [Block(match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in _FENCE.finditer(text)]
    return [block for block in found if block.kind in kinds]


def without_comments(block: Block) -> str:
    """The text of a block as the machine reads it."""
    if block.kind == "sh":
        return _SHELL_COMMENT.sub("", block.text)
    if block.kind == "python":
        tokens = tokenize.generate_tokens(io.StringIO(block.text).readline)
        return " ".join(token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL))
    return block.text


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[int]:
    """The level of every heading."""
    return [len(match[1]) for match in re.finditer(r"^(#+) ", prose(page), re.MULTILINE)]


def table_figures(page: Path) -> list[list[str]]:
    """The numbers of every table row, with the places that wait for one."""
    rows = [line for line in prose(page).splitlines() if line.startswith("|")]
    return [_FIGURE.findall(row) for row in rows]


def links(page: Path) -> list[str]:
    """Targets of the links that lead into the repository."""
    return [target for target in _LINK.findall(prose(page)) if "://" not in target]
