"""Beam search: several beginnings of one answer are kept while they are the most probable, and the best is the answer.

Scores are those of transformers: the sum of a beam's log-probabilities over its length to the power of
`length_penalty`, its end-of-text token counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .cache import KVCache
from .constraints import Constraint
from .control import Control, Interrupted
from .edits import Edits
from .loop import PREFILL_CHUNK, GeneratorSession, prefill
from .options import GenerationOptions
from .sampling import Row

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Beam:
    """A beginning of the answer, or all of it, with the sum of its tokens' log-probabilities."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0
    constraint: Constraint | None = None

    def followed_by(self, token: int, total: float) -> Beam:
        """The beam with one more token."""
        constraint = None if self.constraint is None else self.constraint.branch()
        if constraint is not None:
            constraint.push(token)
        return Beam((*self.tokens, token), total, constraint)


@dataclass
class _Finished:
    """The best whole answers, at most `size` of them, best first."""

    size: int
    penalty: float
    early: bool
    forced: int  # tokens that every answer has first, which count
    answers: list[tuple[float, tuple[int, ...], str]] = field(default_factory=list)

    def add(self, tokens: tuple[int, ...], total: float, length: int, reason: str) -> None:
        self.answers.append((total / (self.forced + length) ** self.penalty, tokens, reason))
        self.answers.sort(key=lambda answer: -answer[0])
        del self.answers[self.size :]

    def closed_to(self, total: float, length: int) -> bool:
        """Whether a beam of this sum would not come in any more, were it to end at this length."""
        if len(self.answers) < self.size or self.early:
            return len(self.answers) == self.size
        reached: float = total / (self.forced + length) ** self.penalty
        return self.answers[-1][0] >= reached


def beam_search(
    model: GeneratorSession,
    prompt: Sequence[int],
    options: GenerationOptions,
    constraint: Constraint | None = None,
    control: Control | None = None,
) -> tuple[list[int], str]:
    """The most probable answer that `num_beams` beams find, and why it ended ("stop", "length" or "deadline").

    Raises InputError for a prompt that is not accepted or a constraint that leaves no answer, and Cancelled.
    """
    control = control or Control()
    try:
        return _search(model, prompt, options, constraint, control)
    except Interrupted:
        return [], control.finish()


def _search(
    model: GeneratorSession,
    prompt: Sequence[int],
    options: GenerationOptions,
    constraint: Constraint | None,
    control: Control,
) -> tuple[list[int], str]:
    ids = model.checked(prompt)
    begin, source = model.begin(ids), model.source(ids, control)
    options = options.after(len(begin))
    beams, room, edits = options.num_beams, model.room(len(begin), options), model.edits(begin, options)
    cache = KVCache.empty(model.layout, len(begin) + room, beams)
    first = cache.sequence(0)
    row = prefill(model.runs(first, control, source), begin, PREFILL_CHUNK, model.prefixes.begin(begin, first))
    rows: list[Row] = [row]
    alive, finished = [Beam(constraint=constraint)], _finished(model, options)
    runs = model.runs(cache, control, source)
    for length in range(1, room + 1):
        scores = _scores(alive, rows, edits, room - length + 1)
        parents, alive = _extend(model, alive, scores, options, finished, last=length == room)
        if not alive or finished.closed_to(alive[0].total, length):
            break
        if length == room:
            for beam in alive:
                finished.add(beam.tokens, beam.total, length + 1, "length")
            break
        for array in cache.arrays.values():
            array[: len(parents), :, : len(begin) + length - 1] = array[parents, :, : len(begin) + length - 1]
        tokens = np.zeros((beams, 1), dtype=np.int64)
        tokens[: len(alive), 0] = [beam.tokens[-1] for beam in alive]
        logits = runs.read(tokens, [len(begin) + length - 1] * beams)
        rows = [logits[index, 0] for index in range(len(alive))]
    if not finished.answers:
        raise InputError("the words that are banned and those that must be included leave no answer; ask for fewer")
    _, tokens_found, reason = finished.answers[0]
    return list(tokens_found), reason


def _extend(
    model: GeneratorSession, alive: list[Beam], scores: Scores, options: GenerationOptions, finished: _Finished,
    *, last: bool,
) -> tuple[list[int], list[Beam]]:  # fmt: skip
    """The best beams one token on, with the index of the beam that each comes from; `scores` are [beams, vocab].

    Whole answers go to `finished`, and with the `last` token the others too, unless their end is forced.
    """
    length, flat = len(alive[0].tokens) + 1, scores.ravel()
    last = last and not _ends_forced(model)
    # So many that, even if every beam ends here in all ways, enough go on.
    count = min(max(2, 1 + len(model.eos_ids)) * options.num_beams, len(flat))
    top = np.argpartition(-flat, count - 1)[:count]
    parents: list[int] = []
    extended: list[Beam] = []
    for rank, place in enumerate(top[np.argsort(-flat[top], kind="stable")].tolist()):
        parent, token = divmod(place, model.vocab)
        if flat[place] == -np.inf:
            break
        ends = token in model.eos_ids and not options.ignore_eos
        if ends or last:
            tokens = alive[parent].tokens if ends else (*alive[parent].tokens, token)
            if rank < options.num_beams:
                finished.add(tokens, float(flat[place]), length, "stop" if ends else "length")
            continue
        if len(extended) < options.num_beams:
            parents.append(parent)
            extended.append(alive[parent].followed_by(token, float(flat[place])))
    return parents, extended


def _finished(model: GeneratorSession, options: GenerationOptions) -> _Finished:
    forced = 0 if model.encoder is None else len(model.encoder.start) - 1
    return _Finished(options.num_beams, options.length_penalty, options.early_stopping, forced)


def _ends_forced(model: GeneratorSession) -> bool:
    """Whether answers end with an end-of-text token, of no cost, where there is no room for more."""
    return model.encoder is not None and model.encoder.spec.forced_eos


def _scores(alive: list[Beam], rows: list[Row], edits: Edits, left: int) -> Scores:
    """The sums of each beam's log-probabilities with every token, float64 [beams, vocab]."""
    pairs = zip(alive, rows, strict=True)
    return np.stack([beam.total + _log_probabilities(beam, row, edits, left) for beam, row in pairs])


def _log_probabilities(beam: Beam, row: Row, edits: Edits, left: int) -> Scores:
    """Log-probabilities, float64 [vocab], of the next token; rules on repeating change them as transformers does."""
    wide = row.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    if beam.constraint is not None:
        allowed = row.copy()
        beam.constraint.mask(allowed, left)
        wide[np.isneginf(allowed)] = -np.inf
    narrow = wide.astype(np.float32)
    edits.forbid(narrow, len(beam.tokens))
    seen = np.array([*edits.before, *beam.tokens], dtype=np.int64)
    return edits.change(narrow, seen).astype(np.float64)
