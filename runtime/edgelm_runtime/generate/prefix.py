"""Prompts that begin alike: what two of them share is kept, and read by neither again."""

from __future__ import annotations

from collections import deque
from threading import Lock

import numpy as np

from .cache import KVCache
from .runs import Ids

MIN_TOKENS = 16  # a shorter prefix is read sooner than copied
MAX_ENTRIES = 64  # each is compared with every prompt
REMEMBERED = 16  # prompts that a new one is compared with to see what repeats


class PrefixCache:
    """Keeps the caches of prefixes that repeat, at most `limit_bytes` of them; the one used longest ago goes first.

    A prefix is kept when a second prompt begins with it: most prompts never come again, and the cache of one takes
    more memory than the template that all begin with. Of the prompts before only the token ids are remembered.
    `asked` counts the prompts that began, `hits` those of them whose beginning was known.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: deque[tuple[Ids, KVCache]] = deque(maxlen=MAX_ENTRIES)
        self._recent: deque[Ids] = deque(maxlen=REMEMBERED)
        self._lock = Lock()
        self.asked = self.hits = 0

    @property
    def limit_bytes(self) -> int:
        """Bytes that may be kept; 0 keeps nothing, and forgets what was."""
        return self._limit

    @limit_bytes.setter
    def limit_bytes(self, limit: int) -> None:
        with self._lock:
            self._limit = limit
            self._recent.clear()
            self._shrink()

    def forget(self) -> None:
        """Forget every prompt, and what was kept of them."""
        with self._lock:
            self._recent.clear()
            self._entries.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(cache.nbytes for _, cache in self._entries)

    def begin(self, prompt: Ids, cache: KVCache) -> int:
        """Fill an empty `cache` with what is known of the prompt (int64 [n]); how many tokens that is, below n."""
        with self._lock:
            self.asked += 1
            known = [(_common(prompt, kept), index) for index, (kept, _) in enumerate(self._entries)]
            tokens, index = max(known, default=(0, 0))
            tokens = min(tokens, len(prompt) - 1)
            if tokens < MIN_TOKENS:
                return 0
            self.hits += 1
            entry = self._entries[index]
            del self._entries[index]
            self._entries.append(entry)
        cache.copy_tokens(entry[1], tokens)
        return tokens

    def keep(self, prompt: Ids, cache: KVCache) -> None:
        """Take note of a prompt that `cache` begins with, and keep as much of it as an earlier one began with, too."""
        with self._lock:
            shared = max((_common(prompt, earlier) for earlier in self._recent), default=0)
            self._recent.append(prompt.copy())
            known = max((_common(prompt, kept) for kept, _ in self._entries), default=0)
            size = cache.nbytes // cache.capacity * shared
        if shared < MIN_TOKENS or shared <= known or size > self._limit:
            return
        entry = prompt[:shared].copy(), cache.first(shared)
        with self._lock:
            # What is the beginning of the new one is not needed twice.
            kept = [other for other in self._entries if _common(prompt, other[0]) < len(other[0])]
            self._entries = deque([*kept, entry], MAX_ENTRIES)
            self._shrink()

    def _shrink(self) -> None:
        while self._entries and self.nbytes > self._limit:
            self._entries.popleft()


def _common(left: Ids, right: Ids) -> int:
    """Length of the longest prefix that both have."""
    length = min(len(left), len(right))
    differs = np.flatnonzero(left[:length] != right[:length])
    return int(differs[0]) if len(differs) else length
