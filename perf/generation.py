"""Tokens a second and time to the first token of the default summary and description bundles."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from edgelm_runtime.machine import default_threads
from perf.bench import Figure, Report, arguments, bundle_for, graph_bytes, in_turns

PROMPTS = {
    (
        "summary",
        "en",
    ): "I love this sweater! It is soft and warm, the colour is just as it looks in the picture, and "
    "it fits true to size. I have worn it to work with jeans and boots and got many compliments.",
    (
        "summary",
        "zh",
    ): "这款连衣裙采用柔软的棉质面料，穿着透气舒适。简约的圆领设计修饰颈部线条，收腰的版型显得身材修长"
    "，裙摆上的碎花图案清新自然，适合春夏出游时穿着。",
    ("description", "zh"): "类型#裙*颜色#白色*风格#简约*裙型#百褶裙*裙长#半身裙",
    ("description", "en"): "name: aurora 14; type: laptop; pricerange: moderate; batteryrating: good; drive: 320 gb",
}
TOKENS, SMOKE_TOKENS = 64, 8
READS = 20


@dataclass(frozen=True)
class Decoded:
    """One answer: milliseconds to the first token, and tokens a second after it."""

    first_ms: float
    tokens_per_second: float


def main() -> None:
    given = arguments("First token and tokens a second, greedy, one answer at a time.", rounds=9)
    report = Report(
        "generation",
        given.smoke,
        excludes="loading, tokenizing, one answer of each; the end token is ignored",
        facts={"threads": default_threads()},
    )
    loaded = {task: _load(task, given) for task in dict.fromkeys(task for task, _ in PROMPTS)}
    bandwidth: dict[int, float] = {}
    for (task, language), text in PROMPTS.items():
        model = loaded[task]
        model = model.for_language(language) if hasattr(model, "for_language") else model
        ids = model.tokenize(text)[: model.context // 2]
        count = min(SMOKE_TOKENS if given.smoke else TOKENS, model.context - len(ids))
        size = graph_bytes(model.bundle.path)
        if size not in bandwidth:
            bandwidth[size] = _read_bandwidth(size)
            report.facts[f"{model.bundle.manifest.name}: graph"] = f"{size:,} bytes"
            report.facts[f"{model.bundle.manifest.name}: reads of that size"] = f"{bandwidth[size] / 1e9:.1f} GB/s"
        (answers,) = in_turns(given.rounds, _decoding(model, ids, count))
        name = f"{task} {language}, {len(ids)} + {count} tokens"
        speeds = [answer.tokens_per_second for answer in answers]
        report.add(
            Figure(f"{name}: first", "ms", [answer.first_ms for answer in answers]),
            Figure(f"{name}: next", "tokens/s", speeds, ceiling=bandwidth[size] / size),
        )
    report.print()


def _load(task: str, given: argparse.Namespace) -> Any:
    import edgelm

    folder = bundle_for(task, given)
    return edgelm.load(task) if folder is None else edgelm.load(folder, task=task)


def _decoding(model: Any, ids: list[int], count: int) -> Any:
    model.generator.prefixes.limit_bytes = 0  # every round reads the prompt

    def decode() -> Decoded:
        start = perf_counter()
        tokens = model.stream_ids(
            ids, max_new_tokens=count, temperature=0.0, ignore_eos=True, prompt_lookup_num_tokens=0
        )
        next(tokens)
        first = perf_counter()
        rest = sum(1 for _ in tokens)
        return Decoded(1000 * (first - start), rest / (perf_counter() - first))

    return decode


def _read_bandwidth(size: int) -> float:
    """Bytes a second that all threads together read from `size` bytes, the best of a few passes.

    Every weight is read once a token: graph bytes over this is what no decoder without speculation can beat. A graph
    that fits into the cache is read from there, here as well as when decoding.
    """
    import numpy as np

    threads = default_threads()
    parts = np.array_split(np.ones(max(size // 8, threads), np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:
        best = float("inf")
        for _ in range(READS):
            start = perf_counter()
            list(pool.map(np.sum, parts))
            best = min(best, perf_counter() - start)
    return size / best


if __name__ == "__main__":
    main()
