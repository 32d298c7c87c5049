"""Prompts that were read before: a new one that begins like one of them begins with its cache."""

from __future__ import annotations

from collections import deque
from threading import Lock

import numpy as np

from .cache import KVCache
from .runs import Ids

MIN_TOKENS = 16  # a shorter prefix is read sooner than copied
MAX_ENTRIES = 64  # each is compared with every prompt


class PrefixCache:
    """Keeps the caches of prompts, at most `limit_bytes` of them; the one used longest ago goes first.

    A cache is kept as it is, with no copy: what an answer adds comes after the prompt, and changes nothing before it.
    Only a prefix that is used again is copied, into the cache of the new answer.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: deque[tuple[Ids, KVCache]] = deque()
        self._lock = Lock()

    @property
    def limit_bytes(self) -> int:
        """Bytes that may be kept; 0 keeps nothing, and forgets what was."""
        return self._limit

    @limit_bytes.setter
    def limit_bytes(self, limit: int) -> None:
        with self._lock:
            self._limit = limit
            self._shrink()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(cache.nbytes for _, cache in self._entries)

    def begin(self, prompt: Ids, cache: KVCache) -> int:
        """Fill an empty `cache` with what is known of the prompt (int64 [n]); how many tokens that is, below n."""
        with self._lock:
            known = [(_common(prompt, kept), index) for index, (kept, _) in enumerate(self._entries)]
            tokens, index = max(known, default=(0, 0))
            tokens = min(tokens, len(prompt) - 1)
            if tokens < MIN_TOKENS:
                return 0
            entry = self._entries[index]
            del self._entries[index]
            self._entries.append(entry)
        cache.copy_tokens(entry[1], tokens)
        return tokens

    def keep(self, prompt: Ids, cache: KVCache) -> None:
        """Remember a cache that begins with `prompt`; not one that is too large, or too short to be of use."""
        if len(prompt) <= MIN_TOKENS or cache.nbytes > self._limit:
            return
        with self._lock:
            # A prompt that is known as a part of this one, or as all of it, is not needed twice.
            kept = [entry for entry in self._entries if _common(prompt, entry[0]) < len(entry[0])]
            self._entries = deque([*kept, (prompt.copy(), cache)], MAX_ENTRIES)
            self._shrink()

    def _shrink(self) -> None:
        while self._entries and self.nbytes > self._limit:
            self._entries.popleft()


def _common(left: Ids, right: Ids) -> int:
    """Length of the longest prefix that both have."""
    length = min(len(left), len(right))
    differs = np.flatnonzero(left[:length] != right[:length])
    return int(differs[0]) if len(differs) else length
