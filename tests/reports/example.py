"""Reports with every part filled, for those who show them: a classifier's and a writer's, numbers of a real size."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from edgelm_runtime.profile import report as r
from edgelm_runtime.profile.summary import histogram, summarize

_OPERATORS = (
    ("/encoder/layer.{}/ffn/up", "MatMulIntegerToFloat", "16x384, 384x1536", 0.31),
    ("/encoder/layer.{}/ffn/down", "MatMulIntegerToFloat", "16x1536, 1536x384", 0.27),
    ("/encoder/layer.{}/attention", "QAttention", "1x16x384, 384x1152", 0.19),
    ("/encoder/layer.{}/norm", "LayerNormalization", "1x16x384", 0.05),
    ("/embeddings/gather", "Gather", "30522x384, 1x16", 0.03),
)


def classifier() -> r.Report:
    """A classifier's report, every part but generation and energy."""
    noise = random.Random(1)
    infer = [noise.lognormvariate(0.8, 0.18) for _ in range(592)]
    tokenize = [noise.uniform(0.08, 0.2) for _ in infer]
    total = [sum(pair) for pair in zip(infer, tokenize, strict=True)]
    lengths = [noise.randint(4, 60) for _ in range(37)]
    return r.Report(
        schema=r.SCHEMA, created="2026-11-22T22:50:00+00:00", seconds=31.2, complete=True,
        subject=_subject("sentiment-en", "sentiment"), machine=_machine(),
        inputs=r.Inputs("goldens", len(lengths), summarize(lengths), histogram(lengths, 10)),
        cold=_cold(noise),
        steady=_steady({"tokenize": tokenize, "infer": infer}, total, texts=37),
        scenarios=_scenarios(total),
        throughput=tuple(
            r.Throughput(batch, threads, summarize([noise.gauss(rate, rate / 40) for _ in range(8)]))
            for batch, threads, rate in (
                (1, 2, 402), (2, 2, 460), (4, 2, 521), (8, 2, 566), (16, 2, 575), (32, 2, 571), (1, 1, 231),
            )
        ),
        memory=_memory(noise),
        operators=_operators(),
        ceiling=r.Ceiling(13.2e9, 262e9, 22_700_000, 340_000_000, 1.72, 2.31, 0.74, "memory", (
            r.Point("MatMulIntegerToFloat", 21_000_000, 320_000_000, 1.9),
            r.Point("QAttention", 900_000, 14_000_000, 0.3),
        )),
        advice=(
            r.Advice("two texts in a call are answered faster", "model.batch(texts)", 402.0, 575.0, "texts/s"),
            r.Advice("one thread waits less for the others", "--threads 1", 2.42, 2.2, "ms"),
        ),
        trust=r.Trust("VALID", (), ("the first answers to every text, which warm up",), 0.01, 0.031),
        left_out=("energy: no counter of this machine can be read",),
    )  # fmt: skip


def writer() -> r.Report:
    """A writer's report: generation and energy too, interrupted, and noisy."""
    noise = random.Random(2)
    infer = [noise.gauss(180, 25) for _ in range(64)]
    stages: Mapping[str, list[float]] = {
        "tokenize": [noise.uniform(0.2, 0.5) for _ in infer],
        "infer": infer,
        "sample": [noise.uniform(14, 22) for _ in infer],
        "detokenize": [noise.uniform(0.6, 1.6) for _ in infer],
    }
    total = [sum(answer) for answer in zip(*stages.values(), strict=True)]
    return replace(
        classifier(),
        complete=False,
        subject=_subject("writer", "summary"),
        steady=_steady(stages, total, texts=8),
        generation=r.Generation(
            summarize([noise.gauss(38, 2) for _ in infer]), summarize([noise.gauss(4.1, 0.4) for _ in range(900)]),
            summarize([noise.gauss(244, 14) for _ in infer]), summarize([noise.randint(20, 64) for _ in infer]),
            lookup=0.31, prefix_hits=0.94,
        ),
        energy=r.Energy("intel-rapl:0", 1.94, 23.1, 6.4),
        trust=r.Trust(
            "NOISY", (
                "other programs took 38% of the 2 usable cores (accepted: 10%)",
                "too few runs: 5 of each text (at least 6); give more --seconds",
            ),
            ("the file cache is warm",), 0.38, 0.092,
        ),
        scenarios=None, throughput=None, advice=(), left_out=("scenarios: the profile was interrupted",),
    )  # fmt: skip


def _steady(stages: Mapping[str, list[float]], total: list[float], texts: int) -> r.Steady:
    rounds = [sum(total[start : start + texts]) / texts for start in range(0, len(total), texts)]
    found = {name: summarize(times) for name, times in stages.items()}
    return r.Steady(found, summarize(total), histogram(total), summarize(rounds), texts, drift=0.004)


def _subject(bundle: str, task: str) -> r.Subject:
    return r.Subject(
        bundle=bundle, sha256="5b" * 32, task=task, variant="int8", precision="int8-mixed", device="cpu",
        provider="CPUExecutionProvider", threads=2, low_priority=False, edgelm="0.1.0", onnxruntime="1.31.1",
        notes=("2 threads: the usable cores",),
    )  # fmt: skip


def _machine() -> r.Machine:
    return r.Machine(
        cpu="Intel(R) Xeon(R) Platinum 8488C", isa=("avx2", "avx512f", "avx512_vnni", "amx_int8"), cores=2,
        memory=8_200_000_000, system="Linux-6.1", python="3.11.7", governor="performance", mhz=(2400.0, 2410.0),
        throttled=False,
    )  # fmt: skip


def _cold(noise: random.Random) -> r.ColdStart:
    usual = {
        "interpreter": 31.0, "imports": 118.0, "verification": 21.0, "session": 164.0, "goldens": 42.0,
        "first_answer": 9.5, "exit": 12.0,
    }  # fmt: skip
    samples = {name: [noise.gauss(ms, ms / 20) for _ in range(9)] for name, ms in usual.items()}
    total = [sum(parts) for parts in zip(*samples.values(), strict=True)]
    return r.ColdStart({name: summarize(times) for name, times in samples.items()}, summarize(total))


def _scenarios(latencies: list[float]) -> r.Scenarios:
    rates = ((40.0, 1.3), (80.0, 1.6), (160.0, 2.1), (240.0, 3.4), (280.0, 4.6), (300.0, 9.0))
    tries = tuple(r.ServerTry(rate, summarize([ms * by for ms in latencies]), by <= 3.4) for rate, by in rates)
    return r.Scenarios(
        r.SingleStream(summarize(latencies)),
        r.Server(12.0, 240.0, 2, tries, ""),
        r.Offline(summarize([566.0, 571.0]), 16),
    )


def _memory(noise: random.Random) -> r.Memory:
    points = tuple(
        r.MemoryPoint(second / 2, second * 200, int(112e6 + 3e6 * (1 - 0.7**second) + noise.uniform(0, 2e5)))
        for second in range(20)
    )
    return r.Memory(61_000_000, 112_000_000, 116_400_000, 1_900.0, 900.0, points)


def _operators() -> r.Operators:
    top = tuple(
        r.Operator(name.format(layer), op, "CPUExecutionProvider", shapes, 1.0, share * 2.1 / (layer + 2), share / 6)
        for layer in range(2)
        for name, op, shapes, share in _OPERATORS
    )
    return r.Operators(tuple(sorted(top, key=lambda one: -one.share)), 48, 2.1, 0.18)
