"""Half precision in ONNX's own operators, for GPUs and the accelerators that compute in it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize.attention import plain_attention, scaled
from edgelm_export.quantize.fp32 import Float32


class Half(Float32):
    """As float32; the graph builder stores and computes everything in float16, and answers in float32."""

    name = "fp16"
    precision = "fp16"

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """Operators that every provider has, in the place of onnxruntime's fused one."""
        packed = self.linear(graph, x, scaled(weight, heads), scaled(bias, heads), name)
        return plain_attention(graph, packed, bias.shape[0] // 3, heads, position_bias)
