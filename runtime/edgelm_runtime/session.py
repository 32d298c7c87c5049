"""Sessions, runs and bound buffers of onnxruntime, on any device, with foreign errors translated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4
from weakref import WeakSet, WeakValueDictionary

import numpy as np

from . import providers
from .device import CPU, Device
from .errors import BundleRejected, DeviceError
from .initializers import ONNX_TYPES, Declared, declared_initializers
from .ort import onnxruntime
from .products import products_saturate
from .unsigned import with_unsigned_weights
from .vetting.graph import check_graph
from .weights import Weights
from .workers import MORE_THREADS, Worker, startable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .bundle import Bundle
    from .manifest import Variant

# onnxruntime ships no types; these names say what an Any is.
OrtValue = Any
Binding = Any
Result = TypeVar("Result")

_NO_FOLDER = "/nonexistent-external-data-is-not-allowed"
_STARTS_A_THREAD = ("pthread_create", "_beginthreadex")  # onnxruntime has no code for it, only these words
# onnxruntime looks for the file of external tensors even where it is given all of them: an empty one is there.
_EMPTY_FOLDER = str(Path(__file__).parent / "data" / "nothing")


@dataclass(frozen=True)
class SessionOptions:
    """Where and how a session runs: `threads` is the number of cores that one run may use.

    With `allow_fallback` nodes that the device does not take run on the CPU. `low_priority` gives way to the other
    programs of the machine (Linux), and its threads sleep between runs instead of spinning. `trace` is a folder where
    onnxruntime writes down every node that runs; "" is none.
    """

    threads: int
    device: Device = CPU
    allow_fallback: bool = False
    low_priority: bool = False
    trace: str = ""


@dataclass(frozen=True)
class Node:
    """A node of a graph, and the execution provider that runs it."""

    provider: str
    op_type: str
    name: str


class Session:
    """A graph that is ready to run; any number of threads may.

    Where it is traced `calls` are the beginning and the end of each, seconds of perf_counter.
    """

    def __init__(self, inference: Any, options: SessionOptions, kept: object, worker: Worker) -> None:
        self.inference = inference
        self.options = options
        self.calls: list[tuple[float, float]] = []
        self._kept = kept  # weights and their tensors: onnxruntime reads them where they lie, and holds neither
        self._worker = worker
        self._lost = ""
        _sessions.add(self)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node with its provider, as onnxruntime placed it."""
        return tuple(
            Node(part.ep_name, node.op_type, node.name)
            for part in self.inference.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        )

    def call(self, work: Callable[..., Result], *given: Any) -> Result:
        """Run `work` at this session's priority. Raises BundleRejected, or DeviceError off the CPU, where it fails."""
        if self._lost:
            raise DeviceError(self._lost)
        start = perf_counter()
        try:
            return self._worker.call(work, *given)
        except DeviceError:
            raise
        except Exception as error:
            raise _failed("the graph failed while running", error, self.options.device) from error
        finally:
            if self.options.trace:
                self.calls.append((start, perf_counter()))

    def forked(self) -> None:
        """Called in a copy of the process: the session goes on there if it has no threads of its own.

        Else it is never freed, as that would wait for threads that are not there.
        """
        if self.options.threads == 1 and self.options.device.name == CPU.name:
            self._worker.restart()
            return
        self._lost = (
            f"this model was loaded before the process was copied (fork), and its {self.options.threads} threads are "
            "not in the copy; load it after the fork, or with threads=1, or start processes by spawn "
            "(docs/integration.md)"
        )
        # The garbage collector does not look into numpy's arrays of objects: one that holds itself stays for ever.
        forever = np.empty(2, object)
        forever[0], forever[1] = self.inference, forever

    def end_trace(self) -> Path:
        """The file of what ran so far; nothing that runs later is written down."""
        return Path(self.inference.end_profiling())


_shared: WeakValueDictionary[tuple[object, ...], Session] = WeakValueDictionary()
_maps: WeakValueDictionary[str, Weights] = WeakValueDictionary()
_sharing = Lock()
_sessions: WeakSet[Session] = WeakSet()


