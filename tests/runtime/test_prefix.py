"""The cache of prompts: what it keeps, in how many bytes, and that answers are the same with and without it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.generate.cache import CacheLayout, KVCache
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.generate.prefix import MIN_TOKENS, REMEMBERED, PrefixCache
from edgelm_runtime.generate.runs import Ids
from edgelm_runtime.session import SessionOptions, create_session

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"
LAYOUT = CacheLayout(layers=2, kv_heads=1, head_size=8)
PROMPT = np.arange(100, 140)


def model(prefix_cache_bytes: int) -> GeneratorSession:
    session = create_session(open_bundle(BUNDLE).read("model.onnx"), SessionOptions(1))
    return GeneratorSession(session, max_tokens=96, eos_ids=(), prefix_cache_bytes=prefix_cache_bytes)


def filled(value: float, capacity: int = 50) -> KVCache:
    cache = KVCache.empty(LAYOUT, capacity)
    for array in cache.arrays.values():
        array[...] = value
    return cache


def repeat(prefixes: PrefixCache, prompt: Ids, cache: KVCache) -> None:
    """Let a prompt come twice."""
    for _ in range(2):
        prefixes.keep(prompt, cache)


def test_the_longest_prefix_is_copied_and_the_last_token_is_always_read() -> None:
    prefixes = PrefixCache(1 << 20)
    repeat(prefixes, PROMPT[:20], filled(1.0))
    repeat(prefixes, np.append(PROMPT[:30], 9), filled(2.0))
    for prompt, known, value in [
        (PROMPT, 30, 2.0),
        (PROMPT[:30], 29, 2.0),
        (np.append(PROMPT[:25], 7), 25, 2.0),
        (PROMPT[: MIN_TOKENS - 1], 0, 0.0),
        (PROMPT[5:], 0, 0.0),
    ]:
        cache = KVCache.empty(LAYOUT, 60)
        assert prefixes.begin(prompt, cache) == known
        for array in cache.arrays.values():
            assert (array[:, :, :known] == value).all()
            assert (array[:, :, known:] == 0).all()


def test_hits_are_counted_and_what_is_forgotten_is_read_again() -> None:
    prefixes = PrefixCache(1 << 20)
    repeat(prefixes, PROMPT, filled(1.0))
    for prompt in (PROMPT, PROMPT[5:], PROMPT[: MIN_TOKENS - 1]):
        prefixes.begin(prompt, KVCache.empty(LAYOUT, 60))
    assert (prefixes.asked, prefixes.hits) == (3, 1)
    prefixes.forget()
    assert prefixes.nbytes == 0
    assert prefixes.begin(PROMPT, KVCache.empty(LAYOUT, 60)) == 0
    prefixes.keep(PROMPT, filled(1.0))
    assert prefixes.nbytes == 0  # it came once since then


def test_only_what_two_prompts_share_is_kept() -> None:
    prefixes = PrefixCache(1 << 20)
    prefixes.keep(np.append(PROMPT[:25], [1] * 15), filled(1.0))
    assert prefixes.nbytes == 0
    prefixes.keep(np.append(PROMPT[:25], [2] * 15), filled(2.0))
    assert prefixes.nbytes == filled(1.0, capacity=25).nbytes
    cache = KVCache.empty(LAYOUT, 60)
    assert prefixes.begin(PROMPT, cache) == 25
    assert all((array[:, :, :25] == 2.0).all() for array in cache.arrays.values())


def test_what_two_prompts_shared_long_ago_is_not_known() -> None:
    prefixes = PrefixCache(1 << 20)
    prefixes.keep(PROMPT, filled(1.0))
    for number in range(REMEMBERED):
        prefixes.keep(np.full(20, number), filled(1.0))
    prefixes.keep(PROMPT, filled(1.0))
    assert prefixes.nbytes == 0


def test_bytes_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    size = filled(0.0, capacity=40).nbytes
    prefixes = PrefixCache(2 * size)
    prompts = [np.full(40, number) for number in range(3)]
    for prompt in prompts[:2]:
        repeat(prefixes, prompt, filled(1.0))
    assert prefixes.begin(prompts[0], KVCache.empty(LAYOUT, 60)) == 39
    repeat(prefixes, prompts[2], filled(1.0))
    assert prefixes.nbytes == 2 * size
    found = [prefixes.begin(prompt, KVCache.empty(LAYOUT, 60)) for prompt in prompts]
    assert found == [39, 0, 39]
    repeat(prefixes, np.arange(400), filled(1.0, capacity=500))
    assert prefixes.nbytes == 2 * size


def test_a_lower_limit_forgets_at_once() -> None:
    prefixes = PrefixCache(1 << 20)
    repeat(prefixes, PROMPT, filled(1.0))
    prefixes.limit_bytes = 0
    assert (prefixes.limit_bytes, prefixes.nbytes) == (0, 0)
    assert prefixes.begin(PROMPT, KVCache.empty(LAYOUT, 60)) == 0


def test_a_prefix_is_kept_once() -> None:
    prefixes = PrefixCache(1 << 20)
    for prompt in (PROMPT[:30], PROMPT[:30], PROMPT, PROMPT[:30], PROMPT, PROMPT):
        prefixes.keep(prompt, filled(1.0))
    assert prefixes.nbytes == filled(1.0, capacity=len(PROMPT)).nbytes


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_the_answer_is_the_same_with_and_without(options: dict[str, float]) -> None:
    with_cache, without = model(1 << 20), model(0)
    chosen = GenerationOptions(max_new_tokens=20, **options)  # type: ignore[arg-type]
    for prompt in (PROMPT, PROMPT, PROMPT[:33], np.append(PROMPT[:22], [50, 60, 70]), PROMPT):
        assert list(with_cache.stream(prompt, chosen)) == list(without.stream(prompt, chosen))
    assert with_cache.prefixes.nbytes > 0
    assert without.prefixes.nbytes == 0


def test_threads_share_it() -> None:
    shared = model(1 << 16)
    prompts = [np.append(PROMPT[:20], [number] * (number % 7 + 1)) for number in range(20)]
    chosen = GenerationOptions(max_new_tokens=8)
    expected = [list(model(0).stream(prompt, chosen)) for prompt in prompts]
    found: dict[int, list[list[int]]] = {}

    def work(number: int) -> None:
        found[number] = [list(shared.stream(prompt, chosen)) for prompt in prompts]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(16)] == [expected] * 16
