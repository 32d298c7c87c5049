"""Where an answer's text is cut: at stop strings, which may lie across tokens, or after its last whole sentence."""

from __future__ import annotations

import re

# A full stop ends a sentence where a blank follows; within a number or a name it does not.
SENTENCE_END = re.compile(r"""[。！？…!?]+[”’」』）"')]*|\.(?=\s)|\n+""")
_OPEN_WORD = re.compile(r"[0-9A-Za-z.,]+\Z")


class StopFilter:
    """Passes text on piece by piece, up to the first stop string. How the text is cut into pieces does not matter.

    Text that may be the beginning of a stop string is held back until it is known not to be one.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """The text that may be shown now; after a stop string was found, always empty."""
        if self.found:
            return ""
        text = self._held + piece
        matches = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if matches:
            # The stop string that ends first wins, whatever the pieces; of those, the longest.
            self.found, self._held = True, ""
            return text[: min(matches)[1]]
        held = self._length_to_hold(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The text still held back, at the end of the answer."""
        text, self._held = self._held, ""
        return text

    def _length_to_hold(self, text: str) -> int:
        """Length of the longest end of `text` that is the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class WordFilter:
    """Passes text on up to the Latin word or number at its end, which may not be whole."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, piece: str) -> str:
        """The text up to the last word."""
        text = self._held + piece
        end = _OPEN_WORD.search(text)
        place = len(text) if end is None else end.start()
        self._held = text[place:]
        return text[:place]

    def flush(self) -> str:
        """The last word, of an answer that was not cut in it."""
        text, self._held = self._held, ""
        return text


class SentenceFilter:
    """Passes text on by whole sentences."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, piece: str) -> str:
        """The text up to the last sentence end."""
        text = self._held + piece
        # What ends a sentence may go on: "?" to "?!", a quotation mark may follow.
        ends = [match.end() for match in SENTENCE_END.finditer(text) if match.end() < len(text)]
        end = ends[-1] if ends else 0
        self._held = text[end:]
        return text[:end]

    def flush(self) -> str:
        """The rest of an answer that came to its end."""
        text, self._held = self._held, ""
        return text

    def whole(self) -> str:
        """The rest of an answer that was cut off: nothing but a sentence that ends with it."""
        text = self.flush()
        return text if re.search(rf"(?:{SENTENCE_END.pattern}|\.)\Z", text) else ""
