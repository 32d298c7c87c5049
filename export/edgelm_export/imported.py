"""A folder that optimum exported: its graph, checked before anything is read from beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edgelm_export.architecture import graph_file
from edgelm_export.checkpoint.weights import Safetensors
from edgelm_export.families import Wanted
from edgelm_export.graph import MICROSOFT
from edgelm_export.longest import MOST, longest, plain_token
from edgelm_export.passes import convert
from edgelm_export.passes.inputs import check_inputs
from edgelm_export.passes.sessions import is_large, session_of
from edgelm_export.pooling import append_vector
from edgelm_export.vector import Vector
from edgelm_runtime.errors import BundleRejected, UnsupportedCheckpoint
from edgelm_runtime.session import run

STATES = ("last_hidden_state", "token_embeddings")
_DOMAINS = frozenset({"", "ai.onnx", MICROSOFT})
_CONTROL = frozenset({"If", "Loop", "Scan"})
_QUANTIZED = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearMatMul", "MatMulInteger", "QAttention",
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "GatherBlockQuantized", "QGemm", "ConvInteger",
})  # fmt: skip


def open_graph(folder: Path) -> ir.Model:
    """The graph of a folder, its external tensors not yet read.

    Raises:
        UnsupportedCheckpoint: not an ONNX file, quantized already, with operators that onnxruntime alone does not have,
            with tensors outside the folder, or without the inputs of an encoder.
    """
    path = graph_file(folder)
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf and onnx-ir raise whatever they meet
        raise UnsupportedCheckpoint(f"{path}: not an ONNX file ({error}); export it again") from error
    kinds = Counter(node.op_type for node in model.graph.all_nodes())
    functions = {(key[0], key[1]) for key in model.functions}
    missing, broken = _beside(model, path.parent)
    strange = {
        f"{node.domain}.{node.op_type}" for node in model.graph.all_nodes()
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in functions
    }  # fmt: skip
    refused = {
        "custom operators": (strange, "export it with operators of ONNX and com.microsoft only"),
        "control flow": (_CONTROL & set(kinds), "export it again, traced for one task"),
        "quantized operators": (_QUANTIZED & set(kinds), "give the float32 graph: edgelm quantizes it itself"),
        "weights in half precision": (_half(model.graph), "export it in float32"),
        "tensors outside the folder": (missing, "copy them beside the graph and export it again"),
        "tensors that their file does not hold": (broken, "the file is cut off: copy it again"),
    }
    for what, (found, remedy) in refused.items():
        if found:
            raise UnsupportedCheckpoint(f"{path}: {what}: {', '.join(sorted(found)[:5])}; {remedy}")
    check_inputs(model.graph, str(path))
    return model


def graph_for(folder: Path, wanted: Wanted) -> ir.Model:
    """The graph with the wanted output alone, its tensors in memory.

    Raises:
        UnsupportedCheckpoint: it has no such output, or is too large.
    """
    model = _loaded(folder)
    convert(model)
    graph, output = model.graph, _output(model, wanted, folder)
    if wanted.task == "feature-extraction":
        output = append_vector(graph, output, wanted)
    output.name = wanted.output
    graph.outputs[:] = [output]
    return model


def graph_weights(folder: Path) -> Safetensors:
    """The weights of a graph as those of a checkpoint: how many, and how large."""
    return _GraphWeights(graph_file(folder), open_graph(folder).graph)


class OnnxReference:
    """The graph of a folder as it came, in float32 in onnxruntime: what a bundle of it is compared with."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        model = _loaded(folder)
        self._wanted = wanted
        self._vector = Vector(wanted).requires_grad_(False)
        self._inputs = [str(value.name) for value in model.graph.inputs]
        self._output = str(_output(model, wanted, folder).name)
        self._session = session_of(model)

    def output(self, ids: Sequence[int], segments: Sequence[int]) -> NDArray[np.float32]:
        """Logits [labels] or [tokens, labels], or the pooled vector [width], of one row."""
        told = segments if self._wanted.segments else [0] * len(ids)
        rows = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": told}
        feeds = {name: np.array([rows[name]], np.int64) for name in self._inputs}
        found: NDArray[np.float32] = run(self._session, feeds, [self._output])[0][0]
        if self._wanted.task != "feature-extraction":
            return found
        vector: NDArray[np.float32] = self._vector(torch.from_numpy(found)[None])[0].numpy()
        return vector


