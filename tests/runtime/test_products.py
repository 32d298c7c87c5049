"""Does the question about 8-bit products ask what it should?"""

from __future__ import annotations

import numpy as np
import pytest

from edgelm_runtime import products
from edgelm_runtime.machine import isa_flags


def test_processors_with_vnni_are_exact() -> None:
    if not {"avx512_vnni", "avx_vnni", "asimd"} & set(isa_flags()):
        pytest.skip("this processor has neither VNNI nor is it an ARM: both answers are right")
    assert not products.kernels_saturate()


def test_a_variable_says_yes_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELM_EXACT_PRODUCTS", "1")
    assert products.products_saturate()
    for value in ("0", ""):
        monkeypatch.setenv("EDGELM_EXACT_PRODUCTS", value)
        assert products.products_saturate() == products.kernels_saturate()


@pytest.mark.parametrize("rows", [1, 8])
def test_one_clipped_sum_is_enough(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    class Clipping:
        """onnxruntime whose kernel for this many rows adds pairs in 16 bits."""

        def __init__(self, *given: object, **options: object) -> None:
            pass

        def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            exact = feeds["input"].astype(np.int64) @ np.full((64, 32), 127)
            clipped = np.full_like(exact, 32 * np.iinfo(np.int16).max)
            return [clipped if len(feeds["input"]) == rows else exact]

    products.kernels_saturate.cache_clear()
    monkeypatch.setattr(products.onnxruntime(), "InferenceSession", Clipping)
    try:
        assert products.kernels_saturate()
    finally:
        products.kernels_saturate.cache_clear()
