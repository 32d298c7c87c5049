"""The graph of a bundle, checked before onnxruntime sees it: what it computes, with what, and how large it grows."""

from __future__ import annotations

import math

from ..errors import BundleRejected
from .model import Graph, Node, Tensor, known, read_model
from .operators import FLOAT, FLOATS, INT64, OPERATORS, READ, SIZES, VARIADIC, Operator

MAX_NODES = 100_000
MAX_OPSET = 21
MAX_SIZE = 1 << 24  # of one dimension that a node is told to make
MAX_ELEMENTS = 1 << 26  # of all of them


def check_graph(model: bytes, *, outside: bool = False) -> None:
    """Check a serialized model; with `outside` it may have tensors in a file of weights.

    Raises BundleRejected for operators, attributes, types or sizes that `edgelm export` does not write.
    """
    try:
        problem_free(read_model(model, outside=outside))
    except ValueError as error:
        raise BundleRejected(
            f"the graph is refused: {error}; export the bundle again",
            what="graph",
            expected="an ONNX model as edgelm exports it",
            found=str(error),
        ) from error


def problem_free(graph: Graph) -> None:
    """Raise ValueError for the first thing in a graph that is not accepted."""
    for domain, version in graph.opsets.items():
        if OPERATORS.get(domain) is OPERATORS[""] and version > MAX_OPSET:
            raise ValueError(f"it needs opset {version}, accepted are those up to {MAX_OPSET}")
    if len(graph.nodes) > MAX_NODES:
        raise ValueError(f"it has {len(graph.nodes):,} nodes, accepted are {MAX_NODES:,}")
    values = _Values()
    for tensor in graph.tensors:
        values.add(tensor.name, tensor.kind, tensor.integers)
    for name, kind in graph.inputs.items():
        values.kinds.setdefault(name, kind)
    for node in graph.nodes:
        operator = _operator(node)
        _check(node, values)
        _conclude(node, operator, values)


class _Values:
    """What is known of the values so far: TensorProto.DataType by name, and the integers of small tensors."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.integers: dict[str, tuple[int, ...]] = {}

    def add(self, name: str, kind: int, integers: tuple[int, ...] | None = None) -> None:
        if name in self.kinds:
            raise ValueError(f"the name {name[:80]!r} stands for two values")
        self.kinds[name] = kind
        if integers is not None:
            self.integers[name] = integers


def _called(node: Node) -> str:
    return f"{node.domain or 'ai.onnx'}.{node.op_type}"[:120]


def _operator(node: Node) -> Operator:
    operator = OPERATORS.get(node.domain, {}).get(node.op_type)
    if operator is None:
        raise ValueError(f"it has the operator {_called(node)}, which is none of those that edgelm exports")
    strange = sorted(node.attributes.keys() - operator.attributes)
    if strange:
        accepted = ", ".join(sorted(operator.attributes)) or "none"
        raise ValueError(f"{_called(node)} has the attribute {strange[0][:80]!r}, accepted: {accepted}")
    return operator


def _check(node: Node, values: _Values) -> None:
    """What a node does with values that are known."""
    if node.op_type in ("Div", "Mod") and not _divides_safely(node, values):
        raise ValueError(
            f"{_called(node)} may divide an integer by 0 or -1, which ends the process; accepted are floats, and "
            "integers by stored ones that are neither"
        )
    needed = range(len(node.inputs)) if node.op_type in VARIADIC else READ.get(node.op_type, ())
    if not all(place < len(node.inputs) and node.inputs[place] for place in needed):
        raise ValueError(f"{_called(node)} has left out an input that is read, which ends the process; give it")
    if node.attributes.get("num_outputs", len(node.outputs)) != len(node.outputs):
        raise ValueError(f"{_called(node)} has {len(node.outputs)} outputs and another number of num_outputs")
    for place in SIZES.get(node.op_type, ()):
        sizes = values.integers.get(node.inputs[place], ()) if place < len(node.inputs) else ()
        if any(abs(size) > MAX_SIZE for size in sizes) or math.prod(max(1, size) for size in sizes) > MAX_ELEMENTS:
            raise ValueError(
                f"{_called(node)} makes a tensor of the size {list(sizes)}, accepted are {MAX_ELEMENTS:,} elements"
            )


def _divides_safely(node: Node, values: _Values) -> bool:
    if any(values.kinds.get(name, 0) in FLOATS for name in node.inputs[:2]):
        return True
    divisor = values.integers.get(node.inputs[1], ()) if len(node.inputs) > 1 else ()
    return bool(divisor) and not {0, -1} & set(divisor)


def _conclude(node: Node, operator: Operator, values: _Values) -> None:
    """Names and types of what a node gives."""
    kind, integers = operator.gives, None
    held = node.attributes.get("value")
    if node.op_type == "Cast":
        to = node.attributes.get("to")
        kind = known(to) if isinstance(to, int) else 0
    elif isinstance(held, Tensor):
        kind = held.kind
        integers = held.integers if node.op_type == "Constant" else None
    elif node.op_type in ("Constant", "ConstantOfShape"):
        kind = INT64 if node.attributes.keys() & {"value_int", "value_ints"} else FLOAT
    elif not kind and operator.like < len(node.inputs):
        kind = values.kinds.get(node.inputs[operator.like], 0)
    for index, output in enumerate(node.outputs):
        if output:  # of further outputs the type is known where it is the first one's
            values.add(output, kind if not index or node.op_type == "Split" else 0, integers)
