"""Stop strings: they end the answer, are never part of it, and may lie across tokens."""

from __future__ import annotations


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
