"""The decode loop: a prompt in, token ids out, one at a time.

Each answer has buffers of its own and the graph holds no state, so threads share one GeneratorSession without a lock.
A lock would have to be held while the consumer of a stream thinks, and two streams of one thread would wait forever.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BundleRejected, InputError
from ..session import Binding, Session, bind, input_shapes, ort_value, output_shapes, run_bound
from .cache import CacheLayout, KVCache
from .guides import Guide
from .options import GenerationOptions
from .sampling import choose, fresh_seed, new_generator

STEP_INPUTS = ("input_ids", "position_ids", "seqlens_k", "total_sequence_length")


class GeneratorSession:
    """A generator graph with what is known about its tokens; made once, shared by any number of answers and threads.

    `max_tokens` is the context, prompt and answer together. `eos_id` ends an answer. Tokens in `suppressed` (the
    other special tokens) are never generated. Raises BundleRejected for a graph outside the contract.
    """

    def __init__(
        self, session: Session, *, max_tokens: int, eos_id: int | None, suppressed: Sequence[int] = ()
    ) -> None:
        self.session = session
        self.max_tokens = max_tokens
        self.eos_id = eos_id
        inputs, outputs = input_shapes(session), output_shapes(session)
        self.layout = CacheLayout.of_graph(inputs)
        self.step_inputs = tuple(name for name in inputs if not name.startswith("past_key_values."))
        vocab = outputs.get("logits", [None])[-1]
        if not isinstance(vocab, int) or not {"input_ids", "seqlens_k"} <= set(self.step_inputs) <= set(STEP_INPUTS):
            raise BundleRejected(
                f"the graph has inputs {list(inputs)} and outputs {outputs}, accepted: inputs {', '.join(STEP_INPUTS)} "
                "and past_key_values, and an output logits [batch, vocab]; export the bundle again",
                what="graph",
                expected=", ".join(STEP_INPUTS),
                found=", ".join(self.step_inputs),
            )
        self.vocab = vocab
        self.suppressed = np.array([token for token in suppressed if token < vocab and token != eos_id], dtype=np.int64)

    def stream(
        self,
        prompt: Sequence[int],
        options: GenerationOptions,
        ends: Callable[[int], bool] | None = None,
        guide: Guide | None = None,
    ) -> TokenStream:
        """Start an answer to `prompt` (token ids).

        `ends` is given each token before it is yielded, and ends the answer with it by returning True: this is how
        `options.stop`, which is about text, takes effect. `guide` holds the answer to its source, and is used for no
        other. Raises InputError at once for a prompt that is empty, has an id outside the vocabulary, or fills the
        context.
        """
        return TokenStream(self, self._checked(prompt), options, ends, guide)

    def logits(self, prompt: Sequence[int], *, stepwise: bool = False) -> npt.NDArray[np.float32]:
        """Logits, float32 [vocab], of the position after `prompt`, read in one run or, `stepwise`, token by token.

        Both ways give the same numbers up to rounding: export compares them. Raises InputError like `stream`.
        """
        ids = self._checked(prompt)
        cache = KVCache(self.layout, len(ids))
        logits = np.empty((1, self.vocab), dtype=np.float32)
        length = 1 if stepwise else len(ids)
        step = _BoundStep(self, cache, logits, length)
        for start in range(0, len(ids), length):
            step.run(ids[start : start + length], start)
        row: npt.NDArray[np.float32] = logits[0]
        return row

    def _checked(self, prompt: Sequence[int]) -> npt.NDArray[np.int64]:
        try:
            ids = np.asarray(prompt)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the prompt is no list of token ids ({error}); give a list of integers") from error
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise InputError(
                f"the prompt has shape {ids.shape} and type {ids.dtype}; give a list of at least one integer token id"
            )
        if len(ids) >= self.max_tokens:
            raise InputError(
                f"the prompt has {len(ids)} tokens, accepted: at most {self.max_tokens - 1} (the model's context is "
                f"{self.max_tokens}, one token is for the answer); shorten the input"
            )
        if ids.min() < 0 or ids.max() >= self.vocab:
            wrong = ids[(ids < 0) | (ids >= self.vocab)][0]
            raise InputError(f"the prompt has the token id {wrong}, accepted: 0 to {self.vocab - 1}")
        return ids.astype(np.int64)


class TokenStream(Iterator[int]):
    """The tokens of one answer as they are made, without the end-of-text token (unless it is ignored).

    `finish_reason` is "" until the end, then "stop" (end of text, or a stop string) or "length" (max_new_tokens, or
    context full). One stream belongs to one thread at a time.
    """

    def __init__(
        self,
        model: GeneratorSession,
        prompt: npt.NDArray[np.int64],
        options: GenerationOptions,
        ends: Callable[[int], bool] | None,
        guide: Guide | None,
    ) -> None:
        self.finish_reason = ""
        self.prompt_tokens = len(prompt)
        self._ends = ends
        self._guide = guide
        self._tokens = self._decode(model, prompt, options)

    def __next__(self) -> int:
        return next(self._tokens)

    def close(self) -> None:
        """End early and free the buffers."""
        self._tokens.close()

    def _decode(
        self, model: GeneratorSession, prompt: npt.NDArray[np.int64], options: GenerationOptions
    ) -> Generator[int, None, None]:
        # 1. Buffers: the whole answer fits from the start, so nothing grows and nothing is copied.
        capacity = min(model.max_tokens, len(prompt) + options.max_new_tokens)
        cache = KVCache(model.layout, capacity)
        logits = np.empty((1, model.vocab), dtype=np.float32)
        answer = np.empty(capacity - len(prompt), dtype=np.int64)
        random = new_generator(fresh_seed() if options.seed is None else options.seed)
        plain, guide = options.greedy and not options.edits_logits, self._guide

        # 2. Prefill: the whole prompt in one run.
        prefill = _BoundStep(model, cache, logits, len(prompt))
        prefill.run(prompt, 0)
        del prefill
        step = _BoundStep(model, cache, logits, 1)

        row = logits[0]
        for count in range(len(answer)):
            # 3. Choose the next token from the logits of the last position.
            row[model.suppressed] = -np.inf
            token = _most_probable(row)
            if guide is not None:
                token = choose(guide.favour(row), answer[:count], options, random)
                guide.push(token)
            elif not plain:
                token = choose(row, answer[:count], options, random)
            if token == model.eos_id and not options.ignore_eos:
                self.finish_reason = "stop"
                return
            answer[count] = token
            ended = self._ends is not None and self._ends(token)
            yield token
            if ended:
                self.finish_reason = "stop"
                return

            # 4. Advance by one token; the one that fills the answer is not read again.
            if count + 1 < len(answer):
                step.run(token, len(prompt) + count)
        self.finish_reason = "length"


class _BoundStep:
    """Runs of the graph over `length` tokens, with every input and output bound once to the same memory."""

    def __init__(self, model: GeneratorSession, cache: KVCache, logits: npt.NDArray[np.float32], length: int) -> None:
        self._session = model.session
        self._input_ids = np.zeros((1, length), dtype=np.int64)
        self._position_ids = np.zeros((1, length), dtype=np.int64)
        self._offsets = np.arange(length, dtype=np.int64)
        self._seqlens_k = np.zeros(1, dtype=np.int32)
        self._total = np.zeros((), dtype=np.int32)
        arrays: dict[str, npt.NDArray[Any]] = {
            "input_ids": self._input_ids,
            "position_ids": self._position_ids,
            "seqlens_k": self._seqlens_k,
            "total_sequence_length": self._total,
        }
        values = {name: ort_value(array) for name, array in cache.arrays.items()}
        inputs = {name: ort_value(arrays[name]) for name in model.step_inputs}
        outputs = {"logits": ort_value(logits)}
        # The values are kept: a binding holds the tensors, not the numpy memory under them.
        self._kept = (cache, logits, values, inputs, outputs)
        self._binding: Binding = bind(
            model.session, {**inputs, **cache.past(values)}, {**outputs, **cache.present(values)}
        )

    def run(self, tokens: int | npt.NDArray[np.int64], start: int) -> None:
        """Read `tokens` at the positions from `start` on; the logits buffer then holds the last one's row."""
        length = len(self._offsets)
        self._input_ids[0] = tokens
        self._position_ids[0] = self._offsets + start
        self._seqlens_k[0] = start + length - 1
        self._total[...] = start + length
        run_bound(self._session, self._binding)


def _most_probable(row: npt.NDArray[np.float32]) -> int:
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