def _forked() -> None:
    """What is loaded from now on, in a copy of the process, is its own."""
    global _sharing
    _sharing = Lock()
    _shared.clear()
    _maps.clear()
    for session in list(_sessions):
        session.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def open_session(bundle: Bundle, variant: Variant, options: SessionOptions) -> Session:
    """A session for a variant of a bundle; one that this process has already is given again.

    Raises BundleRejected where a file does not match or is not accepted, DeviceError where the device does not run it.
    """
    return _opened(bundle, variant, variant.file, options)


def open_encoder(bundle: Bundle, variant: Variant, options: SessionOptions) -> Session:
    """Like `open_session`, for the encoder of a variant that has one: the weights that both have are mapped once."""
    return _opened(bundle, variant, variant.encoder, options)


def _opened(bundle: Bundle, variant: Variant, file: str, options: SessionOptions) -> Session:
    key = (*(bundle.manifest.files[name].sha256 for name in (file, *variant.files)), options)
    with _sharing:
        session = _shared.get(key)
        if session is None:
            weights = _mapped(bundle, variant.weights) if variant.weights else None
            model = bundle.read(file)
            if not bundle.shipped:
                check_graph(model, outside=weights is not None)
            session = _shared[key] = create_session(model, options, weights, part=bool(variant.encoder))
        return session


def _mapped(bundle: Bundle, name: str) -> Weights:
    """A file of weights; one that is mapped already is given again."""
    key = bundle.manifest.files[name].sha256
    weights = _maps.get(key)
    if weights is None:
        weights = _maps[key] = Weights(name, bundle.map(name))
    return weights


class TooFewThreads(DeviceError):
    """The system does not let this process have as many threads as were asked for."""


class Tensors(Protocol):
    """Tensors of a graph that lie outside it, by name; they may be moved once a session has read them."""

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]: ...

    def release(self) -> None: ...


def create_session(
    model: bytes, options: SessionOptions, weights: Tensors | None = None, *, part: bool = False
) -> Session:
    """A session for a serialized graph, with the tensors that it has outside itself; with `part` it uses some of them.

    Raises BundleRejected when onnxruntime refuses the graph, and DeviceError when the device is not there, does not
    take the graph, or takes only a part of it.
    """
    device = options.device
    _refuse_too_many_threads(options)
    settings = _settings(options, outside=weights is not None)
    chosen = providers.use(device, settings)
    arrays = {} if weights is None else _compared(weights, declared_initializers(model), part=part)
    if device.name == CPU.name and products_saturate():
        model, arrays = with_unsigned_weights(model, arrays)
    values = {name: ort_value(array) for name, array in arrays.items()}
    worker = Worker(options.low_priority, options.threads)
    try:
        _give(settings, values, device)
        # The threads of a session inherit the priority of the one that makes it.
        # With its fallback onnxruntime would print to stdout, and try once more on the CPU.
        inference = worker.call(
            lambda: onnxruntime().InferenceSession(model, settings, providers=chosen, enable_fallback=0)
        )
    except DeviceError:
        raise
    except Exception as error:
        raise _failed("onnxruntime refuses the graph", error, device) from error
    if weights is not None:
        weights.release()
    session = Session(inference, options, (weights, values), worker)
    if device.name != CPU.name and not options.allow_fallback:
        _refuse_fallback(session)
    return session


def _refuse_too_many_threads(options: SessionOptions) -> None:
    """onnxruntime waits for ever where it gets only some of the threads that it starts."""
    needed = options.threads - 1 + options.low_priority
    if options.threads > 1 and (found := startable(needed)) < needed:
        raise TooFewThreads(
            f"{options.threads} threads were asked for, and this process may start only {found} of the {needed} more "
            f"that they need; give threads=1 (--threads 1), or {MORE_THREADS}"
        )


def _settings(options: SessionOptions, *, outside: bool) -> Any:
    ort = onnxruntime()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # The graph was fused and verified at export: it runs as it is, and loading costs no optimiser pass.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.load_model_format", "ONNX")  # never its own, told from the bytes
    # A graph from bytes would read external tensors beside the working directory, outside the bundle.
    folder = _EMPTY_FOLDER if outside else _NO_FOLDER
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if options.low_priority:
        # A thread that spins until the next run takes time from those it gives way to, and has none left when it comes.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.trace:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(options.trace) / uuid4().hex)
    return settings


