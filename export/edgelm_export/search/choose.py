"""The choice of a scheme for every layer: an integer program over what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from edgelm_export.search.layers import Layer

Harms = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Budget:
    """What a choice may come to in all of the layers: harm, bytes, milliseconds. One of them is made the least."""

    harm: float | None = None
    bytes: float | None = None
    ms: float | None = None


def choose(layers: Sequence[Layer], harms: Harms, budget: Budget) -> dict[str, str] | None:
    """The scheme of each layer by name; None where nothing keeps the budget.

    Without a budget of harm that is what is made the least, else the milliseconds. Harm is by layer and scheme, and
    0 for the schemes of a layer that it does not name; a little of the other two decides between equals.
    """
    places = [(layer, used) for layer in layers for used in layer.costs]
    harm = np.array([harms.get(layer.name, {}).get(used, 0.0) for layer, used in places])
    size = np.array([float(layer.costs[used].bytes) for layer, used in places])
    ms = np.array([layer.costs[used].ms for layer, used in places])
    small = 1e-6 * (_share(ms) + _share(size) + _share(harm))
    cost = (_share(harm) if budget.harm is None else _share(ms)) + small
    one = np.array([[float(layer.name == each.name) for layer, _ in places] for each in layers])
    rules = [LinearConstraint(one, 1, 1)]
    for values, limit in ((harm, budget.harm), (size, budget.bytes), (ms, budget.ms)):
        if limit is not None:
            scale = max(float(values.max()), 1e-12)
            rules.append(LinearConstraint(values[None] / scale, -np.inf, limit / scale))
    found = milp(cost, integrality=np.ones(len(places)), bounds=Bounds(0, 1), constraints=rules)
    if found.x is None:
        return None
    return {layer.name: used for (layer, used), chosen in zip(places, found.x, strict=True) if chosen > 0.5}


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of their sum, so that a little of one quantity is a little beside another."""
    total = float(values.sum())
    return values / total if total else values
