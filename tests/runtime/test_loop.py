"""The decode loop on a real tiny graph, against a slow twin that reads everything again for every token."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.generate.cache import CacheLayout, KVCache
from edgelm_runtime.generate.edits import Edits
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.generate.sampling import new_generator
from edgelm_runtime.session import Session, SessionOptions, Worker, create_session, input_shapes, input_types, run

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"
CONTEXT = 96
SPECIAL = (0, 1, 2, 3)
PROMPTS = [[1, 50, 60, 70, 3], [9], list(range(20, 70)), [2, 3]]


@pytest.fixture(scope="module")
def session() -> Any:
    return create_session(open_bundle(BUNDLE).read("model.onnx"), SessionOptions(1))


@pytest.fixture(scope="module")
def model(session: Any) -> GeneratorSession:
    return GeneratorSession(session, max_tokens=CONTEXT, eos_ids=(0,), suppressed=SPECIAL)


def last_logits(session: Any, ids: Sequence[int], capacity: int) -> np.ndarray:
    """One run over all of `ids` with an empty cache: float32 [vocab]."""
    shapes = input_shapes(session)
    feeds: dict[str, Any] = {
        "input_ids": np.array([ids], np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "seqlens_k": np.array([len(ids) - 1], np.int32),
        "total_sequence_length": np.array(len(ids), np.int32),
        "logits_to_keep": np.array([1]),
    }
    for name, (_, heads, _, size) in ((n, s) for n, s in shapes.items() if n.startswith("past")):
        feeds[name] = np.zeros((1, heads, capacity, size), np.float32)  # type: ignore[arg-type]
    return np.asarray(run(session, feeds, ["logits"])[0][0, -1])


def slow_greedy(session: Any, prompt: list[int], count: int, eos: int | None, **rules: Any) -> list[int]:
    answer: list[int] = []
    edits = Edits(GenerationOptions(**rules), np.array(prompt, np.int64), vocab=300, eos_ids=())
    while len(answer) < count and len(prompt) + len(answer) < CONTEXT:
        logits = last_logits(session, prompt + answer, CONTEXT)
        logits[list(SPECIAL[1:])] = -np.inf
        token = int(edits.change(logits, np.array([*edits.before, *answer], np.int64)).argmax())
        if token == eos:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "penalize_prompt": True},
    ],
)
@pytest.mark.parametrize("lookup", [0, 1, 8])
def test_greedy_ids_equal_a_full_run_for_every_token(
    session: Any, model: GeneratorSession, prompt: list[int], rules: dict[str, Any], lookup: int
) -> None:
    expected = slow_greedy(session, prompt, 40, 0, **rules)
    options = GenerationOptions(max_new_tokens=40, prompt_lookup_num_tokens=lookup, **rules)
    assert list(model.stream(prompt, options)) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_longer_than_a_chunk_is_read_in_chunks(
    session: Any, model: GeneratorSession, monkeypatch: pytest.MonkeyPatch, prompt: list[int]
) -> None:
    monkeypatch.setattr("edgelm_runtime.generate.loop.PREFILL_CHUNK", 7)
    np.testing.assert_allclose(model.logits(prompt), last_logits(session, prompt, CONTEXT), atol=1e-4)
    expected = slow_greedy(session, prompt, 20, 0)
    assert list(model.stream(prompt, GenerationOptions(max_new_tokens=20))) == expected


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_of_one_run_and_of_single_steps_are_the_same(
    session: Any, model: GeneratorSession, prompt: list[int]
) -> None:
    expected = last_logits(session, prompt, CONTEXT)
    np.testing.assert_allclose(model.logits(prompt), expected, atol=1e-4)
    np.testing.assert_allclose(model.logits(prompt, stepwise=True), expected, atol=1e-4)


def test_the_answer_ends_at_end_of_text_without_it(session: Any) -> None:
    tokens = slow_greedy(session, PROMPTS[0], 20, None)
    ends = (0, tokens[7], tokens[5])
    ending = GeneratorSession(session, max_tokens=CONTEXT, eos_ids=ends, suppressed=(*SPECIAL, *ends))
    stream = ending.stream(PROMPTS[0], GenerationOptions(max_new_tokens=20))
    assert stream.finish_reason == ""
    assert list(stream) == tokens[: min(map(tokens.index, ends[1:]))]
    assert stream.finish_reason == "stop"
    ignoring = ending.stream(PROMPTS[0], GenerationOptions(max_new_tokens=20, ignore_eos=True))
    assert list(ignoring) == tokens
    assert ignoring.finish_reason == "length"


def test_max_new_tokens_and_the_context_end_the_answer(model: GeneratorSession) -> None:
    for prompt_tokens, limit, expected in [(5, 1, 1), (5, 7, 7), (90, 50, 6), (CONTEXT - 1, 50, 1)]:
        stream = model.stream([60] * prompt_tokens, GenerationOptions(max_new_tokens=limit, ignore_eos=True))
        assert len(list(stream)) == expected
        assert (stream.finish_reason, stream.prompt_tokens) == ("length", prompt_tokens)


@pytest.mark.parametrize("lookup", [0, 8])
@pytest.mark.parametrize("prompt", [[9, 8], list(range(10, 100))])
def test_with_context_shift_the_newer_half_is_read_again_where_the_context_ends(
    session: Any, model: GeneratorSession, prompt: list[int], lookup: int
) -> None:
    expected: list[int] = []
    window = list(prompt)
    while len(expected) < 200:
        if len(window) == CONTEXT + 1:
            window = window[-(CONTEXT // 2) :]
        logits = last_logits(session, window, CONTEXT)
        logits[list(SPECIAL)] = -np.inf
        expected.append(int(logits.argmax()))
        window.append(expected[-1])
    ending = GeneratorSession(session, max_tokens=CONTEXT, eos_ids=(), suppressed=SPECIAL)
    options = GenerationOptions(max_new_tokens=200, context_shift=True, prompt_lookup_num_tokens=lookup)
    for _ in range(2):  # a cache that was written again is not kept for the next answer
        stream = ending.stream(prompt, options)
        assert list(stream) == expected
        assert stream.finish_reason == "length"


def test_a_prompt_that_fills_the_context_is_refused_with_count_and_limit(model: GeneratorSession) -> None:
    with pytest.raises(InputError, match="the prompt has 96 tokens, accepted: at most 95"):
        model.stream([60] * CONTEXT, GenerationOptions())


@pytest.mark.parametrize(
    "prompt", [[], [300], [-1], [2**40], [2**70], [1.5], ["a"], [[1, 2]], [[1], [2, 3]], "abc", None, 5, [True]]
)
def test_what_is_no_prompt_is_refused_at_once(model: GeneratorSession, prompt: Any) -> None:
    with pytest.raises(InputError, match="prompt"):
        model.stream(prompt, GenerationOptions())


def test_special_tokens_are_never_generated(model: GeneratorSession) -> None:
    for seed in range(20):
        options = GenerationOptions(max_new_tokens=90, temperature=100, seed=seed, ignore_eos=True)
        assert not set(model.stream([9], options)) & set(SPECIAL[1:])


def test_a_seed_gives_the_same_answer_and_another_seed_another(model: GeneratorSession) -> None:
    def sampled(seed: int | None) -> list[int]:
        return list(model.stream(PROMPTS[0], GenerationOptions(temperature=1.0, top_k=20, top_p=0.9, seed=seed)))

    assert sampled(3) == sampled(3)
    assert sampled(3) != sampled(4)
    assert sampled(None) != sampled(None)


def test_sampling_draws_one_number_a_token_from_pcg64(session: Any, model: GeneratorSession) -> None:
    random, prompt = new_generator(5), list(PROMPTS[0])
    for token in model.stream(PROMPTS[0], GenerationOptions(temperature=2.0, seed=5, max_new_tokens=10)):
        logits = last_logits(session, prompt, CONTEXT).astype(np.float64)
        logits[list(SPECIAL[1:])] = -np.inf
        weights = np.exp((logits - logits.max()) / 2.0)
        assert token == int(np.searchsorted(np.cumsum(weights) / weights.sum(), random.random(), side="right"))
        prompt.append(token)


def test_the_callers_word_ends_the_answer_with_the_token_it_was_said_of(model: GeneratorSession) -> None:
    tokens = list(model.stream(PROMPTS[0], GenerationOptions()))
    seen: list[int] = []
    stream = model.stream(PROMPTS[0], GenerationOptions(), lambda token: seen.append(token) or len(seen) == 4)
    assert list(stream) == seen == tokens[:4]
    assert stream.finish_reason == "stop"


def test_streams_may_be_interleaved_and_dropped(model: GeneratorSession) -> None:
    options = GenerationOptions(max_new_tokens=20)
    expected = [list(model.stream(prompt, options)) for prompt in PROMPTS]
    dropped = model.stream([9, 9], options)
    next(dropped)
    dropped.close()
    assert list(dropped) == []
    streams = [model.stream(prompt, options) for prompt in PROMPTS]
    found: list[list[int]] = [[] for _ in PROMPTS]
    for _ in range(20):
        for stream, ids in zip(streams, found, strict=True):
            ids.extend(itertools.islice(stream, 1))
    assert found == expected


def test_threads_share_one_model(model: GeneratorSession) -> None:
    options = GenerationOptions(max_new_tokens=30, no_repeat_ngram_size=3)
    expected = [list(model.stream(prompt, options)) for prompt in PROMPTS]
    found: dict[int, list[list[int]]] = {}

    def work(thread: int) -> None:
        found[thread] = [list(model.stream(prompt, options)) for _ in range(5) for prompt in PROMPTS]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers == expected * 5 for answers in found.values())
    assert len(found) == 16


def test_a_thousand_answers_of_random_lengths_leave_memory_flat(model: GeneratorSession) -> None:
    random = np.random.default_rng(0)
    prompt = np.arange(20, 110)
    after: list[int] = []
    for _ in range(5):
        for _ in range(200):
            options = GenerationOptions(max_new_tokens=int(random.integers(1, 60)), ignore_eos=True)
            list(model.stream(prompt[random.integers(0, 80) :], options))
        after.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert after[-1] - after[0] < 2_000_000  # bytes resident, after the first 200


def test_a_stream_that_is_dropped_is_freed_at_once(model: GeneratorSession) -> None:
    """With its cache: nobody waits for the collector of cycles."""
    gc.disable()
    try:
        stream = model.stream([9, 8], GenerationOptions(max_new_tokens=5))
        next(stream)
        dropped = weakref.ref(stream)
        del stream
        assert dropped() is None
    finally:
        gc.enable()


def test_the_cache_is_written_in_place(session: Any) -> None:
    layout = CacheLayout.of_graph(input_shapes(session), input_types(session))
    assert layout == CacheLayout(layers=2, kv_heads=1, head_size=8)
    cache = KVCache.empty(layout, 11)
    assert {array.shape for array in cache.arrays.values()} == {(1, 1, 11, 8)}
    assert list(KVCache.past(cache.arrays))[:2] == ["past_key_values.0.key", "past_key_values.0.value"]
    assert list(KVCache.present(cache.arrays))[-1] == "present.1.value"


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"input_ids": ["batch", "sequence"]},
        {"past_key_values.0.key": ["b", 2, "c", 8]},
        {"past_key_values.0.key": ["b", 2, "c", 8], "past_key_values.0.value": ["b", 2, "c", 16]},
        {"past_key_values.0.key": ["b", 2, "c", 8], "past_key_values.1.value": ["b", 2, "c", 8]},
        {"past_key_values.0.key": ["b", "h", "c", 8], "past_key_values.0.value": ["b", "h", "c", 8]},
        {"past_key_values.0.key": ["b", 2, 8], "past_key_values.0.value": ["b", 2, 8]},
    ],
)
def test_a_graph_without_a_whole_cache_is_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(BundleRejected, match="cache inputs"):
        CacheLayout.of_graph(inputs, dict.fromkeys(inputs, "tensor(float)"))


@pytest.mark.parametrize("types", [("tensor(float)", "tensor(int8)"), ("tensor(float16)",) * 2])
def test_a_cache_of_other_numbers_is_refused(types: tuple[str, str]) -> None:
    inputs: dict[str, Any] = {f"past_key_values.0.{part}": ["b", 2, "c", 8] for part in ("key", "value")}
    with pytest.raises(BundleRejected, match="all float32 or all int8"):
        CacheLayout.of_graph(inputs, dict(zip(inputs, types, strict=True)))
    assert CacheLayout.of_graph(inputs, dict.fromkeys(inputs, "tensor(int8)")).dtype is np.int8


def other_graph(session: Session, **other: Any) -> Session:
    """The tiny session with other inputs or outputs, or that fills the logits with one value."""
    return Session(_OtherGraph(session.inference, **other), session.options, None, Worker(low=False, threads=1))


class _OtherGraph:
    def __init__(self, session: Any, *, extra: str = "", vocab: Any = 300, fill: float = 0.0) -> None:
        self._session, self._extra, self._vocab, self._fill = session, extra, vocab, fill

    def get_inputs(self) -> list[Any]:
        return [*self._session.get_inputs(), *([_Node(self._extra, [])] if self._extra else [])]

    def get_outputs(self) -> list[Any]:
        return [_Node("logits", ["batch", self._vocab])]

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self._session.run_with_iobinding(binding)
        binding.get_outputs()[0].update_inplace(np.full((1, 1, 300), self._fill, np.float32))


class _Node:
    def __init__(self, name: str, shape: list[Any]) -> None:
        self.name, self.shape, self.type = name, shape, "tensor(float)"


@pytest.mark.parametrize("other", [{"extra": "attention_mask"}, {"vocab": "vocab"}, {"vocab": None}])
def test_a_graph_outside_the_contract_is_refused(session: Any, other: dict[str, Any]) -> None:
    with pytest.raises(BundleRejected, match="accepted: inputs input_ids"):
        GeneratorSession(other_graph(session, **other), max_tokens=CONTEXT, eos_ids=(0,))


@pytest.mark.parametrize("fill", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(session: Any, fill: float, temperature: float) -> None:
    broken = GeneratorSession(other_graph(session, fill=fill), max_tokens=CONTEXT, eos_ids=(0,))
    with pytest.raises(BundleRejected, match="not finite"):
        next(broken.stream([9], GenerationOptions(temperature=temperature)))
