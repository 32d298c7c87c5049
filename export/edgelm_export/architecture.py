"""Where the graph of a checkpoint comes from: its weights, an ONNX file in the folder, or a trace of torch's model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import onnx_ir as ir

from edgelm_export import families
from edgelm_export.families import Wanted, Weights
from edgelm_export.graph import Model
from edgelm_export.notes import note
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


Names = Callable[[], Mapping[str, str]]


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

    @abstractmethod
    def longest(self, config: Mapping[str, Any], wanted: Wanted) -> int:
        """How many tokens of a text are read, at most ``wanted.context``, asked of the model."""

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
        note(f"graph: {self._said()}; fused: {counts or 'nothing'}")
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

    def __init__(self, folder: Path, config: Mapping[str, Any], renamed: Names = dict) -> None:
        super().__init__(folder)
        self._config = config
        self._renamed = renamed

    def longest(self, config: Mapping[str, Any], wanted: Wanted) -> int:
        """As `GraphSource.longest`, of torch's model."""
        from edgelm_export.longest import longest_of_torch
        from edgelm_export.trace import traceable

        model = traceable(self.folder, self._config, wanted.task, self._renamed())
        return longest_of_torch(model, config, wanted.context)

    def _read(self, wanted: Wanted) -> ir.Model:
        from edgelm_export.trace import trace, traceable

        return trace(traceable(self.folder, self._config, wanted.task, self._renamed()), wanted, self._why(wanted.task))

    def _said(self) -> str:
        kind = self._config["model_type"]
        why = "is built as a generator alone" if kind in families.supported() else "has no family file"
        return f"{kind} {why}: traced with transformers' ONNX exporter"

    def _why(self, task: str) -> str:
        kind = self._config["model_type"]
        if kind in families.supported():
            return f"the family file of {kind!r} has no {task}"
        return f"{kind!r} has no family file (those that have one are {', '.join(families.supported())})"


class Imported(GraphSource):
    """The ONNX file of a folder that optimum exported."""

    kind = "imported"

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise UnsupportedCheckpoint for a file that is not a plain float32 graph of an encoder."""
        from edgelm_export.imported import open_graph

        open_graph(self.folder)

    def longest(self, config: Mapping[str, Any], wanted: Wanted) -> int:
        """As `GraphSource.longest`, of the graph."""
        from edgelm_export.imported import longest_of_graph

        return longest_of_graph(self.folder, config, wanted)

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


def tasks_of(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Every task that a model is exported for: what its family file builds first, then what is traced.

    Of a model that reads and writes, the part that reads can be traced where transformers has it as a model.
    """
    from edgelm_export.checkpoint.loading import has_encoder_model

    if is_onnx(folder):
        return Imported.TASKS
    model_type = str(config["model_type"])
    built = families.family(model_type).TASKS if model_type in families.supported() else ()
    if has_encoder_model(model_type):
        return (*built, "feature-extraction")
    if config.get("is_encoder_decoder"):
        return built
    return built + tuple(task for task in Traced.TASKS if task not in built)


def architecture_of(folder: Path, config: Mapping[str, Any], task: str, renamed: Names = dict) -> families.Family:
    """What builds the graph of the checkpoint in ``folder``: an ONNX file only where there are no weights.

    ``renamed`` gives the names of the tensors by those in the files, where these are others.
    """
    if is_onnx(folder):
        return Imported(folder)
    model_type = str(config["model_type"])
    if model_type in families.supported() and task in families.family(model_type).TASKS:
        return families.family(model_type)
    return Traced(folder, config, renamed)


def graph_kind(architecture: families.Family) -> str:
    """ "built" from the weights, "traced" or "imported"."""
    return architecture.kind if isinstance(architecture, GraphSource) else "built"
