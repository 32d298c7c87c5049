"""The texts of all tokens as a tree of bytes: a rule that reads bytes finds the tokens that it refuses.

A state of the rule is followed down the tree, and a byte that is refused refuses every token below it, so that a rule
over bytes and its mask over tokens cannot disagree (as in Willard and Louf, 2023, and in llguidance).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
State = TypeVar("State")


class Node(NamedTuple):
    """The tokens `order[low:high]`, which have their first `depth` bytes in common."""

    low: int
    high: int
    depth: int


class TokenTrie:
    """The tokens in the order of their texts; `order` has their ids, int64 [tokens]."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.order: Ids = np.array(sorted(range(len(texts)), key=texts.__getitem__), dtype=np.int64)
        self._sorted = [texts[token] for token in self.order.tolist()]
        self.root = Node(0, len(texts), 0)
        self._children: dict[Node, list[tuple[int, Node]]] = {}

    def children(self, node: Node) -> list[tuple[int, Node]]:
        """Every byte that goes on from a node, with the node that it leads to."""
        if node.high - node.low == 1:  # the rest of one token needs no memory
            return list(self._split(node))
        if node not in self._children:
            self._children[node] = list(self._split(node))
        return self._children[node]

    def ids(self, node: Node) -> Ids:
        """The tokens at and below a node: int64 [n]."""
        found: Ids = self.order[node.low : node.high]
        return found

    def beginning_with(self, prefix: bytes) -> Ids:
        """Tokens whose text begins with `prefix`, which is not empty: int64 [n]."""
        low = bisect_left(self._sorted, prefix)
        return self.ids(Node(low, self._end(prefix, low, len(self._sorted)), len(prefix)))

    def refused(
        self, state: State, feed: Callable[[State, int], State | None], may_refuse: Callable[[State, Node], bool],
        begin: Node | None = None,
    ) -> Ids:  # fmt: skip
        """The tokens at and below `begin` with a byte that `feed` gives no state for, from `state` on: int64 [n].

        What `may_refuse` says no of is not looked into.
        """
        found: list[Ids] = []
        waiting = [(state, begin or self.root)]
        while waiting:
            state, node = waiting.pop()
            for byte, child in self.children(node):
                following = feed(state, byte)
                if following is None:
                    found.append(self.ids(child))
                elif may_refuse(following, child):
                    waiting.append((following, child))
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def _split(self, node: Node) -> Iterator[tuple[int, Node]]:
        low, high, depth = node
        while low < high and len(self._sorted[low]) == depth:  # what ends here comes first
            low += 1
        while low < high:
            text = self._sorted[low]
            end = low + 1 if high - low == 1 else self._end(text[: depth + 1], low, high)
            yield text[depth], Node(low, end, depth + 1)
            low = end

    def _end(self, prefix: bytes, low: int, high: int) -> int:
        """The place of the first text after `low` that does not begin with `prefix`; `high` where all do."""
        stripped = prefix.rstrip(b"\xff")
        return bisect_left(self._sorted, stripped[:-1] + bytes([stripped[-1] + 1]), low, high) if stripped else high
