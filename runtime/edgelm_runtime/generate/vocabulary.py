"""What every token writes, as bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

from ..text_stream import byte_level as of_byte_level
from .token_trie import TokenTrie

Made = TypeVar("Made")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class Vocabulary:
    """The bytes of all tokens by id, as the decoder of the tokenizer writes them inside a text.

    `pieces` are the tokens as the tokenizer stores them, by id. `byte_level` says that they are GPT-2's stand-ins for
    bytes; with `continuing`, WordPiece's "##", every piece that does not begin with it begins with a blank; otherwise
    "▁" is a blank, and "<0x0A>" a byte. Special tokens write nothing. `folded` has ASCII letters in lower case.
    """

    def __init__(
        self, pieces: Sequence[str], *, byte_level: bool, special: Sequence[int] = (), continuing: str = ""
    ) -> None:
        silent = set(special)
        written = of_byte_level if byte_level else partial(_bytes_of, continuing=continuing)
        self.texts: list[bytes] = [
            b"" if index in silent or not piece else written(piece) for index, piece in enumerate(pieces)
        ]
        self.folded: list[bytes] = [text.lower() for text in self.texts]
        self._cached: dict[Hashable, Any] = {}

    @cached_property
    def trie(self) -> TokenTrie:
        """The texts as a tree of bytes."""
        return TokenTrie(self.texts)

    def cached(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of this vocabulary for `key`, made at the first need."""
        if key not in self._cached:
            self._cached[key] = make()
        found: Made = self._cached[key]
        return found


def _bytes_of(piece: str, continuing: str) -> bytes:
    if continuing:
        inside = piece.startswith(continuing)
        return (piece.removeprefix(continuing) if inside else f" {piece}").encode("utf-8", "replace")
    single = _BYTE_TOKEN.match(piece)
    return bytes([int(single[1], 16)]) if single else piece.replace("▁", " ").encode("utf-8", "replace")
