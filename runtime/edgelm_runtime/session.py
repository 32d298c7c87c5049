"""The only file that imports onnxruntime: sessions, runs and bound buffers, with foreign errors translated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import isa_flags
from .errors import BundleRejected
from .initializers import ONNX_TYPES, Declared, declared_initializers
from .weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .bundle import Bundle
    from .manifest import Variant

# onnxruntime ships no types; these names say what an Any is.
Session = Any
OrtValue = Any
Binding = Any

_NO_FOLDER = "/nonexistent-external-data-is-not-allowed"
# onnxruntime looks for the file of external tensors even where it is given all of them: an empty one is there.
_EMPTY_FOLDER = str(Path(__file__).parent / "data" / "nothing")


def onnxruntime() -> Any:
    """The onnxruntime module, imported at the first call with its telemetry off."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as module

    return module


def create_session(model: bytes, *, threads: int, weights: Weights | None = None) -> Session:
    """A session on the CPU provider for a serialized graph, with the tensors that it has outside itself.

    `threads` is the number of cores that one run may use. The session holds on to `weights`, and reads them where they
    lie. Raises BundleRejected when onnxruntime refuses the graph.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # The graph was fused and verified at export: it runs as it is, and loading costs no optimiser pass.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # A graph from bytes would read external tensors beside the working directory, outside the bundle.
    folder = _NO_FOLDER if weights is None else _EMPTY_FOLDER
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if _saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    values = {} if weights is None else _values(weights, declared_initializers(model))
    try:
        for name, value in values.items():
            options.add_initializer(name, value)
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _rejected("onnxruntime refuses the graph", error) from error
    if weights is not None:
        weights.release()
        session.edgelm_weights = values, weights
    return session


def open_session(bundle: Bundle, variant: Variant, *, threads: int) -> Session:
    """A session for a variant of a bundle. Raises BundleRejected where a file does not match or is not accepted."""
    weights = Weights(variant.weights, bundle.map(variant.weights)) if variant.weights else None
    return create_session(bundle.read(variant.file), threads=threads, weights=weights)


def run(session: Session, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
    """One run with copied inputs; arrays in the order of `outputs`. Raises BundleRejected when the run fails."""
    try:
        results: list[NDArray[Any]] = session.run(list(outputs), dict(feeds))
    except Exception as error:
        raise _rejected("the graph failed while running", error) from error
    return results


def input_shapes(session: Session) -> dict[str, list[int | str | None]]:
    """Shape of every input by name: an int for a fixed dimension, a name or None for a free one."""
    return {node.name: list(node.shape) for node in session.get_inputs()}


def input_types(session: Session) -> dict[str, str]:
    """Type of every input by name, as onnxruntime spells it: "tensor(float)"."""
    return {node.name: node.type for node in session.get_inputs()}


def output_shapes(session: Session) -> dict[str, list[int | str | None]]:
    """Shape of every output by name, like `input_shapes`."""
    return {node.name: list(node.shape) for node in session.get_outputs()}


def ort_value(array: NDArray[Any]) -> OrtValue:
    """A tensor over the memory of `array` (C-contiguous), not a copy: writing into the array feeds the next run.

    The caller keeps `array` alive as long as the value is used.
    """
    return onnxruntime().OrtValue.ortvalue_from_numpy(array)


def empty_value(shape: Sequence[int], dtype: type[np.generic]) -> OrtValue:
    """An uninitialised CPU tensor owned by onnxruntime."""
    return onnxruntime().OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, "cpu", 0)


def bind(session: Session, inputs: Mapping[str, OrtValue], outputs: Mapping[str, OrtValue | None]) -> Binding:
    """Bind tensors once for many runs; an output of None is allocated by onnxruntime at each run.

    Binding one value as past and as present lets attention append in place. Raises BundleRejected for names or types
    that the graph does not have.
    """
    try:
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            if value is None:
                binding.bind_output(name, "cpu")
            else:
                binding.bind_ortvalue_output(name, value)
    except Exception as error:
        raise _rejected("the graph does not take the buffers of this runtime", error) from error
    return binding


def rebind(binding: Binding, inputs: Mapping[str, OrtValue], outputs: Mapping[str, OrtValue]) -> None:
    """Put other tensors in the place of some of a binding's."""
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, value)


class Interrupt:
    """Stops the runs that it is given to, at their next node; one that begins later does not begin."""

    def __init__(self) -> None:
        self.options: Any = onnxruntime().RunOptions()
        # What an unset entry means, said: onnxruntime asks at every run, and raises where it is unset.
        self.options.add_run_config_entry("gpu_graph_id", "0")

    def stop(self) -> None:
        """Stop; from any thread."""
        self.options.terminate = True


def run_bound(session: Session, binding: Binding, interrupt: Interrupt | None = None) -> None:
    """Run with the tensors of `binding`. Raises BundleRejected when the run fails, or is interrupted."""
    try:
        session.run_with_iobinding(binding, None if interrupt is None else interrupt.options)
    except Exception as error:
        raise _rejected("the graph failed while running", error) from error


def _values(weights: Weights, declared: Mapping[str, Declared]) -> dict[str, OrtValue]:
    """The tensors of `weights`, compared with the graph: onnxruntime uses what it is given without a look."""
    for name, array in weights.arrays.items():
        found = ONNX_TYPES[array.dtype], array.shape
        if found != declared.get(name):
            raise BundleRejected(
                f"the weights have {name[:80]!r} of type and shape {found}, the graph has {declared.get(name)}; "
                "export the bundle again",
                what=name[:80],
                expected=str(declared.get(name)),
                found=str(found),
            )
    return {name: ort_value(array) for name, array in weights.arrays.items()}


def _saturates() -> bool:
    """Whether this CPU adds uint8 x int8 products in 16 bits: AVX2 without VNNI, where large weights clip silently."""
    flags = isa_flags()
    return "avx2" in flags and not {"avx512_vnni", "avx_vnni"}.intersection(flags)


def _rejected(what: str, error: Exception) -> BundleRejected:
    return BundleRejected(
        f"{what}: {error}; run `edgelm verify` on the bundle, or export it again",
        what="graph",
        expected="a graph that onnxruntime runs",
        found=str(error),
    )
