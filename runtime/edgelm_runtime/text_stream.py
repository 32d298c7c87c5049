"""Token ids to text while they come. The pieces joined are what `tokenizers` makes of all the ids at once, always.

Its own DecodeStream is not used: it loses text after bytes that are no character, and raises for some sequences.
What a decoder does to a token may depend on others; `Joining` says on which, and a piece is given out once it is
certain. A token costs the same, however long the answer is.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .tokenizer import TextTokenizer

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>\Z")
# Steps of a decoder that see one token at a time, and whether it is the first.
_BY_TOKEN = {"Replace", "ByteFallback", "Metaspace", "WordPiece", "Strip"}


# Han, kana, bopomofo, their punctuation, and full-width forms; then the signs that Chinese shares with other scripts.
_CJK = (
    "\u2e80-\u2fdf\u3000-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f\uffe0-\uffe6\U00020000-\U0003ffff"
)
_SHARED = "“”‘’…—·"
_CJK_SPACE = re.compile(f"(?<=[{_CJK}]) (?=[{_CJK}{_SHARED}])|(?<=[{_SHARED}]) (?=[{_CJK}])|(?<=[”’…—]) (?=[…—])")


def without_cjk_spaces(text: str) -> str:
    """The text without blanks between Chinese or Japanese characters, their punctuation included.

    WordPiece joins all tokens with blanks, and BERT's tokenizer makes a token of each such character. A blank beside a
    Latin letter or a digit stays: "我 love 北京".
    """
    return _CJK_SPACE.sub("", text)


@dataclass(frozen=True)
class Joining:
    """How a decoder joins tokens to text.

    `by` is "bytes" (those of all tokens are one text), "token" (a token's text depends on whether it is the first), or
    "whole" (nothing is certain before the end). With `fallback` tokens that stand for a byte join their neighbours.
    `continuing` is what WordPiece's pieces inside a word begin with; "" for other decoders.
    """

    by: Literal["bytes", "token", "whole"]
    fallback: bool = False
    continuing: str = ""

    @classmethod
    def of(cls, decoder: Any) -> Joining:
        """That of a decoder of `tokenizers`, or of none."""
        if decoder is None:
            return cls("token")
        state: dict[str, Any] = json.loads(decoder.__getstate__())
        steps: list[dict[str, Any]] = state["decoders"] if state["type"] == "Sequence" else [state]
        kinds = [step["type"] for step in steps]
        if kinds == ["ByteLevel"]:
            return cls("bytes")
        fused = kinds.index("Fuse") if "Fuse" in kinds else len(kinds)
        certain = _BY_TOKEN.issuperset(kinds[:fused]) and all(map(_keeps_its_place, steps[fused + 1 :]))
        continuing = next((str(step["prefix"]) for step in steps if step["type"] == "WordPiece"), "")
        return cls("token" if certain else "whole", certain and "ByteFallback" in kinds[:fused], continuing)


def _keeps_its_place(step: Mapping[str, Any]) -> bool:
    """Whether what a step makes of a text stays the same when more follows: it cuts the beginning, or one character."""
    if step["type"] == "Strip":
        return bool(step["stop"] == 0)
    return step["type"] == "Replace" and len(step["pattern"].get("String", "")) == 1


class TextStream:
    """Turns token ids into text piece by piece; the joined pieces equal `tokenizer.decode` of all the ids.

    Bytes that are no character come out as U+FFFD, once it is known that they are none.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._joining = tokenizer.joining
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._begin: list[int] = []
        self._shown = ""
        self._pending: list[int] = []
        self._spaces = _Spaces() if tokenizer.spec.strip_cjk_spaces else None

    def push(self, token_id: int) -> str:
        """Take one id, return the text that is now certain: possibly "", never a split character."""
        text = self._push(token_id)
        return text if self._spaces is None else self._spaces.push(text)

    def _push(self, token_id: int) -> str:
        piece = self._tokenizer.piece(token_id)
        if piece is None:
            return ""
        if self._joining.by == "bytes":
            return self._bytes.decode(byte_level(piece))
        self._pending.append(token_id)
        # A run of bytes is one text, or nothing but U+FFFD: it is known at its end.
        if self._joining.by == "whole" or (self._joining.fallback and _BYTE_TOKEN.match(piece)):
            return ""
        return self._release()

    def flush(self) -> str:
        """What was held back, to be called once after the last id; the stream is then ready for a new text."""
        text = self._bytes.decode(b"", final=True) if self._joining.by == "bytes" else self._release()
        self._begin, self._shown = [], ""
        return text if self._spaces is None else self._spaces.push(text) + self._spaces.flush()

    def _release(self) -> str:
        """The text of the tokens held back; what the answer begins with stands before them, so that none is first."""
        if not self._pending:
            return ""
        text = self._tokenizer.joined([*self._begin, *self._pending])
        piece = text[len(self._shown) :]
        if not self._shown:
            self._begin, self._shown = [*self._begin, *self._pending], text
        self._pending = []
        return piece


class _Spaces:
    """`without_cjk_spaces` for a text that comes in pieces: a blank waits for what follows."""

    def __init__(self) -> None:
        self._last = ""  # the newest character that was given out
        self._held = ""

    def push(self, piece: str) -> str:
        text = self._last + self._held + piece
        end = len(text) - text.endswith(" ") if len(text) > len(self._last) else len(text)
        body, self._held = text[:end], text[end:]
        given = without_cjk_spaces(body)[len(self._last) :]
        self._last = (self._last + given)[-1:]
        return given

    def flush(self) -> str:
        held, self._last, self._held = self._held, "", ""
        return held


def byte_level(piece: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary; one with other characters than GPT-2's stand-ins is its text."""
    try:
        return bytes([BYTE_STAND_INS[character] for character in piece])
    except KeyError:
        return piece.encode("utf-8", "replace")


def _stand_ins() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others for what follows U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others: Sequence[int] = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + at): byte for at, byte in enumerate(others)}}


BYTE_STAND_INS: Mapping[str, int] = _stand_ins()
