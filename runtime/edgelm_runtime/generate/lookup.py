"""Prompt lookup: tokens are proposed that followed the newest ones when these stood in the prompt or answer before.

One run of the graph checks all proposals, and costs little more than a run over one token (Saxena, 2023; Leviathan et
al., 2023 for why the answer stays what it would have been).
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM_SIZES = (3, 2)  # the longer match is believed first
# Accepted tokens a proposal below which it costs more than it saves, and how long none is then made.
WORTH = 0.5
PAUSE = 16


class PromptLookup:
    """Proposes up to `most` tokens; counts what became of them, and pauses where they are mostly wrong."""

    def __init__(self, prompt: Sequence[int], most: int) -> None:
        self.proposed = 0
        self.accepted = 0
        self._most = most
        self._tokens = list(prompt)
        self._seen: dict[tuple[int, ...], int] = {}
        self._worth = 2 * WORTH
        self._pause = 0
        for end in range(1, len(self._tokens)):
            self._learn(end)

    def push(self, token: int) -> None:
        """Take a token of the answer."""
        # What ends with the newest token is known only when it has a follower: a match is never its own.
        self._learn(len(self._tokens))
        self._tokens.append(token)

    def propose(self, limit: int) -> list[int]:
        """What may come next, at most `limit` tokens; mostly nothing."""
        if self._pause:
            self._pause -= 1
            return []
        for size in NGRAM_SIZES:
            start = self._seen.get(tuple(self._tokens[-size:]))
            if start is not None:
                return self._tokens[start : start + min(self._most, limit)]
        return []

    def judge(self, proposed: int, accepted: int) -> None:
        """Take note of how many of the proposed tokens were right."""
        self.proposed += proposed
        self.accepted += accepted
        self._worth += (accepted - self._worth) / 4
        if self._worth < WORTH:
            self._worth, self._pause = 2 * WORTH, PAUSE

    def _learn(self, end: int) -> None:
        """Remember that the n-grams before position `end` are followed by what stands there."""
        for size in NGRAM_SIZES:
            if end >= size:
                self._seen[tuple(self._tokens[end - size : end])] = end
