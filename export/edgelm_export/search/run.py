"""The search itself: costs, harms, a choice, and the metric of what was chosen; again until the goal is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import monotonic
from zlib import crc32

from edgelm_export import taskmetrics, verify
from edgelm_export.evaluation import Evaluation
from edgelm_export.finetune.data import Row
from edgelm_export.quantize import Scheme
from edgelm_export.quantize.per_layer import PerLayer
from edgelm_export.search import Goal
from edgelm_export.search.choose import Budget, choose
from edgelm_export.search.layers import TABLE, Layer, Probe
from edgelm_export.search.memory import Memory, memory_key
from edgelm_export.search.sensitivity import Limits, Maker, decisions_kept, measure_harms
from edgelm_runtime.errors import InputError, ParityError
from edgelm_runtime.tokenizer import TextTokenizer

TUNING, TUNING_TEXTS = 5, 64  # one of so many evaluation rows, and how many of them at the most
TRIALS, ROUNDS = 6, 3
MEASURING = 0.6  # of the minutes, for the layers one at a time
SMALLER = 3.3  # times than in float32 is what a choice for speed has to be, where one keeps the drop
ENCODER = ("int8-mixed", "int8-folded", "int8", "int8-blocks", "fp32")
DECODER = ("int8-static", "int8-blocks", "fp32")
TABLES = ("int8-blocks", "fp32")


@dataclass(frozen=True)
class Point:
    """A bundle that was measured. ``layers`` is the scheme of each; ``drop`` in points."""

    name: str
    layers: Mapping[str, str]
    folder: Path
    precision: str
    parity: verify.Parity
    bytes: int
    ms: float
    metric: float
    drop: float
    interval: tuple[float, float]

    @property
    def answers(self) -> bool:
        """Whether it answers like the checkpoint, as every export must."""
        return self.parity.within(verify.TOLERANCES[self.precision])


@dataclass(frozen=True)
class Found:
    """The bundle that was chosen, all that were measured, the layers, and the rows that the metric is of."""

    point: Point
    points: Sequence[Point]
    layers: Sequence[Layer]
    harms: Mapping[str, Mapping[str, float]]
    rows: Sequence[Row]
    metric: str
    memory: Memory


def search(maker: Maker, cases: Sequence[verify.Case], rows: Sequence[Row], goal: Goal, memory_path: Path) -> Found:
    """The schemes of the layers that reach the goal best, as a finished bundle.

    A fifth of ``rows``, told by a hash of the text, finds the layers' harm, and only the others count for the metric.

    Raises:
        ParityError: the drop is not met, or a limit cannot be; nothing else says so under ``best_effort``.
        InputError: too few rows.
    """
    end = monotonic() + 60 * goal.minutes
    kept, tuning = _split(rows)
    cases = [*cases, *_cases_of(maker, tuning)]
    trials = _Trials(maker, cases, kept)
    names = _names(maker, goal)
    memory = Memory.opened(memory_path, memory_key(maker.checkpoint, cases, names))
    if not memory.layers:
        memory.layers = _layers(maker, cases, names)
        memory.save()
    allowed = 0.0 if goal.limited else decisions_kept(cases, goal.points)
    begin = monotonic()
    limits = Limits(begin + MEASURING * (end - begin), allowed / (2 * len(memory.layers)))
    trials.choice({layer.name: "fp32" for layer in memory.layers}, "fp32")
    measure_harms(maker, memory.layers, cases, limits, memory)
    layers, harms = _known(memory)
    if goal.limited:
        _under_limits(trials, layers, harms, goal, end)
    else:
        for name, choice in _coarse(memory.layers, names[0]).items():
            trials.choice(choice, name)
        _within_drop(trials, layers, harms, (goal.points, allowed), end)
    point = _best(trials.points, goal, cases)
    return Found(point, trials.points, memory.layers, memory.harms, kept, trials.metric, memory)


class _Trials:
    """Bundles that were made and measured, on the rows that count."""

    def __init__(self, maker: Maker, cases: Sequence[verify.Case], rows: Sequence[Row]) -> None:
        self._maker = maker
        self._cases = cases
        self._rows = rows
        self._torch: Evaluation | None = None
        self.metric = ""
        self.points: list[Point] = []

    def _measure(self, name: str, layers: Mapping[str, str], used: Scheme) -> Point:
        """Make the bundle and measure parity, size, time and the metric that lost most.

        Raises InputError where the rows are too few for a metric.
        """
        draft, folder = self._maker.draft, self._maker.bundle(used)
        if self._torch is None:
            self._torch = taskmetrics.evaluate_checkpoint(self._maker.checkpoint, folder, draft.serves, self._rows)
        found = taskmetrics.evaluate_bundle(folder, draft.serves, self._rows)
        changes = taskmetrics.differences(self._torch, found)
        if not changes:
            raise InputError(f"{len(self._rows)} rows are left to evaluate on; give at least 20, better thousands")
        worst = min(changes, key=lambda change: change.difference)
        self.metric = worst.metric
        size = sum(path.stat().st_size for path in folder.iterdir())
        point = Point(
            name, layers, folder, used.precision, verify.measure_parity(folder, self._cases), size,
            milliseconds(folder, self._cases), worst.after, 0.0 - worst.difference,
            (0.0 - worst.interval[1], 0.0 - worst.interval[0]),
        )  # fmt: skip
        self.points.append(point)
        return point

    def choice(self, chosen: Mapping[str, str], name: str = "") -> Point:
        """The point of a choice of schemes, made and measured if it is new."""
        for point in self.points:
            if point.layers == chosen:
                return point
        number = f"choice-{len(self.points)}"
        schemes = {used: self._maker.scheme(used) for used in set(chosen.values())}
        layers = {layer: schemes[used] for layer, used in chosen.items()}
        plain = self._maker.scheme("fp32")
        return self._measure(name or number, chosen, PerLayer(layers, plain, name=number, cache=plain.cache))


def _coarse(layers: Sequence[Layer], name: str) -> dict[str, Mapping[str, str]]:
    """What a choice has to beat: everything in one scheme, and every product in its fastest."""
    return {
        f"all {name}": {layer.name: name if name in layer.costs else TABLES[0] for layer in layers},
        "all fastest": {
            layer.name: TABLES[0] if layer.kind == TABLE else min(layer.costs, key=lambda used: layer.costs[used].ms)
            for layer in layers
        },
    }


def _within_drop(
    trials: _Trials, layers: Sequence[Layer], harms: Mapping[str, Mapping[str, float]],
    wanted: tuple[float, float], end: float,
) -> None:  # fmt: skip
    """Try the fastest choice that is expected to keep the drop, and finer ones until one does.

    ``wanted`` is the drop in points, and the harm that it is expected to stand.
    """
    points, budget = wanted
    room = _room(trials.points[0], layers)
    for _ in range(TRIALS):
        if monotonic() > end:
            return
        chosen = choose(layers, harms, Budget(harm=budget, bytes=room)) or choose(layers, harms, Budget(harm=budget))
        chosen = chosen or {layer.name: "fp32" for layer in layers}
        found = trials.choice(chosen)
        if found.drop <= points and found.answers:
            return
        # What harms most for the time that it saves goes to a finer scheme first.
        budget = 0.5 * min(budget, sum(harms.get(name, {}).get(used, 0.0) for name, used in chosen.items()))


def _room(whole: Point, layers: Sequence[Layer]) -> float:
    """The bytes that the layers may have in a bundle SMALLER than the one in float32."""
    return whole.bytes / SMALLER - (whole.bytes - sum(layer.costs["fp32"].bytes for layer in layers))


def _under_limits(
    trials: _Trials, layers: Sequence[Layer], harms: Mapping[str, Mapping[str, float]], goal: Goal, end: float
) -> None:
    """Try the choice with the least harm under the limits, a little lower where the finished bundle is above them.

    Raises ParityError where no choice keeps them.
    """
    whole = trials.points[0]
    size = math.inf if goal.size_limit is None else 1e6 * goal.size_limit
    ms = math.inf if goal.latency_limit is None else goal.latency_limit
    fixed_size = whole.bytes - sum(layer.costs["fp32"].bytes for layer in layers)
    fixed_ms = max(0.0, whole.ms - sum(layer.costs["fp32"].ms for layer in layers))
    room = [size - fixed_size, ms - fixed_ms]
    for _ in range(TRIALS):
        budget = Budget(bytes=None if room[0] == math.inf else room[0], ms=None if room[1] == math.inf else room[1])
        chosen = choose(layers, harms, budget)
        if chosen is None:
            break
        found = trials.choice(chosen)
        if (found.bytes <= size and found.ms <= ms) or monotonic() > end:
            return
        room = [room[0] - max(0.0, 1.02 * (found.bytes - size)), room[1] - max(0.0, 1.02 * (found.ms - ms))]
    least_size = fixed_size + sum(min(cost.bytes for cost in layer.costs.values()) for layer in layers)
    least_ms = fixed_ms + sum(min(cost.ms for cost in layer.costs.values()) for layer in layers)
    if not goal.best_effort:
        raise ParityError(
            f"no choice of schemes keeps --size-limit {goal.size_limit} and --latency-limit {goal.latency_limit}: the "
            f"least is about {least_size / 1e6:.1f} MB, and {least_ms:.2f} ms here. Nothing was written; raise the "
            "limit, or add --best-effort"
        )
    trials.choice({layer.name: min(layer.costs, key=lambda used: layer.costs[used].bytes) for layer in layers})


def _best(points: Sequence[Point], goal: Goal, cases: Sequence[verify.Case]) -> Point:
    """The fastest of the small ones that keep the drop, timed again in turns; under limits the one that loses least.

    Where none of those that keep the drop is SMALLER than float32, the fastest of all.
    """
    if goal.limited:
        size = math.inf if goal.size_limit is None else 1e6 * goal.size_limit
        ms = math.inf if goal.latency_limit is None else goal.latency_limit
        under = [point for point in points if point.bytes <= size and point.ms <= ms and point.answers]
        return min(under or points[-1:], key=lambda point: (point.drop, point.ms))
    good = [point for point in points if point.drop <= goal.points and point.answers]
    if not good:
        best = min(points, key=lambda point: point.drop)
        if not goal.best_effort:
            raise ParityError(
                f"--max-drop {goal.points} was not reached in {goal.minutes:g} minutes: the best lost {best.drop:.2f} "
                f"points ({best.name}). Nothing was written; allow a larger drop or more --search-minutes, or add "
                "--best-effort to keep that one"
            )
        return best
    good = [point for point in good if SMALLER * point.bytes <= points[0].bytes] or good
    if len(good) == 1:
        return good[0]
    timed = [[milliseconds(point.folder, cases) for point in good] for _ in range(ROUNDS)]
    again = [replace(point, ms=median(each)) for point, each in zip(good, zip(*timed, strict=True), strict=True)]
    return min(again, key=lambda point: point.ms)


def milliseconds(folder: Path, cases: Sequence[verify.Case]) -> float:
    """Of an answer, or of a token of a generator."""
    latency = verify.measure_latency(folder, cases)
    return latency["token_ms"] if "token_ms" in latency else latency["answer_ms"]


def _split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that count for the metric, and those that find harm; the same row is always on the same side."""
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        # Not the hash that training splits by: of a development file it would leave nothing.
        parts[crc32(repr(sorted(row.items())).encode()) % TUNING == 0].append(row)
    return parts


