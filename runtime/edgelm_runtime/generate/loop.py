"""The decode loop: a prompt in, token ids out, one at a time.

Each answer has buffers of its own and the graph holds no state, so threads share one GeneratorSession without a lock.
A lock would have to be held while the consumer of a stream thinks, and two streams of one thread would wait forever.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from ..errors import BundleRejected, InputError
from ..manifest import DecoderSpec
from ..session import Session, input_shapes, input_types, output_shapes
from .answer import Answer
from .cache import CacheLayout, KVCache
from .constraints import Constraint
from .control import Control, Interrupted
from .edits import Edits
from .encoder import Encoder, Source
from .guides import Guide
from .lookup import PromptLookup
from .options import GenerationOptions
from .prefix import PrefixCache
from .runs import STEP_INPUTS, Ids, Runs
from .sampling import Row

NEEDED_INPUTS = set(STEP_INPUTS) - {"position_ids"}
PREFILL_CHUNK = 256
STEPS = 128
PREFIX_CACHE_BYTES = 32 << 20


class GeneratorSession:
    """A generator graph with what is known about its tokens; made once, shared by any number of answers and threads.

    `max_tokens` is the context, prompt and answer together. Any of `eos_ids` ends an answer. Tokens in `suppressed`
    that do not are never generated. Prompts that were read are kept in `prefix_cache_bytes` of memory.
    With an `encoder` (its session, and what the decoder begins with) it is that which reads the prompt, and prompt and
    answer have a context of `max_tokens` each.
    Raises BundleRejected for a graph outside the contract.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_tokens: int,
        eos_ids: tuple[int, ...],
        suppressed: Sequence[int] = (),
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        encoder: tuple[Session, DecoderSpec] | None = None,
    ) -> None:
        self.session = session
        self.max_tokens = max_tokens
        self.eos_ids = eos_ids
        inputs, outputs = input_shapes(session), output_shapes(session)
        self.layout = CacheLayout.of_graph(inputs, input_types(session))
        self.encoder = None if encoder is None else Encoder(*encoder, self.layout, inputs)
        attended = () if encoder is None else ("encoder",)
        self.step_inputs = tuple(name for name in inputs if not name.startswith(("past_key_values.", *attended)))
        vocab = (outputs.get("logits") or [None])[-1]
        if not isinstance(vocab, int) or not NEEDED_INPUTS <= set(self.step_inputs) <= set(STEP_INPUTS):
            raise BundleRejected(
                f"the graph has inputs {list(inputs)} and outputs {outputs}, accepted: inputs {', '.join(STEP_INPUTS)} "
                "(position_ids may be left out) and past_key_values, and an output logits [batch, kept, vocab]; "
                "export the bundle again",
                what="graph",
                expected=", ".join(STEP_INPUTS),
                found=", ".join(self.step_inputs),
            )
        if any(token >= vocab for token in eos_ids):
            raise BundleRejected(
                f"eos_id names the tokens {list(eos_ids)}, accepted: those of the graph, 0 to {vocab - 1}; "
                "export the bundle again",
                what="tokenizer.eos_id",
                expected=f"0 to {vocab - 1}",
                found=str(list(eos_ids)),
            )
        self.vocab = vocab
        # After an encoder the decoder's cache depends on the text, and its first tokens are always the same.
        self.prefixes = PrefixCache(prefix_cache_bytes if encoder is None else 0)
        unsaid = [token for token in suppressed if token < vocab and token not in eos_ids]
        self.suppressed = np.array(unsaid, dtype=np.int64)

    def stream(
        self,
        prompt: Sequence[int],
        options: GenerationOptions,
        ends: Callable[[int], bool] | None = None,
        guide: Guide | None = None,
        constraint: Constraint | None = None,
        control: Control | None = None,
    ) -> TokenStream:
        """Start an answer to `prompt` (token ids).

        `ends` is given each token before it is yielded, and ends the answer with it by returning True: this is how
        `options.stop`, which is about text, takes effect. `guide` and `constraint` rule this answer, and no
        other. `control` may end it from outside. Raises InputError at once for a prompt that is empty, has an id
        outside the vocabulary, or fills the context.
        """
        ids = self.checked(prompt)
        answer = self.answer(self.begin(ids), options, ends, guide, constraint)
        most = options.prompt_lookup_num_tokens
        return TokenStream(self, ids, answer, PromptLookup(ids.tolist(), most) if most else None, control or Control())

    def logits(self, prompt: Sequence[int], answer: Sequence[int] = (), *, stepwise: bool = False) -> Row:
        """Logits, float32 [vocab], after `prompt` and the beginning of an `answer` to it.

        `stepwise` the last STEPS tokens that the decoder reads are read one by one. Both ways give the same numbers up
        to rounding: export compares them. Raises InputError like `stream`.
        """
        checked = self.checked(prompt)
        ids = np.array([*self.begin(checked), *answer], dtype=np.int64)
        runs = self.runs(KVCache.empty(self.layout, len(ids)), source=self.source(checked))
        if not stepwise:
            return prefill(runs, ids, PREFILL_CHUNK)
        at_once = max(len(ids) - STEPS, 0)
        prefill(runs, ids[:at_once], PREFILL_CHUNK)
        return prefill(runs, ids, 1, at_once)

    def begin(self, prompt: Ids) -> Ids:
        """What the decoder reads before an answer: the prompt itself, unless an encoder reads that."""
        return prompt if self.encoder is None else self.encoder.start

    def source(self, prompt: Ids, control: Control | None = None) -> Source | None:
        """The prompt as the encoder reads it; None where there is none. Raises Interrupted."""
        return None if self.encoder is None else self.encoder.read(prompt, control)

    def runs(self, cache: KVCache, control: Control | None = None, source: Source | None = None) -> Runs:
        """Runs of the graph over `cache`, which attend to `source`, too."""
        constants = None if source is None else source.inputs
        return Runs(self.session, self.step_inputs, cache, self.vocab, control, constants)

    def answer(
        self,
        begun: Ids,
        options: GenerationOptions,
        ends: Callable[[int], bool] | None = None,
        guide: Guide | None = None,
        constraint: Constraint | None = None,
    ) -> Answer:
        """An answer with nothing in it, after what was `begun`, as long as the context and the options let it be."""
        options = options.after(len(begun))
        return Answer(
            self.room(len(begun), options),
            options,
            eos_ids=self.eos_ids,
            edits=self.edits(begun, options),
            ends=ends,
            guide=guide,
            constraint=constraint,
        )

    def edits(self, begun: Ids, options: GenerationOptions) -> Edits:
        """The rules of the options for answers after `begun`. Raises InputError for tokens that the graph lacks."""
        return Edits(options, begun, vocab=self.vocab, eos_ids=self.eos_ids, suppressed=self.suppressed)

    def room(self, begun: int, options: GenerationOptions) -> int:
        """How many tokens an answer may have after `begun` others. Raises InputError for options that want too much."""
        if options.context_shift and self.encoder is not None:
            raise InputError(
                "context_shift: the answer of a sequence-to-sequence model has its context to itself; leave it out"
            )
        free = self.max_tokens - begun
        return options.max_new_tokens if options.context_shift else min(free, options.max_new_tokens)

    @property
    def most(self) -> int:
        """How many tokens a prompt may have."""
        return self.max_tokens - (self.encoder is None)

    def checked(self, prompt: Sequence[int]) -> Ids:
        """The prompt as int64 [n]. Raises InputError for one that is empty, out of the vocabulary, or too long."""
        try:
            ids = np.asarray(prompt)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the prompt is no list of token ids ({error}); give a list of integers") from error
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise InputError(
                f"the prompt has shape {ids.shape} and type {ids.dtype}; give a list of at least one integer token id"
            )
        if len(ids) > self.most:
            why = "" if self.encoder is not None else ", one token is for the answer"
            raise InputError(
                f"the prompt has {len(ids)} tokens, accepted: at most {self.most} (the model's context is "
                f"{self.max_tokens}{why}); shorten the input"
            )
        if ids.min() < 0 or ids.max() >= self.vocab:
            wrong = ids[(ids < 0) | (ids >= self.vocab)][0]
            raise InputError(f"the prompt has the token id {wrong}, accepted: 0 to {self.vocab - 1}")
        return ids.astype(np.int64)


