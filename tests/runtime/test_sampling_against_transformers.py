"""The same rows through transformers' logits processors. The only runtime tests that need torch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelm_runtime.generate.edits import SequenceBias, ban_repeated_ngrams, penalize_repetition
from edgelm_runtime.generate.sampling import keep_min_p, keep_top_k, keep_top_p, keep_typical_p

torch = pytest.importorskip("torch", reason="compares with transformers, which is in the extra `export`")
transformers = pytest.importorskip("transformers", reason="compares with transformers, which is in the extra `export`")

VOCAB = 200


def processed(processor: object, logits: NDArray[np.float32], answer: NDArray[np.int64]) -> NDArray[np.float32]:
    result = processor(torch.from_numpy(answer)[None], torch.from_numpy(logits.copy())[None])  # type: ignore[operator]
    return np.asarray(result[0].numpy())


@pytest.mark.parametrize("seed", range(20))
def test_the_rules_are_those_of_transformers(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(scale=4, size=VOCAB).astype(np.float32)
    answer = random.integers(0, 6, size=30).astype(np.int64)
    penalty, size, k, p = 1.1 + seed / 10, 1 + seed % 4, 1 + seed * 5, 0.05 + seed * 0.049
    biases = [[random.integers(0, 6, size=1 + index % 4).tolist(), 0.5 - index / 9] for index in range(20)]
    biases += [[[*answer[-length:].tolist(), length], float(length)] for length in range(5)]
    pairs = [
        (transformers.RepetitionPenaltyLogitsProcessor(penalty), penalize_repetition(logits, answer, penalty)),
        (transformers.NoRepeatNGramLogitsProcessor(size), ban_repeated_ngrams(logits, answer, size)),
        (transformers.TopKLogitsWarper(k), keep_top_k(logits, k)),
        (transformers.TopPLogitsWarper(p), keep_top_p(logits, p)),
        (transformers.MinPLogitsWarper(p), keep_min_p(logits, p)),
        (transformers.TypicalLogitsWarper(p), keep_typical_p(logits, p)),
        (transformers.SequenceBiasLogitsProcessor(biases), SequenceBias(biases).added(logits, answer)),
    ]
    for processor, found in pairs:
        np.testing.assert_allclose(found, processed(processor, logits, answer), rtol=1e-6, err_msg=str(processor))