def longest_of_graph(folder: Path, config: Mapping[str, Any], wanted: Wanted) -> int:
    """How many tokens of a text the graph reads, at most ``wanted.context``; one over ``MOST`` is not tried."""
    if wanted.context > MOST:
        return wanted.context
    reference, token = OnnxReference(folder, wanted), plain_token(config)

    def reads(length: int) -> bool:
        try:
            reference.output([token] * length, [0] * length)
        except BundleRejected:  # a row that a table does not have
            return False
        return True

    return longest(reads, wanted.context)


class _GraphWeights(Safetensors):
    def __init__(self, path: Path, graph: ir.Graph) -> None:
        super().__init__({})
        self._path = path
        self._tensors = [value.const_value for value in graph.initializers.values() if value.const_value is not None]

    @property
    def elements(self) -> int:
        return sum(tensor.size for tensor in self._tensors)

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(sorted({str(tensor.dtype) for tensor in self._tensors}))

    @property
    def stored_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors)

    def by_file(self) -> dict[Path, list[str]]:
        return {self._path: []}


def _loaded(folder: Path) -> ir.Model:
    """The graph, its large tensors mapped from their file and the small ones in memory."""
    model = open_graph(folder)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and not is_large(tensor):
            value.const_value = ir.Tensor(tensor.numpy().copy(), name=tensor.name)
    return model


def _output(model: ir.Model, wanted: Wanted, folder: Path) -> ir.Value:
    """The output that has the answer of the task."""
    names = STATES if wanted.task == "feature-extraction" else ("logits",)
    rank = 2 if wanted.task == "text-classification" else 3
    for value in model.graph.outputs:
        if value.name in names and (value.shape is None or len(value.shape) == rank):
            return value
    found = ", ".join(f"{value.name} {value.shape}" for value in model.graph.outputs)
    raise UnsupportedCheckpoint(
        f"{graph_file(folder)}: the outputs are {found}; {wanted.task} needs {' or '.join(names)} with {rank} axes"
    )


def _half(graph: ir.Graph) -> set[str]:
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return {name for name, value in graph.initializers.items() if value.dtype in half}


def _beside(model: ir.Model, folder: Path) -> tuple[set[str], set[str]]:
    """External tensors that are not in a file of their own in ``folder``, and those that their file is too short for.

    The others are set to where their file lies, which in the hub's cache is a folder of contents.
    """
    outside, broken = set(), set()
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        place = _resolved(folder, Path(tensor.location))
        if place is None:
            outside.add(str(tensor.location))
        elif (tensor.offset or 0) + tensor.nbytes > place.stat().st_size or tensor.length not in (None, tensor.nbytes):
            broken.add(f"{tensor.name} in {tensor.location}")
        else:
            value.const_value = ir.ExternalTensor(
                place.name, tensor.offset, tensor.length, tensor.dtype,
                shape=tensor.shape, name=str(tensor.name), base_dir=place.parent,
            )  # fmt: skip
    nodes = chain(model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values()))
    attributes = (each for node in nodes for each in node.attributes.values())
    constants = (each for each in attributes if each.type == ir.AttributeType.TENSOR)
    tensors = (each.as_tensor() for each in constants)
    outside |= {f"{each.location}, of a constant" for each in tensors if isinstance(each, ir.ExternalTensor)}
    return outside, broken


def _resolved(folder: Path, location: Path) -> Path | None:
    """The file of a plain name in ``folder``; it may be a link as the hub's cache has it, from a snapshot to a blob."""
    place = folder / location
    if location.name != str(location) or not place.is_file() or place.stat().st_nlink > 1:
        return None
    real = place.resolve()
    blobs = real.parent
    cached = blobs.name == "blobs" and blobs.parent / "snapshots" in folder.resolve().parents
    return real if cached or not place.is_symlink() else None
