"""Mutations of bytes, of JSON values, and of ONNX models; the same for the same random numbers."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import onnx
from onnx import TensorProto, helper

NUMBERS = (
    0, -1, 1, 2, 255, 1 << 16, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 40, 1 << 63, -(1 << 63), 10**400, 0.5, 1e308,
    -0.0,
)  # fmt: skip
TEXTS = (
    "", " ", "a", "\0", "x" * 300, "x" * 100_000, "{text}", "[UNK]", "▁", "物", "😀", "\ud800", "\u202e", "../x",
    "/etc/passwd", "(x+x+)+y", "(a|a)*b", r"\p{L}+", "[", "(?=", "\\", "NaN", "BPE", "Unigram", "Sequence", "Replace",
    "null", "-1",
)  # fmt: skip
OPERATORS = (
    "Div", "Mod", "Multinomial", "If", "Loop", "Scan", "RandomNormal", "Gather", "Reshape", "Expand", "Tile", "Range",
    "Slice", "Split", "Concat", "Transpose", "TopK", "Pad", "OneHot", "Cast", "Conv", "Einsum", "ScatterND", "CumSum",
    "MatMulNBits", "GroupQueryAttention", "MultiHeadAttention", "QAttention", "Attention", "GatherBlockQuantized",
    "ConstantOfShape", "Trilu", "GatherND", "Squeeze", "Unsqueeze", "RotaryEmbedding", "EPContext", "StringConcat",
)  # fmt: skip


def data(random: Random, given: bytes) -> bytes:
    """A few bytes that are changed, left out, doubled, or put elsewhere."""
    found = bytearray(given)
    for _ in range(random.choice((1, 1, 2, 8))):
        at, length = random.randrange(len(found) + 1), random.choice((1, 1, 2, 4, 16, 256))
        how = random.randrange(5)
        if how == 0 and at < len(found):
            found[at] ^= 1 << random.randrange(8)
        elif how == 1:
            found[at : at + length] = b""
        elif how == 2:
            found[at:at] = found[at : at + length]
        elif how == 3:
            found[at : at + length] = random.randbytes(length)
        else:
            found[at : at + 1] = random.choice((b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\0", b"\xff\xff\xff\xff\x0f"))
        if not found:
            break
    return bytes(found)


def value(random: Random, depth: int = 0) -> Any:
    """Any JSON value, also those that no field has."""
    how = random.randrange(9)
    if how < 3:
        return random.choice(NUMBERS)
    if how < 6:
        return random.choice(TEXTS)
    if how == 6 or depth > 2:
        return random.choice((None, True, False))
    if how == 7:
        return [value(random, depth + 1) for _ in range(random.choice((0, 1, 2, 70)))]
    return {random.choice(TEXTS[:20]): value(random, depth + 1) for _ in range(random.randrange(3))}


def tree(random: Random, given: Any) -> Any:
    """A JSON value with some of its parts changed, left out, repeated, nested, or in each other's place."""
    root = [copy.deepcopy(given)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = _places(root)
        parent, key = random.choice(places)
        how = random.randrange(8)
        if how < 3:
            parent[key] = value(random)
        elif how == 3 and parent is not root:
            del parent[key]
        elif how == 4:
            other, place = random.choice(places)
            parent[key] = copy.deepcopy(other[place]) if parent is not root else parent[key]
        elif how == 5 and isinstance(parent, list):
            parent[key : key + 1] = [parent[key]] * random.choice((2, 3, 50, 2_000))
        elif how == 6 and parent is not root:
            for _ in range(random.choice((1, 2, 40))):
                parent[key] = (
                    [parent[key]] if random.random() < 0.5 else {"type": "Sequence", "normalizers": [parent[key]]}
                )
        elif isinstance(parent, dict):
            parent[random.choice(TEXTS)] = value(random)
    return root[0]


def text(content: Any) -> bytes:
    """The JSON of a mutated value; lone surrogates stay escaped."""
    return json.dumps(content).encode("ascii")


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every place in a value, as its container and key; of long containers some."""
    found: list[tuple[Any, Any]] = []
    stack: list[Any] = [root]
    while stack:
        container = stack.pop()
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        for key in keys[:40]:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                stack.append(container[key])
    return found


def model(random: Random, given: bytes) -> bytes:
    """An ONNX model with nodes, attributes, tensors, shapes or names changed; sometimes bytes, too."""
    found = onnx.load_from_string(given)
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice((_operator, _attribute, _inputs, _tensor, _shape, _node, _names))(random, found.graph)
    serialized: bytes = found.SerializeToString()
    return data(random, serialized) if random.random() < 0.2 else serialized


def _operator(random: Random, graph: onnx.GraphProto) -> None:
    node = random.choice(graph.node)
    node.op_type = random.choice(OPERATORS)
    node.domain = random.choice(("", "", "com.microsoft", node.domain))


def _attribute(random: Random, graph: onnx.GraphProto) -> None:
    node = random.choice(graph.node)
    number = random.choice((0, -1, 1, 2, 3, 7, 64, 1 << 20, 1 << 31, -(1 << 31), (1 << 63) - 1))
    if node.attribute and random.random() < 0.7:
        held = random.choice(node.attribute)
        if held.type == onnx.AttributeProto.INT:
            held.i = number
        elif held.type == onnx.AttributeProto.INTS and held.ints:
            held.ints[random.randrange(len(held.ints))] = number
        elif held.type == onnx.AttributeProto.FLOAT:
            held.f = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
        else:
            node.attribute.remove(held)
        return
    name = random.choice(
        ("axis", "to", "num_heads", "block_size", "bits", "group", "perm", "equation", "mode", "value")
    )
    node.attribute.append(helper.make_attribute(name, random.choice((number, [number] * 3, "x", 0.5))))


def _inputs(random: Random, graph: onnx.GraphProto) -> None:
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    names += [tensor.name for tensor in graph.initializer]
    node = random.choice(graph.node)
    if node.input and random.random() < 0.8:
        node.input[random.randrange(len(node.input))] = random.choice((*names, "", "nowhere"))
    else:
        node.input.extend(random.choices(names, k=random.choice((1, 20))))


def _tensor(random: Random, graph: onnx.GraphProto) -> None:
    if not graph.initializer:
        return
    tensor = random.choice(graph.initializer)
    how = random.randrange(5)
    if how == 0 and tensor.raw_data:
        tensor.raw_data = data(random, tensor.raw_data[:4096]) + tensor.raw_data[4096:]
    elif how == 1 and tensor.dims:
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice((0, -1, 1, 1 << 20, 1 << 40, 1 << 62))
    elif how == 2:
        tensor.data_type = random.randrange(24)
    elif how == 3 and tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and tensor.raw_data:
        size = 8 if tensor.data_type == TensorProto.INT64 else 4
        number = random.choice((0, -1, 1 << 20, (1 << 31) - 1, -(1 << 31), 3))
        tensor.raw_data = number.to_bytes(size, "little", signed=True) * (len(tensor.raw_data) // size)
    else:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=random.choice(("/etc/passwd", "*/_ORT_MEM_ADDR_/*", "x")))


def _shape(random: Random, graph: onnx.GraphProto) -> None:
    info = random.choice((*graph.input, *graph.output))
    shape = info.type.tensor_type.shape
    how = random.randrange(4)
    if how == 0:
        del shape.dim[:]
    elif how == 1 and shape.dim:
        random.choice(shape.dim).dim_value = random.choice((0, -1, 1, 2, 1 << 31, 1 << 62))
    elif how == 2:
        info.type.tensor_type.elem_type = random.randrange(24)
    else:
        shape.dim.add().dim_value = 3


def _node(random: Random, graph: onnx.GraphProto) -> None:
    node = random.choice(graph.node)
    if random.random() < 0.5:
        graph.node.remove(node)
    else:
        graph.node.add().CopyFrom(node)


def _names(random: Random, graph: onnx.GraphProto) -> None:
    info = random.choice((*graph.input, *graph.output, *graph.node))
    info.name = random.choice(("", "logits", "input_ids", "x" * 1000, "\u202e", info.name))