def _names(maker: Maker, goal: Goal) -> tuple[str, ...]:
    names = DECODER if maker.checkpoint.task == "text-generation" else ENCODER
    return (*names, "int4-64") if goal.limited else names


def _layers(maker: Maker, cases: Sequence[verify.Case], names: Sequence[str]) -> list[Layer]:
    """Every layer with its cost in each scheme, for a run of as many tokens as half of the inputs have."""
    checkpoint = maker.checkpoint
    tokens = 1 if checkpoint.task == "text-generation" else int(median(len(case.ids) for case in cases))
    schemes = {name: maker.scheme(name) for name in names}

    def candidates(kind: str) -> list[Scheme]:
        return [used for name, used in schemes.items() if kind != TABLE or name in TABLES]

    probe = Probe(candidates, tokens)
    checkpoint.architecture.build(checkpoint.weights, checkpoint.config, probe, checkpoint.wanted).close()
    return list(probe.layers.values())


def _known(memory: Memory) -> tuple[list[Layer], Mapping[str, Mapping[str, float]]]:
    """The layers with the schemes that were measured, and float32; one that was not has that alone."""
    layers = [
        replace(
            layer,
            costs={
                used: cost
                for used, cost in layer.costs.items()
                if used == "fp32" or used in memory.harms.get(layer.name, {})
            },
        )
        for layer in memory.layers
    ]
    return layers, memory.harms


def _cases_of(maker: Maker, rows: Sequence[Row]) -> list[verify.Case]:
    """Texts of a classifier's rows with torch's answers; none of other tasks, whose rows are no plain texts."""
    from edgelm_export.graph_reference import reference_of

    draft, checkpoint = maker.draft, maker.checkpoint
    texts = [str(row["text"]) for row in rows if row.get("text")][:TUNING_TEXTS]
    if checkpoint.task != "text-classification" or checkpoint.wanted.pairs or not texts:
        return []
    tokenizer = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
    read = [verify.row_of(tokenizer, None, text) for text in texts]
    answers = reference_of(checkpoint).logits(read)
    return [
        verify.Case(draft.serves[0], text, row.ids, expected)
        for text, row, expected in zip(texts, read, answers, strict=True)
    ]