def prefill(runs: Runs, prompt: Ids, chunk: int, start: int = 0) -> Row:
    """Read `prompt` (int64 [n]) from position `start` on, `chunk` tokens a run; the logits after it, float32 [vocab].

    In chunks, so that memory for activations does not grow with the prompt.
    """
    row: Row = np.empty(0, dtype=np.float32)
    for begin in range(start, len(prompt), chunk):
        row = runs.read(prompt[None, begin : begin + chunk], [begin])[0, 0]
    return row


class TokenStream(Iterator[int]):
    """The tokens of one answer as they are made, without the end token that it stops at (unless it is ignored).

    `finish_reason` is "" until the end, then "stop" (end of text, or a stop string), "length" (max_new_tokens, or
    context full) or "deadline". `lookup` counts the tokens that were proposed and accepted; None where none are. One
    stream belongs to one thread at a time, but any may cancel it: the next token is then a Cancelled.
    """

    def __init__(
        self,
        model: GeneratorSession,
        prompt: Ids,
        answer: Answer,
        lookup: PromptLookup | None,
        control: Control,
    ) -> None:
        self.prompt_tokens = len(prompt)
        self.lookup = lookup
        self._answer = answer
        self._control = control
        # Not a method: a stream that is dropped half-way is freed at once, and its cache with it.
        self._tokens = _tokens(model, prompt, answer, lookup, control)

    @property
    def finish_reason(self) -> str:
        """Why the answer ended."""
        return self._answer.finish_reason

    def __next__(self) -> int:
        return next(self._tokens)

    def close(self) -> None:
        """End early and free the buffers. A thread that waits for a token gets a Cancelled."""
        try:
            self._tokens.close()
        except ValueError:  # that thread is inside: it ends at its next token, and frees them
            self._control.cancel()

    def cancel(self) -> None:
        """End the answer from any thread."""
        self._control.cancel()


