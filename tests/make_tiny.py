"""Make the tiny real bundles in tests/data: `python tests/make_tiny.py`. Needs onnx; the tests that use them do not.

The classifier averages one number per token: "good", 好 and their like are positive, "bad", 差 and their like negative.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edgelm_runtime.bundle import write_bundle
from edgelm_runtime.manifest import FORMAT, Manifest, TokenizerSpec, Variant

DATA = Path(__file__).parent / "data"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
NEGATIVE = ["bad", "slow", "broken", "差", "慢", "坏"]
POSITIVE = ["good", "fast", "great", "好", "快", "赞"]
NEUTRAL = ["the", "is", "and", "parcel", "very", "not", "a", "##s", "很", "物", "流", "，", "。", ".", ",", "!", "cls"]
VOCABULARY = SPECIAL + NEGATIVE + POSITIVE + NEUTRAL
CONTEXT = 16


def classifier_graph() -> bytes:
    """input_ids int64 [batch, sequence] -> logits float32 [batch, 2]."""
    weights = np.zeros((len(VOCABULARY), 2), np.float32)
    for column, words in enumerate((NEGATIVE, POSITIVE)):
        for word in words:
            weights[VOCABULARY.index(word), column] = 8.0
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["embedded"], axis=0),
        helper.make_node("ReduceMean", ["embedded"], ["logits"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_classifier",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "embedding")],
    )
    return _serialized(graph)


def external_graph() -> bytes:
    """A graph whose weights are said to lie in the file model.safetensors: what a bundle must never make us open."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="model.safetensors")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "weights"], ["output"])],
        "external",
        [value("input", TensorProto.FLOAT, [2])],
        [value("output", TensorProto.FLOAT, [2])],
        [weights],
    )
    return _serialized(graph)


def products_graph() -> bytes:
    """The runtime's question whether 8-bit products are exact: uint8 rows times int8 weights that are all 127."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["input", "weights"], ["product"])],
        "products",
        [value("input", TensorProto.UINT8, ["rows", 64])],
        [value("product", TensorProto.INT32, ["rows", 32])],
        [numpy_helper.from_array(np.full((64, 32), 127, np.int8), "weights")],
    )
    return _serialized(graph)


def rate_graph() -> bytes:
    """The product by which the runtime measures this machine's int8 rate; its weights come from outside."""
    value = helper.make_tensor_value_info
    weights = TensorProto(name="weights", data_type=TensorProto.INT8, data_location=TensorProto.EXTERNAL)
    weights.dims.extend([768, 3072])
    weights.external_data.add(key="location", value="model.safetensors")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "weights"], ["products"])],
        "rate",
        [value("rows", TensorProto.UINT8, ["rows", 768])],
        [value("products", TensorProto.INT32, ["rows", 3072])],
        [weights],
    )
    return _serialized(graph)


def wordpiece() -> bytes:
    """A BERT-like tokenizer over VOCABULARY."""
    model = models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode("utf-8")


def byte_level() -> bytes:
    """A GPT-2-like tokenizer of the 256 bytes, a few merges and two special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|summary|>", "<|answer|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the parcel is good and the parcel is fast", "物流很快物流很好"] * 4, trainer)
    return tokenizer.to_str().encode("utf-8")


def classifier_manifest() -> Manifest:
    """The manifest of the tiny classifier, without files."""
    return Manifest(
        format=FORMAT,
        name="tiny-classifier",
        version="1",
        task="text-classification",
        serves=("sentiment",),
        family="tiny",
        languages=("en", "zh"),
        labels=("negative", "positive"),
        tokenizer=TokenizerSpec("tokenizer.json", CONTEXT, pad_id=0),
        prompts={},
        generation={},
        variants=(Variant("fp32", "model.onnx", "fp32", ("cpu",), (), 0),),
        quality={},
        provenance={"made_by": "tests/make_tiny.py"},
        licence="Apache-2.0",
        files={},
    )


def main() -> None:
    """Write tests/data/tiny-classifier, byte_level.json, external.onnx, and the runtime's products.onnx, rate.onnx."""
    golden = {"classification": [{"text": "the parcel is good", "label": "positive", "scores": {"positive": 0.791}}]}
    contents: dict[str, bytes | Path] = {
        "model.onnx": classifier_graph(),
        "tokenizer.json": wordpiece(),
        "golden.json": json.dumps(golden, indent=2).encode("utf-8"),
    }
    write_bundle(DATA / "tiny-classifier", classifier_manifest(), contents, force=True)
    (DATA / "byte_level.json").write_bytes(byte_level())
    (DATA / "external.onnx").write_bytes(external_graph())
    (DATA.parents[1] / "runtime/edgelm_runtime/data/products.onnx").write_bytes(products_graph())
    (DATA.parents[1] / "runtime/edgelm_runtime/data/rate.onnx").write_bytes(rate_graph())


def _serialized(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