def _give(settings: Any, values: Mapping[str, OrtValue], device: Device) -> None:
    """Let the session have tensors from outside the graph, as they lie where only the CPU's kernels read them."""
    if device.name != CPU.name:
        # What compiles the graph looks for its weights inside: these are copied there.
        settings.add_external_initializers(list(values), list(values.values()))
        return
    for name, value in values.items():
        settings.add_initializer(name, value)


def _refuse_fallback(session: Session) -> None:
    device = session.options.device
    elsewhere = [node for node in session.nodes if node.provider != device.kind.provider]
    if elsewhere:
        kinds = ", ".join(sorted({node.op_type for node in elsewhere}))
        raise DeviceError(
            f"{device} does not take the whole graph: {len(elsewhere)} of {len(session.nodes)} nodes would run on "
            f"{', '.join(sorted({node.provider for node in elsewhere}))} ({kinds}); allow that with --allow-fallback "
            "(allow_fallback=True), or choose another variant or device"
        )


def run(
    session: Session, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str], interrupt: Interrupt | None = None
) -> list[NDArray[Any]]:
    """One run with copied inputs; arrays in the order of `outputs`. Raises BundleRejected when it fails or is ended."""
    options = None if interrupt is None else interrupt.options
    results: list[NDArray[Any]] = session.call(session.inference.run, list(outputs), dict(feeds), options)
    return results


def input_shapes(session: Session) -> dict[str, list[int | str | None]]:
    """Shape of every input by name: an int for a fixed dimension, a name or None for a free one."""
    return {node.name: list(node.shape) for node in session.inference.get_inputs()}


def input_types(session: Session) -> dict[str, str]:
    """Type of every input by name, as onnxruntime spells it: "tensor(float)"."""
    return {node.name: node.type for node in session.inference.get_inputs()}


def output_shapes(session: Session) -> dict[str, list[int | str | None]]:
    """Shape of every output by name, like `input_shapes`."""
    return {node.name: list(node.shape) for node in session.inference.get_outputs()}


def ort_value(array: NDArray[Any]) -> OrtValue:
    """A tensor over the memory of `array` (C-contiguous), not a copy: writing into the array feeds the next run.

    The caller keeps `array` alive as long as the value is used.
    """
    return onnxruntime().OrtValue.ortvalue_from_numpy(array)


def bind(session: Session, inputs: Mapping[str, OrtValue], outputs: Mapping[str, OrtValue | None]) -> Binding:
    """Bind tensors once for many runs; an output of None is allocated by onnxruntime at each run.

    Binding one value as past and as present lets attention append in place. Raises BundleRejected for names or types
    that the graph does not have.
    """
    try:
        binding = session.inference.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            if value is None:
                binding.bind_output(name, "cpu")
            else:
                binding.bind_ortvalue_output(name, value)
    except Exception as error:
        raise _failed("the graph does not take the buffers of this runtime", error) from error
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
    session.call(session.inference.run_with_iobinding, binding, None if interrupt is None else interrupt.options)


def _compared(weights: Tensors, declared: Mapping[str, Declared], *, part: bool) -> dict[str, NDArray[Any]]:
    """The tensors of `weights`, compared with the graph: onnxruntime uses what it is given without a look."""
    arrays = {name: array for name, array in weights.arrays.items() if not part or name in declared}
    for name, array in arrays.items():
        found = ONNX_TYPES[array.dtype], array.shape
        if found != declared.get(name):
            raise BundleRejected(
                f"the weights have {name[:80]!r} of type and shape {found}, the graph has {declared.get(name)}; "
                "export the bundle again",
                what=name[:80],
                expected=str(declared.get(name)),
                found=str(found),
            )
    return arrays


def _failed(what: str, error: Exception, device: Device = CPU) -> BundleRejected | DeviceError:
    if any(call in str(error) for call in _STARTS_A_THREAD):
        return TooFewThreads(f"{what}: a thread could not be started ({error}); give threads=1, or {MORE_THREADS}")
    if device.name != CPU.name:
        return DeviceError(f"{device}: {what}: {error}; run `edgelm devices`, or choose another device or variant")
    return BundleRejected(
        f"{what}: {error}; run `edgelm verify` on the bundle, or export it again",
        what="graph",
        expected="a graph that onnxruntime runs",
        found=str(error),
    )