def _tokens(
    model: GeneratorSession, prompt: Ids, answer: Answer, lookup: PromptLookup | None, control: Control
) -> Generator[int, None, None]:
    try:
        yield from _decode(model, prompt, answer, lookup, control)
    except Interrupted:
        answer.finish_reason = control.finish()


def _decode(
    model: GeneratorSession, prompt: Ids, answer: Answer, lookup: PromptLookup | None, control: Control
) -> Generator[int, None, None]:
    # 1. Buffers: the whole answer fits from the start, so nothing grows and nothing is copied.
    begin = model.begin(prompt)
    cache = KVCache.empty(model.layout, min(len(begin) + answer.room, model.max_tokens))
    runs = model.runs(cache, control, model.source(prompt, control))

    # 2. Prefill, from where an earlier prompt was the same.
    known = model.prefixes.begin(begin, cache)
    rows = prefill(runs, begin, PREFILL_CHUNK, known)[None]
    if len(begin) + answer.room <= cache.capacity:  # else the prompt's place is written again
        model.prefixes.keep(begin, cache)
    read = len(begin)
    draft: list[int] = []

    while True:
        # 3. Choose: row i follows the first i proposals, and counts as long as these were right.
        for accepted, row in enumerate(rows):
            token = answer.take(row)
            if token is None:
                return
            yield token
            if answer.finish_reason:
                return
            control.check()
            if lookup is not None:
                lookup.push(token)
            if accepted == len(draft) or token != draft[accepted]:
                break
        read += accepted
        if lookup is not None and draft:
            lookup.judge(len(draft), accepted)

        # 4. Advance by the newest token, and by what may follow it; the cache forgets what was wrong. A full one,
        # with context_shift, forgets the older half, and the newer half is read again from its place.
        draft = [] if lookup is None else lookup.propose(min(answer.left, cache.capacity - read) - 1)
        if read == cache.capacity:
            newest = np.array([*begin.tolist(), *answer.tokens][-(cache.capacity // 2) :], dtype=np.int64)
            rows, read = prefill(runs, newest, PREFILL_CHUNK)[None], len(newest)
            continue
        rows = runs.read([[answer.last, *draft]], [read], keep=1 + len(draft))[0]
        read += 1
