"""One answer in the making: what it has so far, and the choice of its next token from a row of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import BundleRejected, InputError
from .constraints import Constraint
from .edits import Edits
from .guides import Guide
from .options import GenerationOptions
from .sampling import Row, choose, fresh_seed, new_generator


class Answer:
    """The tokens of one answer, at most `room` of them, without the end token that it stops at (unless it is ignored).

    `finish_reason` is "" until the end, then "stop" (one of `eos_ids`, or `ends` said so of a token) or "length" (no
    room is left). `edits` are the rules of the options.
    """

    def __init__(
        self,
        room: int,
        options: GenerationOptions,
        *,
        eos_ids: Sequence[int],
        edits: Edits,
        ends: Callable[[int], bool] | None = None,
        guide: Guide | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.finish_reason = ""
        self.count = 0
        self.room = room
        self._before = len(edits.before)
        self._tokens = np.empty(self._before + room, dtype=np.int64)
        self._tokens[: self._before] = edits.before
        self._options = options
        self._final = frozenset(() if options.ignore_eos else eos_ids)
        self._edits = edits
        self._ends = ends
        self._guide = guide
        self._constraint = constraint
        self._random: np.random.Generator | None = None
        if not options.greedy:
            self._random = new_generator(fresh_seed() if options.seed is None else options.seed)
        self._plain = options.greedy and not options.edits_logits and guide is None

    @property
    def last(self) -> int:
        """The newest token."""
        return int(self._tokens[self._before + self.count - 1])

    @property
    def tokens(self) -> list[int]:
        """The tokens so far."""
        ids: list[int] = self._tokens[self._before : self._before + self.count].tolist()
        return ids

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return self.room - self.count

    def take(self, row: Row) -> int | None:
        """Choose the token after what is there from its logits, float32 [vocab] (changed where tokens are suppressed).

        None when the answer is over without a further token; `finish_reason` is set with the last token, too.
        Raises BundleRejected for logits that are not finite, and InputError where the constraint leaves no token.
        """
        self._edits.forbid(row, self.count)
        token = _most_probable(row)
        if self._constraint is not None:
            self._constraint.mask(row, self.left)
            token = int(row.argmax())
            if row[token] == -np.inf:
                raise InputError(
                    "the words that are banned and those that must be included leave no way to go on; ask for fewer"
                )
        if not self._plain:
            favoured = row if self._guide is None else self._guide.favour(row)
            changed = self._edits.change_or_yield(favoured, self._tokens[: self._before + self.count])
            token = choose(changed, self._options, self._random)
        if token in self._final:
            self.finish_reason = "stop"
            return None
        self._tokens[self._before + self.count] = token
        self.count += 1
        for follower in (self._guide, self._constraint):
            if follower is not None:
                follower.push(token)
        if self._ends is not None and self._ends(token):
            self.finish_reason = "stop"
        elif not self.left:
            self.finish_reason = "length"
        return token


def _most_probable(row: Row) -> int:
    """Index of the largest logit; of a NaN or an infinity where there is one, and then BundleRejected is raised."""
    token = int(row.argmax())
    if not np.isfinite(row[token]):
        raise BundleRejected(
            f"the model's logits are not finite (token {token}: {row[token]}); run `edgelm verify` on the bundle",
            what="logits",
            expected="finite numbers",
            found=str(row[token]),
        )
    return token
