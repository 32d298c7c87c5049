"""What changes the logits of the next token before one is chosen: transformers' logits processors, in their order.

Rows are float32 [vocab]; a token that may not come is -inf.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .options import GenerationOptions

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Edits:
    """The rules of `options` for answers to one prompt, shared by all of its beams.

    `begun` is what was read before the answer, int64 [n]. Any of `eos_ids` ends an answer; `suppressed` are never
    chosen, beside those that the options name. Raises InputError for options that name a token outside `vocab`.
    """

    def __init__(
        self,
        options: GenerationOptions,
        begun: Ids,
        *,
        vocab: int,
        eos_ids: Sequence[int],
        suppressed: Ids | None = None,
    ) -> None:
        _check_tokens(options, vocab)
        self._options = options
        self.before = begun if options.penalize_prompt else begun[:0]
        self._eos_ids = list(eos_ids)
        named = np.array(options.suppress_tokens, dtype=np.int64)
        self._suppressed = named if suppressed is None else np.concatenate([suppressed, named])
        self._first = list(options.begin_suppress_tokens)
        never = (words for words in options.bad_words_ids if not (len(words) == 1 and words[0] in self._eos_ids))
        self._bias = SequenceBias([*options.sequence_bias, *((words, -np.inf) for words in never)])

    def forbid(self, row: Row, count: int) -> None:
        """Set what may not follow on `count` tokens of an answer to -inf, in `row` itself."""
        row[self._suppressed] = -np.inf
        if count == 0 and self._first:
            row[self._first] = -np.inf
        if count < self._options.min_new_tokens:
            row[self._eos_ids] = -np.inf

    def change(self, row: Row, seen: Ids) -> Row:
        """The row with the biases, the penalty and the n-gram rule; `seen` is `before` and the answer, int64 [n]."""
        options = self._options
        if self._bias:
            row = self._bias.added(row, seen)
        if options.repetition_penalty != 1 and len(seen):
            row = penalize_repetition(row, seen, options.repetition_penalty)
        if options.no_repeat_ngram_size:
            row = ban_repeated_ngrams(row, seen, options.no_repeat_ngram_size)
        return row

    def change_or_yield(self, row: Row, seen: Ids) -> Row:
        """Like `change`; rules that ban every token (a tiny vocabulary) give way, since some token must come."""
        changed = self.change(row, seen)
        return changed if changed.max() > -np.inf else row


class SequenceBias:
    """What is added to the logit of a token where it would complete a sequence; -inf where it may not.

    Of a sequence that is named twice the last counts.
    """

    def __init__(self, pairs: Iterable[tuple[Sequence[int], float]]) -> None:
        self._alone: dict[int, float] = {}
        # By the token before the last: few of them end like the answer.
        self._longer: dict[int, dict[tuple[int, ...], float]] = {}
        for sequence, bias in pairs:
            if len(sequence) == 1:
                self._alone[sequence[0]] = bias
            else:
                self._longer.setdefault(sequence[-2], {})[tuple(sequence)] = bias
        self._ids = np.array(list(self._alone), dtype=np.int64)
        self._added = np.array(list(self._alone.values()), dtype=np.float32)

    def __bool__(self) -> bool:
        return bool(self._alone or self._longer)

    def added(self, logits: Row, seen: Ids) -> Row:
        """A new row for the token after `seen` (int64 [n])."""
        biased = logits.copy()
        biased[self._ids] += self._added
        for sequence, bias in self._longer.get(int(seen[-1]), {}).items() if len(seen) else ():
            if tuple(seen[1 - len(sequence) :].tolist()) == sequence[:-1]:
                biased[sequence[-1]] += np.float32(bias)
        return biased


def penalize_repetition(logits: Row, seen: Ids, penalty: float) -> Row:
    """Divide positive and multiply negative logits of the tokens in `seen` (int64 [n]) by `penalty` (CTRL)."""
    penalized, old = logits.copy(), logits[seen]
    penalized[seen] = np.where(old < 0, old * np.float32(penalty), old / np.float32(penalty))
    return penalized


def ban_repeated_ngrams(logits: Row, seen: Ids, size: int) -> Row:
    """Ban each token that would complete an n-gram of `size` tokens that `seen` (int64 [n]) already holds."""
    starts = len(seen) - size + 1
    if starts <= 0:
        return logits
    follows = np.ones(starts, dtype=bool)
    for offset in range(size - 1):
        # seen[starts + offset] is the token at this offset of the prefix that the next token would complete.
        follows &= seen[offset : offset + starts] == seen[starts + offset]
    banned = seen[size - 1 :][follows]
    if not len(banned):
        return logits
    allowed = logits.copy()
    allowed[banned] = -np.inf
    return allowed


def _check_tokens(options: GenerationOptions, vocab: int) -> None:
    named = {
        "suppress_tokens": options.suppress_tokens,
        "begin_suppress_tokens": options.begin_suppress_tokens,
        "bad_words_ids": [token for words in options.bad_words_ids for token in words],
        "sequence_bias": [token for sequence, _ in options.sequence_bias for token in sequence],
    }
    for name, tokens in named.items():
        if tokens and max(tokens) >= vocab:
            raise InputError(f"{name} names the token {max(tokens)}, accepted: 0 to {vocab - 1}")
    if len({*options.suppress_tokens, *options.begin_suppress_tokens}) >= vocab:
        raise InputError("suppress_tokens and begin_suppress_tokens leave no token to begin with; name fewer")
