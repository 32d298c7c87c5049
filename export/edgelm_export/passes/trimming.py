"""A cut vocabulary in a graph that was not built here: fewer rows in the table that the token ids are looked up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.passes.inputs import IDS
from edgelm_export.passes.layers import array_of, is_matrix
from edgelm_runtime.errors import UnsupportedCheckpoint


@dataclass(frozen=True, eq=False)
class Kept:
    """The token ids that are left of ``rows``: int64, ascending."""

    ids: NDArray[np.int64]
    rows: int


def cut_table(model: ir.Model, kept: Kept, where: str) -> int:
    """Leave the rows ``kept`` of the table of tokens, in place; how many bytes that saves.

    It must be certain what the ids are for: one table, their shape, and comparisons with ids that stay what they are,
    by which RoBERTa's relatives find padding. ``where`` is what messages call the graph.

    Raises:
        UnsupportedCheckpoint: the graph does something else with them, or has no such table.
    """
    (ids,) = [value for value in model.graph.inputs if value.name == IDS]
    tables: set[ir.Value] = set()
    for node, _ in ids.uses():
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is not None and _is_table(table, kept.rows):
            tables.add(table)
        elif node.op_type != "Shape" and not (node.op_type == "Equal" and _with_unchanged(node, ids, kept)):
            raise _refused(where, f"does more with token ids than to look them up ({node.op_type})")
    used_elsewhere = [use.node.op_type for table in tables for use in table.uses() if ids not in use.node.inputs]
    if len(tables) != 1 or used_elsewhere:
        found = f"{len(tables)} tables of {kept.rows} tokens"
        raise _refused(where, f"has {found}" + (f", used in {used_elsewhere[0]} too" if used_elsewhere else ""))
    (table,) = tables
    whole = array_of(table)
    rows = np.ascontiguousarray(whole[kept.ids])
    table.const_value, table.shape = ir.Tensor(rows, name=table.name), ir.Shape(rows.shape)
    return int(whole.nbytes - rows.nbytes)


def _is_table(table: ir.Value, rows: int) -> bool:
    return is_matrix(table) and array_of(table).shape[0] == rows


def _with_unchanged(node: ir.Node, ids: ir.Value, kept: Kept) -> bool:
    """Whether the ids are compared with stored ones, all of which are kept under the number that they had."""
    others = [value for value in node.inputs if value is not ids]
    if len(others) != 1 or others[0] is None or others[0].const_value is None:
        return False
    stored: NDArray[Any] = array_of(others[0]).reshape(-1)
    return all(0 <= index < len(kept.ids) and kept.ids[index] == index for index in stored.tolist())


def _refused(where: str, why: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(
        f"{where}: the graph {why}, so that its vocabulary cannot be cut. Leave --trim-vocab out"
    )
