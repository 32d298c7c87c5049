"""From any ONNX graph of an encoder to one that the schemes place weights in: filled, converted, folded, fused."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgelm_export.graph import OPSET
from edgelm_export.passes.folding import fold
from edgelm_export.passes.fusing import fuse, fuse_norms, unflatten
from edgelm_export.passes.inputs import fill_inputs
from edgelm_export.passes.uniform import drop_neutral


@dataclass(frozen=True)
class Prepared:
    """A graph in float32 with nothing to compute twice, and how many of each fused operator it has."""

    model: ir.Model
    fused: Mapping[str, int]


def prepared(model: ir.Model, *, segments: bool, where: str) -> Prepared:
    """Prepare a graph, in place.

    ``segments`` keeps the input ``token_type_ids``; ``where`` is what messages call the graph.

    Raises:
        UnsupportedCheckpoint: inputs that are not those of an encoder.
    """
    from onnxscript.optimizer import optimize_ir

    convert(model)
    with quiet():
        fill_inputs(model, segments=segments, where=where)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        common.ShapeInferencePass()(model)
        unflatten(model)
        fuse_norms(model)
        optimize_ir(model)
        while drop_neutral(model):
            optimize_ir(model)
        fused = fuse(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        fold(model)
        _contiguous(model)
        for each in (
            common.RemoveUnusedNodesPass(), common.DeduplicateHashedInitializersPass(),
            common.CommonSubexpressionEliminationPass(), common.RemoveUnusedNodesPass(), common.TopologicalSortPass(),
        ):  # fmt: skip
            each(model)
    return Prepared(model, fused)


def convert(model: ir.Model) -> None:
    """Bring a graph to one list of nodes with the operators of OPSET, in place."""
    from onnxscript.version_converter import convert_version

    with quiet():
        common.InlinePass()(model)
        if model.graph.opset_imports[""] != OPSET:
            convert_version(model, OPSET, fallback=True)


def _contiguous(model: ir.Model) -> None:
    """Store every weight in the order of its elements: transposed ones are views, which cannot be hashed."""
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            array = np.ascontiguousarray(value.const_value.numpy())
            value.const_value = ir.Tensor(array.reshape(value.const_value.shape.numpy()), name=value.name)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress and warnings from a person who can do nothing about them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
