"""From one row of logits to the next token. Every function is pure: it returns a new row and changes no argument.

Rows are float32 [vocab]; a token that may not come is -inf. The order of the steps is that of transformers:
repetition penalty, n-gram ban, temperature, top-k, top-p, draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .options import GenerationOptions

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def penalize_repetition(logits: Row, answer: Ids, penalty: float) -> Row:
    """Divide positive and multiply negative logits of the tokens in `answer` (int64 [n]) by `penalty` (CTRL)."""
    penalized = logits.copy()
    seen = logits[answer]
    penalized[answer] = np.where(seen < 0, seen * np.float32(penalty), seen / np.float32(penalty))
    return penalized


def ban_repeated_ngrams(logits: Row, answer: Ids, size: int) -> Row:
    """Ban each token that would complete an n-gram of `size` tokens that `answer` (int64 [n]) already holds."""
    starts = len(answer) - size + 1
    if starts <= 0:
        return logits
    follows = np.ones(starts, dtype=bool)
    for offset in range(size - 1):
        # answer[starts + offset] is the token at this offset of the prefix that the next token would complete.
        follows &= answer[offset : offset + starts] == answer[starts + offset]
    banned = answer[size - 1 :][follows]
    if not len(banned):
        return logits
    allowed = logits.copy()
    allowed[banned] = -np.inf
    return allowed


def keep_top_k(logits: Row, k: int) -> Row:
    """Ban all but the `k` largest logits (k >= 1). Values equal to the k-th are kept too."""
    if k >= len(logits):
        return logits
    threshold = np.partition(logits, len(logits) - k)[len(logits) - k]
    return np.where(logits < threshold, np.float32(-np.inf), logits)


def keep_top_p(logits: Row, p: float) -> Row:
    """Nucleus sampling (arXiv:1904.09751): ban all but the fewest tokens whose probability reaches `p`.

    At least one token is kept; of equal probabilities the lower id comes first.
    """
    probabilities = softmax(logits)
    # Tokens below (1 - p) / (2 vocab) sum to less than 1 - p: they never reach the nucleus and need no sorting.
    candidates = np.flatnonzero(probabilities >= (1.0 - p) / (2 * len(logits)))
    order = candidates[np.argsort(-probabilities[candidates], kind="stable")]
    reached = np.cumsum(probabilities[order])
    kept = order[: 1 + int(np.searchsorted(reached[:-1], p, side="left"))]
    nucleus = np.full_like(logits, -np.inf)
    nucleus[kept] = logits[kept]
    return nucleus


def softmax(logits: Row) -> npt.NDArray[np.float64]:
    """Probabilities, float64 [vocab], of a row that holds at least one finite logit."""
    wide = logits.astype(np.float64)
    exponentials = np.exp(wide - wide.max())
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum()
    return probabilities


def draw(logits: Row, uniform: float) -> int:
    """The token at `uniform` (in [0, 1)) of the cumulative distribution; a banned token is never drawn."""
    cumulative = np.cumsum(softmax(logits))
    token = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    # Rounding may push the product onto the total: the answer is then the last token that can come.
    return min(token, int(np.searchsorted(cumulative, cumulative[-1], side="left")))


def edit_logits(logits: Row, answer: Ids, options: GenerationOptions) -> Row:
    """Apply what depends on the answer so far (int64 [n]): the repetition penalty and the n-gram ban."""
    if options.repetition_penalty != 1 and len(answer):
        logits = penalize_repetition(logits, answer, options.repetition_penalty)
    if options.no_repeat_ngram_size:
        logits = ban_repeated_ngrams(logits, answer, options.no_repeat_ngram_size)
    return logits


def choose(logits: Row, answer: Ids, options: GenerationOptions, generator: np.random.Generator | None) -> int:
    """The next token after `answer` (int64 [n]); one number is taken from `generator`, greedy needs none."""
    edited = edit_logits(logits, answer, options)
    # Rules that ban every token (a tiny vocabulary) give way: some token must come.
    logits = edited if edited.max() > -np.inf else logits
    if options.greedy or generator is None:
        return int(logits.argmax())
    logits = logits / np.float32(options.temperature)
    if options.top_k:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p < 1:
        logits = keep_top_p(logits, options.top_p)
    return draw(logits, float(generator.random()))


def new_generator(seed: int) -> np.random.Generator:
    """The sampler's random numbers: PCG64, the same on every machine for one seed."""
    return np.random.Generator(np.random.PCG64(seed))


def fresh_seed() -> int:
    """A seed from the machine's entropy, small enough to be typed again."""
    return int(np.random.SeedSequence().generate_state(1)[0])
