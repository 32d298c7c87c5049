"""The operators that a graph of a bundle may have: those that the export writes, each with its attributes.

They compute tensors from tensors, the same at every run. Control flow, sequences, random numbers, strings, compiled
parts and everything of other domains is left out. A new scheme or family adds what it needs here, and a test compares
the attributes with ONNX's and onnxruntime's own definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MICROSOFT = "com.microsoft"
# TensorProto.DataType
FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, DOUBLE = 1, 2, 3, 6, 7, 9, 10, 11
FLOATS = frozenset((FLOAT, FLOAT16, DOUBLE))
ITEM_BYTES = {FLOAT: 4, UINT8: 1, INT8: 1, 4: 2, 5: 2, INT32: 4, INT64: 8, BOOL: 1, FLOAT16: 2, DOUBLE: 8}


@dataclass(frozen=True)
class Operator:
    """Attributes by name, and the type of the first output: that of input `like`, or `gives` where that is not 0."""

    attributes: frozenset[str] = frozenset()
    like: int = 0
    gives: int = 0


def _plain(names: str, like: int = 0, gives: int = 0) -> dict[str, Operator]:
    return {name: Operator(like=like, gives=gives) for name in names.split()}


def _with(names: str, attributes: str, like: int = 0, gives: int = 0) -> dict[str, Operator]:
    return {name: Operator(frozenset(attributes.split()), like, gives) for name in names.split()}


_REDUCED = "axes keepdims noop_with_empty_axes"  # `axes` until opset 17

ONNX: Mapping[str, Operator] = {
    **_plain("Abs Add Ceil Clip Cos Div Erf Exp Expand Floor HardSwish Identity Log MatMul Max Mean Min Mish"),
    **_plain("Mul Neg PRelu Pow Range Reciprocal Relu Round Sigmoid Sign Sin Slice Softplus Softsign Sqrt Squeeze Sub"),
    **_plain("Sum Tanh Tile Unsqueeze"),
    **_plain("And Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Not Or Xor", gives=BOOL),
    **_plain("Where", like=1),
    **_plain("DynamicQuantizeLinear", gives=UINT8),
    **_plain("MatMulInteger", gives=INT32),
    **_plain("NonZero Size", gives=INT64),
    **_with("ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum", _REDUCED),
    **_with("ReduceSumSquare", _REDUCED),
    **_with("ArgMax ArgMin", "axis keepdims select_last_index", gives=INT64),
    **_with("Cast", "to saturate"),  # gives what `to` says
    **_with("Concat Flatten Gather GatherElements LogSoftmax Softmax", "axis"),
    **_with("Constant", "value value_int value_ints value_float value_floats"),  # gives what it holds
    **_with("ConstantOfShape", "value"),  # gives what it holds
    **_with("Conv", "auto_pad dilations group kernel_shape pads strides"),
    **_with("CumSum", "exclusive reverse"),
    **_with("DequantizeLinear", "axis block_size", like=1),
    **_with("Einsum", "equation"),
    **_with("Elu LeakyRelu", "alpha"),
    **_with("GatherND", "batch_dims"),
    **_with("Gelu", "approximate"),
    **_with("Gemm", "alpha beta transA transB"),
    **_with("HardSigmoid", "alpha beta"),
    **_with("InstanceNormalization", "epsilon"),
    **_with("IsInf", "detect_negative detect_positive", gives=BOOL),
    **_with("LayerNormalization SimplifiedLayerNormalization", "axis epsilon stash_type"),
    **_with("LpNormalization", "axis p"),
    **_with("Mod", "fmod"),
    **_with("OneHot", "axis", like=2),
    **_with("Pad", "mode"),
    **_with("QuantizeLinear", "axis block_size output_dtype saturate", like=2),
    **_with("Reshape", "allowzero"),
    **_with("ScatterElements", "axis reduction"),
    **_with("ScatterND", "reduction"),
    **_with("Selu", "alpha gamma"),
    **_with("Shape", "start end", gives=INT64),
    **_with("Split", "axis num_outputs"),
    **_with("TopK", "axis largest sorted"),
    **_with("Transpose", "perm"),
    **_with("Trilu", "upper"),
}

_GQA = (
    "causal do_rotary k_quant_type kv_cache_bit_width kv_num_heads local_window_size num_heads qk_norm_epsilon "
    "qk_output rotary_interleaved scale smooth_softmax softcap v_quant_type"
)
_ATTENTION = "do_rotary mask_filter_value num_heads past_present_share_buffer scale unidirectional"

CONTRIB: Mapping[str, Operator] = {
    **_plain("BiasGelu DynamicQuantizeMatMul FastGelu Gelu"),
    **_plain("MatMulIntegerToFloat", like=2),
    **_with("Attention", f"{_ATTENTION} qkv_hidden_sizes rotary_embedding_dim"),
    **_with("DequantizeLinear", "axis", like=1),
    **_with("FusedMatMul", "alpha transA transB transBatchA transBatchB"),
    **_with("GatherBlockQuantized", "bits block_size gather_axis quantize_axis", like=2),
    **_with("GroupQueryAttention", _GQA),
    **_with("MatMulNBits", "K N accuracy_level bits block_size"),
    **_with("MultiHeadAttention", "mask_filter_value num_heads scale unidirectional"),
    **_with("QAttention", _ATTENTION, like=3),
    **_with("QuantizeLinear", "axis", like=2),
    **_with("QuickGelu", "alpha"),
    **_with("RotaryEmbedding", "interleaved is_packed_batching num_heads rotary_embedding_dim scale"),
    **_with("SkipLayerNormalization SkipSimplifiedLayerNormalization", "epsilon"),
}

OPERATORS: Mapping[str, Mapping[str, Operator]] = {"": ONNX, "ai.onnx": ONNX, MICROSOFT: CONTRIB}
# Operators of any number of inputs, all of which they read without a look whether they are there.
VARIADIC = frozenset(("Concat", "Einsum", "Max", "Mean", "Min", "Sum"))
# Inputs that may be left out by their definition, and are read all the same.
READ: Mapping[str, tuple[int, ...]] = {"Attention": (2,), "QAttention": (2,)}
# Inputs that say how large the output is.
SIZES: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Tile": (1,),
}  # fmt: skip
