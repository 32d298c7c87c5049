"""Where the graph of a checkpoint comes from: its weights, an ONNX file in the folder, or a trace of torch's model."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import onnx_ir as ir

from edgelm_export import families
from edgelm_export.families import Wanted, Weights
from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme

if TYPE_CHECKING:
    from edgelm_export.passes.trimming import Kept

# As optimum writes it, and as the hub has it beside the weights of other frameworks.
ONNX_FILES = ("model.onnx", "onnx/model.onnx")
ORIGINS = {
    "built": "the graph is built from the weights",
    "traced": "no family file, so that the graph is traced with transformers' ONNX exporter",
    "imported": "the graph is taken from the ONNX file",
}


class GraphSource(ABC):
    """Fills the seam of a family file with a graph that comes from elsewhere, read or traced once for every scheme."""

    TASKS: tuple[str, ...] = ("text-classification", "token-classification", "feature-extraction")
    kind: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: Kept | None = None
        self._saved_bytes = 0
        self._prepared = cache(self._prepare)

    def check(self, config: Mapping[str, Any]) -> None:  # noqa: B027 - a family file has something to refuse here
        """Nothing: the graph computes what it computes, and is compared with the checkpoint afterwards."""

    def build(self, weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
        """The graph with its weights placed by the scheme."""
        from edgelm_export.passes.placing import placed

        return placed(self.graph(wanted), scheme, str(config["model_type"]))

    def graph(self, wanted: Wanted) -> ir.Model:
        """The prepared graph in float32."""
        return self._prepared(wanted)

    def trimmed(self, kept: Kept) -> Self:
        """The same with a table of the tokens ``kept`` alone."""
        other = copy(self)
        other._kept = kept
        other._prepared = cache(other._prepare)
        return other

    def saved_bytes(self, wanted: Wanted) -> int:
        """How many bytes of the table were cut off. Raises UnsupportedCheckpoint where it cannot be cut."""
        self.graph(wanted)
        return self._saved_bytes

    def _prepare(self, wanted: Wanted) -> ir.Model:
        from edgelm_export.passes import prepared
        from edgelm_export.passes.trimming import cut_table

        found = prepared(self._read(wanted), segments=wanted.segments, where=str(self.folder))
        if self._kept is not None:
            self._saved_bytes = cut_table(found.model, self._kept, str(self.folder))
        counts = ", ".join(f"{count} {name}" for name, count in found.fused.items())
        print(f"edgelm: note: graph: {self._said()}; fused: {counts or 'nothing'}", file=sys.stderr)
        return found.model

    @abstractmethod
    def _read(self, wanted: Wanted) -> ir.Model:
        """The graph as it comes, in float32."""

    @abstractmethod
    def _said(self) -> str:
        """Where the graph comes from, for a person."""


class Traced(GraphSource):
    """torch's model, traced with transformers' ONNX exporter."""

    kind = "traced"

    def __init__(self, folder: Path, model_type: str) -> None:
        super().__init__(folder)
        self._model_type = model_type

    def _read(self, wanted: Wanted) -> ir.Model:
        from edgelm_export.trace import load_model, trace

        reason = f"{self._model_type!r} has no family file (those that have one are {', '.join(families.supported())})"
        return trace(load_model(self.folder, wanted.task), wanted, reason)

    def _said(self) -> str:
        return f"{self._model_type} has no family file: traced with transformers' ONNX exporter"


class Imported(GraphSource):
    """The ONNX file of a folder that optimum exported."""

    kind = "imported"

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise UnsupportedCheckpoint for a file that is not a plain float32 graph of an encoder."""
        from edgelm_export.imported import open_graph

        open_graph(self.folder)

    def _read(self, wanted: Wanted) -> ir.Model:
        from edgelm_export.imported import graph_for

        return graph_for(self.folder, wanted)

    def _said(self) -> str:
        return f"the graph of {graph_file(self.folder).relative_to(self.folder)} is taken as it is"


def is_onnx(folder: Path) -> bool:
    """Whether the folder has an ONNX file, and no weights that a graph could be built from or traced with."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    graphs = any((folder / name).is_file() for name in ONNX_FILES)
    return graphs and not any((folder / name).is_file() for name in weights)


def graph_file(folder: Path) -> Path:
    """The ONNX file of a folder that has one."""
    return next(folder / name for name in ONNX_FILES if (folder / name).is_file())


def architecture_of(folder: Path, model_type: str) -> families.Family:
    """What builds the graph of the checkpoint in ``folder``: an ONNX file only where there are no weights.

    Raises:
        UnsupportedCheckpoint: no family file, and nothing that transformers could trace.
    """
    if is_onnx(folder):
        return Imported(folder)
    if model_type in families.supported():
        return families.family(model_type)
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise families.unknown(model_type)
    return Traced(folder, model_type)


def graph_kind(architecture: families.Family) -> str:
    """ "built" from the weights, "traced" or "imported"."""
    return architecture.kind if isinstance(architecture, GraphSource) else "built"
