"""How much the answers move when one layer alone is in another scheme, and how much they may move."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from edgelm_export import verify
from edgelm_export.checkpoint import Checkpoint
from edgelm_export.quantize import Scheme
from edgelm_export.quantize.per_layer import PerLayer
from edgelm_export.search.deadline import Deadline, TimeIsUp
from edgelm_export.search.layers import Layer
from edgelm_export.search.memory import Memory
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks.probabilities import softmax


class Maker(Protocol):
    """Makes bundles of one checkpoint: what the export is made from."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the weights come from."""

    @property
    def draft(self) -> Manifest:
        """What the bundles say."""

    def scheme(self, name: str) -> Scheme:
        """The scheme of that name, with what was measured of the checkpoint."""

    def bundle(self, used: Scheme) -> Path:
        """The folder of a bundle in that scheme, named after it."""


@dataclass(frozen=True)
class Limits:
    """When to stop: at the ``deadline``, and at a layer once its harm is ``enough``."""

    deadline: Deadline
    enough: float


def measure_harms(
    maker: Maker, layers: Sequence[Layer], cases: Sequence[verify.Case], limits: Limits, memory: Memory
) -> None:
    """Fill ``memory.harms``: the mean distance to torch with one layer at a time quantized, everything else float32.

    The largest layers come first, and of a layer the fastest schemes; slower ones that are not faster than float32 or
    come after one that harms little are left out. What is under way at the deadline is thrown away.
    """
    plain = maker.scheme("fp32")
    order = sorted(layers, key=lambda layer: -layer.costs["fp32"].bytes)
    with tqdm(total=len(order), desc="layers", unit="layer", disable=None) as bar, suppress(TimeIsUp):
        for layer in order:
            for used in sorted(set(layer.costs) - {"fp32"}, key=lambda name: layer.costs[name].ms):
                harm = memory.harms.get(layer.name, {}).get(used)
                if harm is None:
                    chosen = PerLayer({layer.name: maker.scheme(used)}, plain, name="probe")
                    harm = _distance(maker, chosen, cases, limits.deadline)
                    memory.note(layer.name, used, harm)
                if harm <= limits.enough:
                    break
            bar.update()


def _distance(maker: Maker, used: Scheme, cases: Sequence[verify.Case], deadline: Deadline) -> float:
    deadline.check()
    folder = maker.bundle(used)
    try:
        return verify.mean_distance(folder, cases, deadline.check)
    finally:
        shutil.rmtree(folder)


def decisions_kept(cases: Sequence[verify.Case], points: float) -> float:
    """The mean distance that turns at most ``points`` percent of the decisions, by torch's own margins.

    A distance of d moves the two most probable classes towards each other by 2 d at the most: only where they are no
    further apart can the answer change. 0 points give 0.
    """
    margins = []
    for case in cases:
        likely = np.sort(softmax(case.expected), axis=-1)
        margins.append(float((likely[..., -1] - likely[..., -2]).min()) / 2 if likely.shape[-1] > 1 else 1.0)
    return float(np.quantile(margins, min(points, 100.0) / 100)) if points > 0 else 0.0
