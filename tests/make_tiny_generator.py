"""Make tests/data/tiny-generator: a real generator bundle, small enough to be committed, with random weights.

Run `python tests/make_tiny_generator.py` after a change of the graph contract or of the bundle format. It needs onnx;
the tests that use the bundle do not.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from edgelm_runtime.bundle import open_bundle, write_bundle
from edgelm_runtime.manifest import FORMAT, Manifest, TokenizerSpec, Variant
from edgelm_runtime.tasks import task_class

TARGET = Path(__file__).parent / "data" / "tiny-generator"
SPECIAL = ["<|endoftext|>", "<|summary|>", "<|description|>", "<|answer|>"]
LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT = 2, 2, 1, 300, 96
HEAD_SIZE = 8  # GroupQueryAttention takes multiples of 8 only
HIDDEN = HEADS * HEAD_SIZE
SENTENCES = [
    "这条连衣裙面料柔软，颜色是白色，穿着很舒服。",
    "物流很快，包装也很好，颜色和图片一样，推荐购买。",
    "这件上衣版型宽松，风格简约，适合春天和秋天穿。",
    "The dress is soft and light, the colour is just as it looks in the picture.",
    "Fast delivery, good packing, and the sweater fits true to size.",
    "This laptop has a large drive, a good screen and a fair price.",
]
GOLDEN = [
    ("summary", "物流很快，包装也很好。颜色和图片一样。"),
    ("summary", "The sweater is soft. It fits true to size."),
    ("description", "类型: 裙; 颜色: 白色"),
]


@dataclass
class Graph:
    """Nodes and weights of a graph that is being built."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: object) -> str:
        """Add a node, return its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def weight(self, name: str, *shape: int) -> str:
        """Add a random float32 weight: small vectors, and matrices large enough that answers are varied."""
        scale = 3 / np.sqrt(shape[0]) if len(shape) > 1 else 0.1
        return self.constant(name, np.float32(scale) * self.normal(*shape))

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def layer_norm(self, hidden: str, name: str) -> str:
        scale = self.constant(f"{name}.scale", np.ones(HIDDEN, np.float32))
        return self.node("LayerNormalization", [hidden, scale, self.weight(f"{name}.bias", HIDDEN)], [name])


def make_tokenizer() -> bytes:
    """tokenizer.json of a byte-level BPE with VOCAB entries, the special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer.to_str().encode()


def make_graph(seed: int) -> bytes:
    """The serialized generator graph, by the runtime's contract for generators."""
    graph = Graph(np.random.default_rng(seed))
    embedding = graph.constant("embedding", graph.normal(VOCAB, HIDDEN))
    graph.node("Gather", [embedding, "input_ids"], ["tokens"])
    graph.node("Gather", [graph.constant("positions", graph.normal(CONTEXT, HIDDEN)), "position_ids"], ["places"])
    hidden = graph.node("Add", ["tokens", "places"], ["hidden"])
    for layer in range(LAYERS):
        hidden = add_layer(graph, hidden, layer)
    start = graph.node("Neg", ["logits_to_keep"], ["start"])
    end, axis = graph.constant("end", np.array([2**62])), graph.constant("axis", np.array([1]))
    hidden = graph.node("Slice", [hidden, start, end, axis], ["last_hidden"])
    head = graph.node("Transpose", [embedding], ["head"], perm=[1, 0])
    graph.node("MatMul", [graph.layer_norm(hidden, "final_norm"), head], ["logits"])
    return serialized(graph)


