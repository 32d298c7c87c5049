"""What the decode loop adds to the graph, and what company, lookup, known prompts and rules on words do to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.tasks import TASKS
from perf.bench import Figure, Report, arguments, bundle_for, in_turns

PRODUCT = "类型#裙*颜色#白色*风格#简约*裙型#百褶裙*材质#棉"
TEXT = (
    "The sweater is soft and warm, and it fits true to size. The colour is just as it looks in the picture. I have "
    "worn the sweater to work with jeans and boots, and I got many compliments. The sweater is a great buy for "
    "the winter. "
)
TOKENS, SMOKE_TOKENS = 96, 8
TOGETHER = 4


def main() -> None:
    given = arguments("The decode loop: ratios to one plain greedy answer.", rounds=15)
    report = Report("engine", given.smoke, excludes="loading, tokenizing, one answer of each kind")
    count = SMOKE_TOKENS if given.smoke else TOKENS
    model = _load("description", given) if "description" in _served(given) else _load("summary", given)
    ids = model.tokenize(PRODUCT)[: model.context // 2]
    count = min(count, model.context - len(ids))
    _loop(report, given.rounds, model, ids, count)
    if "description" in _served(given):
        _words(report, given.rounds, model)
    if "summary" in _served(given):
        _reading(report, given.rounds, _load("summary", given), 1 if given.smoke else 3)
    report.print()


def _served(given: argparse.Namespace) -> tuple[str, ...]:
    """Tasks of the bundle that is measured."""
    folder = bundle_for("summary", given)
    return TASKS if folder is None else open_bundle(folder, verify="lazy").manifest.serves


def _load(task: str, given: Any) -> Any:
    import edgelm

    folder = bundle_for(task, given)
    return edgelm.load(task) if folder is None else edgelm.load(folder, task=task)


def _loop(report: Report, rounds: int, model: Any, ids: list[int], count: int) -> None:
    """Several answers at once, and the share of a token that is not spent in onnxruntime."""
    from edgelm_runtime.generate import runs
    from edgelm_runtime.generate.batch import Request, generate_together

    options = model.options(max_new_tokens=count, temperature=0.0, ignore_eos=True, prompt_lookup_num_tokens=0)
    model.generator.prefixes.limit_bytes = 0
    inside = [0.0]
    run_bound = runs.run_bound

    def timed(*given: Any) -> None:
        start = perf_counter()
        run_bound(*given)
        inside[0] += perf_counter() - start

    def alone() -> tuple[float, float]:
        stream = model.generator.stream(ids, options)
        next(stream)
        inside[0], start = 0.0, perf_counter()
        list(stream)
        seconds = perf_counter() - start
        return seconds / (count - 1), 1 - inside[0] / seconds

    def together() -> tuple[float, float]:
        start = perf_counter()
        generate_together(model.generator, [Request(ids, options)] * TOGETHER)
        whole = perf_counter() - start
        start = perf_counter()
        generate_together(model.generator, [Request(ids, model.options(max_new_tokens=1))] * TOGETHER)
        return (whole - (perf_counter() - start)) / (count - 1) / TOGETHER, 0.0

    runs.run_bound = timed
    one, many = in_turns(rounds, alone, together)
    runs.run_bound = run_bound
    ratios = [single[0] / shared[0] for single, shared in zip(one, many, strict=True)]
    report.add(
        Figure("a token, one answer", "ms", [1000 * seconds for seconds, _ in one]),
        Figure("outside onnxruntime / a token", "", [share for _, share in one], at_most=0.05),
        Figure(f"tokens/s, {TOGETHER} answers / one", "", ratios, at_least=2.5),
    )


def _words(report: Report, rounds: int, model: Any) -> None:
    """A description, text included, with rules on words, by the token: an answer may become longer or shorter."""
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"absolute_terms": True},
        "absolute terms and 500 phrases banned": {"banned": tuple(f"词{number}语" for number in range(500))},
        "facts locked": {"absolute_terms": True, "facts": "locked"},
    }

    def writing(options: dict[str, Any]) -> Callable[[], float]:
        def write() -> float:
            start = perf_counter()
            answer = model(PRODUCT, temperature=0.0, prompt_lookup_num_tokens=0, **options)
            return (perf_counter() - start) / max(answer.tokens, 1)

        return write

    plain, *ruled = in_turns(rounds, *map(writing, kinds.values()))
    for name, seconds in zip(list(kinds)[1:], ruled, strict=True):
        ratios = [mine / base for mine, base in zip(seconds, plain, strict=True)]
        report.add(Figure(f"{name} / plain", "", ratios, at_most=1.05))


def _reading(report: Report, rounds: int, model: Any, times: int) -> None:
    """A summary with and without prompt lookup, and a prompt that was read before."""
    ids = model.tokenize(TEXT * times)[: model.context // 2]
    count = model.context // 4

    def answering(lookup: int) -> Callable[[], tuple[float, float]]:
        def answer() -> tuple[float, float]:
            model.generator.prefixes.limit_bytes = 0
            start = perf_counter()
            stream = model.stream_ids(ids, max_new_tokens=count, temperature=0.0, prompt_lookup_num_tokens=lookup)
            tokens = len(list(stream))
            seconds = perf_counter() - start
            found = stream.lookup
            accepted = found.accepted / found.proposed if found is not None and found.proposed else 0.0
            return tokens / seconds, accepted

        return answer

    def first(limit: int) -> Callable[[], tuple[float, float]]:
        def read() -> tuple[float, float]:
            model.generator.prefixes.limit_bytes = limit
            for _ in range(3):  # the second shows that the prompt repeats, and leaves it to the third
                start = perf_counter()
                list(model.stream_ids(ids, max_new_tokens=1, temperature=0.0))
            return perf_counter() - start, 0.0

        return read

    plain, looked_up, new, known = in_turns(rounds, answering(0), answering(8), first(0), first(1 << 26))
    report.facts["summary prompt"] = f"{len(ids)} tokens"
    report.add(
        Figure("summary, lookup / without: tokens/s", "", [b[0] / a[0] for a, b in zip(plain, looked_up, strict=True)]),
        Figure("summary, proposed tokens accepted", "", [accepted for _, accepted in looked_up]),
        Figure("first token, known prompt / new one", "", [b[0] / a[0] for a, b in zip(new, known, strict=True)]),
    )


if __name__ == "__main__":
    main()
