"""mBART (Liu et al., 2020; `MBartForConditionalGeneration` of transformers): BART with its norms before each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.families import Wanted, Weights
from edgelm_export.families.bart import TASKS, Traits, build_bart, check
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

__all__ = ["TASKS", "build", "check"]


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """Two graphs as `seq2seq` describes them, with learned positions."""
    return build_bart(weights, config, scheme, wanted, Traits(before=True))