def add_layer(graph: Graph, hidden: str, layer: int) -> str:
    """One pre-norm transformer layer with packed QKV in GroupQueryAttention; returns the new hidden state."""
    name = f"layer{layer}"
    normed = graph.layer_norm(hidden, f"{name}.norm1")
    packed = graph.weight(f"{name}.qkv.weight", HIDDEN, HIDDEN + 2 * KV_HEADS * HEAD_SIZE)
    qkv = graph.node("MatMul", [normed, packed], [f"{name}.qkv"])
    past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
    attended = graph.node(
        "GroupQueryAttention",
        [qkv, "", "", *past, "seqlens_k", "total_sequence_length"],
        [f"{name}.attended", f"present.{layer}.key", f"present.{layer}.value"],
        domain="com.microsoft",
        num_heads=HEADS,
        kv_num_heads=KV_HEADS,
    )
    projected = graph.node("MatMul", [attended, graph.weight(f"{name}.out", HIDDEN, HIDDEN)], [f"{name}.projected"])
    hidden = graph.node("Add", [hidden, projected], [f"{name}.residual"])
    wide = graph.node(
        "MatMul",
        [graph.layer_norm(hidden, f"{name}.norm2"), graph.weight(f"{name}.up", HIDDEN, 2 * HIDDEN)],
        [f"{name}.wide"],
    )
    active = graph.node("Gelu", [wide], [f"{name}.active"])
    narrow = graph.node("MatMul", [active, graph.weight(f"{name}.down", 2 * HIDDEN, HIDDEN)], [f"{name}.narrow"])
    return graph.node("Add", [hidden, narrow], [f"{name}.hidden"])


def serialized(graph: Graph) -> bytes:
    tensor = helper.make_tensor_value_info
    cache = ["batch", KV_HEADS, "capacity", HEAD_SIZE]
    parts = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    inputs = [
        tensor("input_ids", TensorProto.INT64, ["batch", "sequence"]),
        tensor("position_ids", TensorProto.INT64, ["batch", "sequence"]),
        tensor("seqlens_k", TensorProto.INT32, ["batch"]),
        tensor("total_sequence_length", TensorProto.INT32, []),
        tensor("logits_to_keep", TensorProto.INT64, [1]),
        *(tensor(f"past_key_values.{part}", TensorProto.FLOAT, cache) for part in parts),
    ]
    outputs = [
        tensor("logits", TensorProto.FLOAT, ["batch", "kept", VOCAB]),
        *(tensor(f"present.{part}", TensorProto.FLOAT, cache) for part in parts),
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "tiny-generator", inputs, outputs, initializer=graph.weights),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
        producer_name="edgelm tests",
    )
    model.ir_version = 10
    return model.SerializeToString()


def make_manifest() -> Manifest:
    return Manifest(
        format=FORMAT,
        name="tiny-generator",
        version="1",
        task="text-generation",
        serves=("summary", "description"),
        family="gpt2",
        languages=("zh", "en"),
        labels=(),
        tokenizer=TokenizerSpec("tokenizer.json", CONTEXT, None, (0,), None),
        prompts={task: f"<|{task}|>{{text}}<|answer|>" for task in ("summary", "description")},
        generation={"max_new_tokens": 16, "tasks": {"description": {"no_repeat_ngram_size": 3}}},
        variants=(Variant("fp32", "model.onnx", "fp32", ("cpu",), (), 0),),
        quality={},
        provenance={"made_by": "tests/make_tiny_generator.py", "weights": "random"},
        licence="Apache-2.0",
        files={},
    )


def main() -> None:
    """Write the bundle, its golden answers made by the runtime itself."""
    contents: dict[str, bytes | Path] = {
        "model.onnx": make_graph(seed=7),
        "tokenizer.json": make_tokenizer(),
        "golden.json": b"{}",
    }
    with tempfile.TemporaryDirectory() as folder:
        draft = write_bundle(Path(folder) / "draft", make_manifest(), contents)
        answers = [{"task": task, "text": text, "answer": task_class(task)(draft)(text).text} for task, text in GOLDEN]
    contents["golden.json"] = (json.dumps({"generation": answers}, ensure_ascii=False, indent=1) + "\n").encode()
    write_bundle(TARGET, make_manifest(), contents, force=TARGET.exists())
    size = sum(entry.size for entry in open_bundle(TARGET).manifest.files.values())
    print(f"{TARGET}: {size:,} bytes")


if __name__ == "__main__":
    main()
