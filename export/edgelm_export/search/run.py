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
from edgelm_export.search import Goal
from edgelm_export.search.choose import Budget, choose
from edgelm_export.search.deadline import Deadline, TimeIsUp
from edgelm_export.search.layers import TABLE, Layer, Probe
from edgelm_export.search.memory import Memory, memory_key
from edgelm_export.search.sensitivity import Limits, Maker, decisions_kept, measure_harms
from edgelm_export.search.trials import Point, Trials
from edgelm_runtime.errors import ParityError
from edgelm_runtime.tasks import ENCODERS
from edgelm_runtime.tasks.reading import Text

TUNING, TUNING_TEXTS = 5, 64  # one of so many evaluation rows, and how many of them at the most
TRIALS = 6
MEASURING = 0.6  # of the minutes, for the layers one at a time
SMALLER = 3.3  # times than in float32 is what a choice for speed has to be, where one keeps the drop
# Of a generator none whose scale depends on the neighbours: other beams or answers would change it.
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "text-generation": ("int8-static", "int8-blocks", "fp32"),
    "text2text-generation": ("int8-mixed", "int8-static", "int8-blocks", "fp32"),
}
ENCODER = ("int8-mixed", "int8-whole", "int8-folded", "int8", "int8-blocks", "fp32")
TABLES = ("int8-blocks", "fp32")


@dataclass(frozen=True)
class Found:
    """The bundle that was chosen, all that were measured, the layers, and the rows that the metric is of.

    ``torch`` is what the checkpoint answered. ``unfinished`` says what the time was not enough for.
    """

    point: Point
    points: Sequence[Point]
    layers: Sequence[Layer]
    harms: Mapping[str, Mapping[str, float]]
    rows: Sequence[Row]
    torch: Evaluation
    metric: str
    memory: Memory
    unfinished: str


def search(maker: Maker, cases: Sequence[verify.Case], rows: Sequence[Row], goal: Goal, memory_path: Path) -> Found:
    """The schemes of the layers that reach the goal best, as a finished bundle.

    A fifth of ``rows``, told by a hash of the text, finds the layers' harm, and only the others count for the metric.

    Raises:
        ParityError: the drop is not met, or a limit cannot be; nothing else says so under ``best_effort``.
        InputError: too few rows.
    """
    begin = monotonic()
    kept, tuning = _split(rows)
    every = [*cases, *_cases_of(maker, tuning)]
    names = _names(maker, goal)
    memory = Memory.opened(memory_path, memory_key(maker.checkpoint, every, names))
    trials = Trials(maker, every, kept, cases)
    deadline = Deadline(begin + 60 * goal.minutes)
    trials.until(deadline)
    unfinished = ""
    try:
        if not memory.layers:
            memory.layers = _layers(maker, every, names, deadline)
            memory.save()
        look = _under_limits if goal.limited else _within_drop
        look(_Search(maker, trials, memory, goal, deadline), names[0])
        if 0 < len(memory.harms) < len(memory.layers):
            unfinished = _unfinished(trials, memory, goal)
    except TimeIsUp:
        unfinished = _unfinished(trials, memory, goal)
    point = _best(trials, goal)
    return Found(
        point, trials.points, memory.layers, memory.harms, kept, trials.measure.torch, trials.metric, memory, unfinished
    )


@dataclass(frozen=True)
class _Search:
    """What both kinds of search have."""

    maker: Maker
    trials: Trials
    memory: Memory
    goal: Goal
    deadline: Deadline

    def harms(self, allowed: float) -> tuple[list[Layer], Mapping[str, Mapping[str, float]]]:
        """The harm of the layers, as far as the time for it goes, and the layers with the schemes that have one."""
        now = monotonic()
        limits = Limits(Deadline(now + MEASURING * (self.deadline.end - now)), allowed / (2 * len(self.memory.layers)))
        measure_harms(self.maker, self.memory.layers, self.trials.measure.cases, limits, self.memory)
        return _known(self.memory)


def _within_drop(search: _Search, name: str) -> None:
    """Try everything in one scheme, then the fastest choice that is expected to keep the drop.

    A finer one where it does not. Where it does, and everything in its fastest scheme did not, a coarser one: the harm
    that may be is halved, in logarithms, between the most that kept the drop and the least that did not.
    """
    trials, points = search.trials, search.goal.points
    tried = [trials.choice(choice, one) for one, choice in _coarse(search.memory.layers, name).items()]
    budget = decisions_kept(trials.measure.cases, points)
    layers, harms = search.harms(budget)
    room, kept, lost = _room(trials.points[0], layers), 0.0, _harm(tried[-1].layers, harms)
    for _ in range(TRIALS):
        search.deadline.check()
        chosen = choose(layers, harms, Budget(harm=budget, bytes=room)) or choose(layers, harms, Budget(harm=budget))
        found = trials.choice(chosen or {})
        if found.keeps(points):
            kept = budget
        else:  # what harms most for the time that it saves goes to a finer scheme first
            lost = min(budget, _harm(found.layers, harms))
        if (found.keeps(points) and tried[-1].keeps(points)) or lost <= 2.0 * kept:
            return
        budget = math.sqrt(kept * lost) if kept else 0.5 * lost


def _harm(chosen: Mapping[str, str], harms: Mapping[str, Mapping[str, float]]) -> float:
    return sum(harms.get(layer, {}).get(used, 0.0) for layer, used in chosen.items())


