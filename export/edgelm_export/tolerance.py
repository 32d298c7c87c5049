"""How far a bundle may be from its checkpoint, by the precision of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far a bundle may be from the checkpoint: the distance of two answers' probabilities, worst and mean."""

    worst: float
    mean: float


TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(1e-3, 1e-3), "fp16": Tolerance(0.02, 0.005),
    "int8": Tolerance(0.25, 0.06), "int4": Tolerance(0.5, 0.15),
}  # fmt: skip
