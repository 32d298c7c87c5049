"""Does onnxruntime multiply unsigned by signed bytes exactly on this CPU?

On x86 without VNNI two neighbouring products are added in 16 bits, and clipped there without a word. Whether that
happens is decided by the kernel that onnxruntime takes, so it is asked for two numbers instead of the CPU for its name.
With EDGELM_EXACT_PRODUCTS=1 the answer is yes everywhere: what runs on such a CPU can be seen, and tested, on any.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np

from .ort import onnxruntime

# MatMulInteger of input uint8 [rows, 64] with int8 [64, 32], all 127; tests/make_tiny.py writes it.
_PROBE = Path(__file__).parent / "data" / "products.onnx"
_ROWS = (1, 8)  # kernels differ for one row and for several
VARIABLE = "EDGELM_EXACT_PRODUCTS"


def products_saturate() -> bool:
    """Whether weights have to be uint8 for exact products; onnxruntime is asked once a process, in a millisecond."""
    return os.environ.get(VARIABLE) == "1" or kernels_saturate()


@cache
def kernels_saturate() -> bool:
    """Whether 255 * 127 + 255 * 127 is too much for the kernels."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(_PROBE.read_bytes(), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    for rows in _ROWS:
        given = np.full((rows, 64), 255, np.uint8)
        (found,) = session.run(["product"], {"input": given})
        if (found != 64 * 255 * 127).any():
            return True
    return False
