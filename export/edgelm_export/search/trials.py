"""Bundles that a search made and measured whole: parity, size, time, and the metric with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tqdm import tqdm

from edgelm_export import taskmetrics, verify
from edgelm_export.evaluation import Evaluation
from edgelm_export.finetune.data import Row
from edgelm_export.goldens import make_goldens
from edgelm_export.quantize.per_layer import PerLayer
from edgelm_export.search.deadline import Deadline
from edgelm_export.search.sensitivity import Maker
from edgelm_export.tolerance import TOLERANCES
from edgelm_runtime.errors import InputError
from edgelm_runtime.tasks import ENCODERS

ROUNDS = 3
FIGURES = 30_000  # bytes of quality figures in a manifest: of ten bundles, and the names of 300 layers


@dataclass(frozen=True)
class Point:
    """A bundle that was measured. ``layers`` has the scheme of each that is not in float32; ``drop`` is in points.

    ``bytes`` are those of the finished bundle, with room for the goldens and the figures that are not made yet.
    """

    name: str
    layers: Mapping[str, str]
    folder: Path
    precision: str
    parity: verify.Parity
    bytes: int
    ms: float
    evaluation: Evaluation
    metric: float
    drop: float
    interval: tuple[float, float]

    @property
    def answers(self) -> bool:
        """Whether it answers like the checkpoint, as every export must."""
        return self.parity.within(TOLERANCES[self.precision])

    def keeps(self, drop: float) -> bool:
        """Whether it loses no more than ``drop`` points, and answers like the checkpoint."""
        return self.drop <= drop and self.answers


@dataclass(frozen=True)
class Measure:
    """What bundles are measured on: ``cases`` for parity and time, ``rows`` for the metric."""

    cases: Sequence[verify.Case]
    rows: Sequence[Row]
    torch: Evaluation
    extra_bytes: int


class Trials:
    """Makes bundles and measures them, until the time is up.

    The checkpoint in torch and its bundle in float32, the first of ``points``, are measured whatever time that takes:
    every other is compared with them. ``under_way`` is the name of one that was begun.

    Raises:
        InputError: the rows are too few for a metric.
    """

    def __init__(
        self, maker: Maker, cases: Sequence[verify.Case], rows: Sequence[Row], goldens: Sequence[verify.Case]
    ) -> None:
        if len(rows) < 2:
            raise _too_few(rows)
        self._maker = maker
        self._deadline = Deadline()
        self.metric = ""
        self.under_way = ""
        self.points: list[Point] = []
        plain = maker.scheme("fp32")
        folder = maker.bundle(PerLayer({}, plain, name="choice-0", cache=plain.cache))
        serves = maker.draft.serves
        count = len(rows) if serves[0] in ENCODERS else len(taskmetrics.evaluation_pairs(rows, serves))
        with tqdm(total=count, desc="torch", unit="row", disable=None, leave=False) as bar:
            torch = taskmetrics.evaluate_checkpoint(maker.checkpoint, folder, serves, rows, bar.update)
        self._count = count
        self.measure = Measure(cases, rows, torch, FIGURES + len(make_goldens(folder, goldens)))
        self._add("fp32", {}, folder, plain.precision)

    def until(self, deadline: Deadline) -> None:
        """End what is measured from here on at ``deadline``."""
        self._deadline = deadline

    def choice(self, chosen: Mapping[str, str], name: str = "") -> Point:
        """The point of a choice of schemes, made and measured if it is new.

        Raises:
            TimeIsUp: at the deadline; the bundle is thrown away.
        """
        layers = {layer: used for layer, used in chosen.items() if used != "fp32"}
        for point in self.points:
            if point.layers == layers:
                return point
        number = f"choice-{len(self.points)}"
        self.under_way = name or number
        self._deadline.check()
        schemes = {used: self._maker.scheme(used) for used in set(layers.values())}
        plain = self._maker.scheme("fp32")
        used = PerLayer({layer: schemes[one] for layer, one in layers.items()}, plain, name=number, cache=plain.cache)
        point = self._add(self.under_way, layers, self._maker.bundle(used), used.precision)
        self.under_way = ""
        return point

    def timed_again(self, points: Sequence[Point]) -> list[Point]:
        """The points with the median of ROUNDS timings in turns, which are theirs from now on."""
        timed = [[milliseconds(point.folder, self.measure.cases) for point in points] for _ in range(ROUNDS)]
        again = {
            point.name: replace(point, ms=median(each))
            for point, each in zip(points, zip(*timed, strict=True), strict=True)
        }
        self.points = [again.get(point.name, point) for point in self.points]
        return list(again.values())

    def _add(self, name: str, layers: Mapping[str, str], folder: Path, precision: str) -> Point:
        measure, deadline = self.measure, self._deadline
        with tqdm(total=self._count, desc=name, unit="row", disable=None, leave=False) as bar:

            def each() -> None:
                deadline.check()
                bar.update()

            found = taskmetrics.evaluate_bundle(folder, self._maker.draft.serves, measure.rows, each)
        changes = taskmetrics.differences(measure.torch, found)
        if not changes:
            raise _too_few(measure.rows)
        worst = min(changes, key=lambda change: change.difference)
        self.metric = worst.metric
        size = measure.extra_bytes + sum(path.stat().st_size for path in folder.iterdir())
        point = Point(
            name, layers, folder, precision, verify.measure_parity(folder, measure.cases, deadline.check), size,
            milliseconds(folder, measure.cases), found, worst.after, 0.0 - worst.difference,
            (0.0 - worst.interval[1], 0.0 - worst.interval[0]),
        )  # fmt: skip
        self.points.append(point)
        return point


def _too_few(rows: Sequence[Row]) -> InputError:
    return InputError(f"{len(rows)} rows are left to evaluate on; give at least 20, better thousands")


def milliseconds(folder: Path, cases: Sequence[verify.Case]) -> float:
    """Of an answer, or of a token of a generator."""
    latency = verify.measure_latency(folder, cases)
    return latency["token_ms"] if "token_ms" in latency else latency["answer_ms"]
