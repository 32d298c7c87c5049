"""From one row of logits to the next token. Every function is pure: it returns a new row and changes no argument.

Rows are float32 [vocab]; a token that may not come is -inf. The order of the steps is that of transformers: those of
`edits`, then temperature, top-k, top-p, min-p, typical, draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .options import GenerationOptions

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


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


def keep_min_p(logits: Row, p: float) -> Row:
    """Ban the tokens whose probability is less than `p` times the largest (arXiv:2407.01082)."""
    probabilities = softmax(logits)
    return np.where(probabilities < p * probabilities.max(), np.float32(-np.inf), logits)


def keep_typical_p(logits: Row, mass: float) -> Row:
    """Locally typical sampling (arXiv:2202.00666): ban all but the fewest tokens of a mass, the most typical first.

    The nearer the negative logarithm of its probability is to the entropy of all, the more typical is a token.
    """
    probabilities = softmax(logits)
    allowed = np.flatnonzero(probabilities)
    surprise = -np.log(probabilities[allowed])
    distance = np.abs(surprise - (probabilities[allowed] * surprise).sum())
    order = np.argsort(distance, kind="stable")
    reached = np.cumsum(probabilities[allowed][order])
    last = min(int(np.searchsorted(reached, mass, side="left")), len(order) - 1)
    kept = allowed[distance <= distance[order[last]]]
    typical = np.full_like(logits, -np.inf)
    typical[kept] = logits[kept]
    return typical


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


def choose(logits: Row, options: GenerationOptions, generator: np.random.Generator | None) -> int:
    """The next token; one number is taken from `generator`, greedy needs none."""
    if options.greedy or generator is None:
        return int(logits.argmax())
    logits = logits / np.float32(options.temperature)
    if options.top_k:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p < 1:
        logits = keep_top_p(logits, options.top_p)
    if options.min_p:
        logits = keep_min_p(logits, options.min_p)
    if options.typical_p < 1:
        logits = keep_typical_p(logits, options.typical_p)
    return draw(logits, float(generator.random()))


def new_generator(seed: int) -> np.random.Generator:
    """The sampler's random numbers: PCG64, the same on every machine for one seed."""
    return np.random.Generator(np.random.PCG64(seed))


def fresh_seed() -> int:
    """A seed from the machine's entropy, small enough to be typed again."""
    return int(np.random.SeedSequence().generate_state(1)[0])
