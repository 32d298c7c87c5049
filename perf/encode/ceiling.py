"""How fast this machine multiplies integers: `python -m perf.encode.ceiling THREADS` prints multiply-adds a second.

One bare MatMulInteger, uint8 rows by int8 weights, of the shape of BERT-base's feed-forward at 128 tokens. onnxruntime
packs the weights when it loads them; nothing is rounded, scaled or copied.
"""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from perf.bench import ROOT

ROWS, INNER, COLUMNS = 128, 768, 3072
SECONDS = 2.0


def int8_products(threads: int, smoke: bool = False) -> float:
    """Multiply-adds a second, measured in a process of its own: two pools of threads disturb each other."""
    command = [sys.executable, "-m", "perf.encode.ceiling", str(threads), *["--smoke"] * smoke]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def measure(threads: int, seconds: float) -> float:
    """The best of all runs that fit into some seconds."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = numpy_helper.from_array(random.integers(-127, 128, (INNER, COLUMNS), np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "weights"], ["products"])],
        "product",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, [ROWS, INNER])],
        [helper.make_tensor_value_info("products", TensorProto.INT32, [ROWS, COLUMNS])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    rows = onnxruntime.OrtValue.ortvalue_from_numpy(random.integers(0, 256, (ROWS, INNER), np.uint8))
    products = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty((ROWS, COLUMNS), np.int32))
    binding.bind_ortvalue_input("rows", rows)
    binding.bind_ortvalue_output("products", products)
    best, begin = float("inf"), perf_counter()
    while perf_counter() - begin < seconds:
        start = perf_counter()
        session.run_with_iobinding(binding)
        best = min(best, perf_counter() - start)
    return ROWS * INNER * COLUMNS / best


if __name__ == "__main__":
    print(measure(int(sys.argv[1]), 0.05 if "--smoke" in sys.argv else SECONDS))