def _coarse(layers: Sequence[Layer], name: str) -> dict[str, Mapping[str, str]]:
    """What a choice has to beat: everything in one scheme, and every product in its fastest."""
    return {
        f"all {name}": {layer.name: name if name in layer.costs else TABLES[0] for layer in layers},
        "all fastest": {
            layer.name: TABLES[0] if layer.kind == TABLE else min(layer.costs, key=lambda used: layer.costs[used].ms)
            for layer in layers
        },
    }


def _room(whole: Point, layers: Sequence[Layer]) -> float:
    """The bytes that the layers may have in a bundle SMALLER than the one in float32."""
    return whole.bytes / SMALLER - (whole.bytes - sum(layer.costs["fp32"].bytes for layer in layers))


def _under_limits(search: _Search, name: str) -> None:
    """Try the least there is, then the choice with the least harm under the limits, lower where it is above them."""
    trials, size, ms = search.trials, search.goal.most_bytes, search.goal.most_ms
    every = search.memory.layers
    least = trials.choice({each.name: min(each.costs, key=lambda used: each.costs[used].bytes) for each in every},
                          "all smallest")  # fmt: skip
    if least.bytes > size:
        return  # there is nothing to look for
    if search.goal.latency_limit is not None:
        trials.choice({each.name: min(each.costs, key=lambda used: each.costs[used].ms) for each in every},
                      "all fastest")  # fmt: skip
    layers, harms = search.harms(0.0)
    whole = trials.points[0]
    room = [
        size - (whole.bytes - sum(layer.costs["fp32"].bytes for layer in layers)),
        ms - max(0.0, whole.ms - sum(layer.costs["fp32"].ms for layer in layers)),
    ]
    for _ in range(TRIALS):
        chosen = choose(layers, harms, Budget(bytes=room[0], ms=room[1]))
        if chosen is None:
            return
        found = trials.choice(chosen)
        if found.bytes <= size and found.ms <= ms:
            return
        room = [room[0] - max(0.0, 1.02 * (found.bytes - size)), room[1] - max(0.0, 1.02 * (found.ms - ms))]


def _best(trials: Trials, goal: Goal) -> Point:
    """The fastest of the small ones that keep the drop, timed again in turns; under limits the one that loses least.

    Where none of those that keep the drop is SMALLER than float32, the fastest of all.
    """
    if goal.limited:
        return _best_under(trials, goal)
    points = trials.points
    good = [point for point in points if point.keeps(goal.points)]
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
    return good[0] if len(good) == 1 else min(trials.timed_again(good), key=lambda point: point.ms)


def _best_under(trials: Trials, goal: Goal) -> Point:
    right = [point for point in trials.points if point.answers] or trials.points
    if goal.latency_limit is not None:
        right = trials.timed_again(right)
    under = [point for point in right if point.answers and goal.excess(point.bytes, point.ms) <= 1]
    if under:
        return min(under, key=lambda point: (point.drop, point.ms))
    if not goal.best_effort:
        smallest, fastest = min(point.bytes for point in right), min(point.ms for point in right)
        raise ParityError(
            f"{goal.limits} was not reached: of the bundles that answer like the checkpoint the smallest has "
            f"{smallest / 1e6:.3g} MB, and the fastest takes {fastest:.3g} ms here. Nothing was written; raise the "
            "limit or --search-minutes, or add --best-effort to keep the nearest"
        )
    return min(right, key=lambda point: goal.excess(point.bytes, point.ms))


def _unfinished(trials: Trials, memory: Memory, goal: Goal) -> str:
    """What the time was not enough for."""
    thrown = f"; {trials.under_way} was being measured and is not counted" if trials.under_way else ""
    layers = f"{len(memory.harms)} of {len(memory.layers)} layers" if memory.layers else "no layer"
    return f"{goal.minutes:g} minutes were not enough for the whole search: {layers} had been measured alone{thrown}"


def _split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that count for the metric, and those that find harm; the same row is always on the same side."""
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        # Not the hash that training splits by: of a development file it would leave nothing.
        parts[crc32(repr(sorted(row.items())).encode()) % TUNING == 0].append(row)
    return parts


def _names(maker: Maker, goal: Goal) -> tuple[str, ...]:
    names = SCHEMES.get(maker.checkpoint.task, ENCODER)
    return (*names, "int4-64") if goal.limited else names


def _layers(maker: Maker, cases: Sequence[verify.Case], names: Sequence[str], deadline: Deadline) -> list[Layer]:
    """Every layer with its cost in each scheme: of an answer to the median text, or of a token of a generator.

    Raises:
        TimeIsUp: the deadline passed before the last of them was measured.
    """
    checkpoint = maker.checkpoint
    text = int(median(len(case.ids) for case in cases))
    schemes = {name: maker.scheme(name) for name in names}

    def candidates(kind: str) -> list[Scheme]:
        return [] if deadline.passed else [used for name, used in schemes.items() if kind != TABLE or name in TABLES]

    probe = Probe(candidates, text if maker.draft.serves[0] in ENCODERS else 1, text)
    checkpoint.architecture.build(checkpoint.weights, checkpoint.config, probe, checkpoint.wanted).close()
    deadline.check()
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
    """What the model reads of the rows, with torch's answers."""
    draft = maker.draft
    inputs: list[tuple[str, Text]]
    if draft.serves[0] in ENCODERS:
        texts = [(str(row["text"]), str(row.get("text_pair", ""))) for row in rows]
        inputs = [(draft.serves[0], pair if draft.pairs else pair[0]) for pair in texts]
    else:
        inputs = [(pair.task, pair.source) for pair in taskmetrics.evaluation_pairs(rows, draft.serves)]
    return verify.consult(maker.checkpoint, draft, inputs=inputs[:TUNING_TEXTS])[0] if inputs else []
