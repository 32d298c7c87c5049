"""Large checkpoints in half precision: torch answers in float32 and holds no copy of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.reference import Reference
from tests.export import tiny

ROWS = [[5, 9, 200, 31, 7], [3], list(range(40, 90))]


def saved(folder: Path, kind: str, dtype: torch.dtype) -> Path:
    if kind == "bert":
        return tiny.save_bert(folder, tiny.bert().to(dtype))
    return tiny.save_gpt2(folder, (tiny.gpt2() if kind == "gpt2" else tiny.decoder(kind)).to(dtype))


@pytest.mark.parametrize("kind", ["bert", "gpt2", *tiny.SHAPES])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_mapped_model_answers_as_one_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype
) -> None:
    checkpoint = load_checkpoint(saved(tmp_path, kind, dtype))
    expected, ranges = Reference(checkpoint).logits_and_ranges(ROWS)
    monkeypatch.setattr("edgelm_export.mapped.LARGE_BYTES", 0)
    reference = Reference(checkpoint)
    assert next(reference.model.parameters()).dtype == dtype
    assert any(parametrize.is_parametrized(module) for module in reference.model.modules())
    found, same = reference.logits_and_ranges(ROWS)
    for one, other in zip(expected, found, strict=True):
        assert other.dtype == np.float32
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    assert ranges.keys() == same.keys()
    for name, known in ranges.items():
        np.testing.assert_allclose(same[name].high, known.high, rtol=0, atol=1e-4)


def test_small_ones_and_those_of_several_precisions_are_held_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load_checkpoint(saved(tmp_path / "small", "gpt2", torch.bfloat16))
    assert {tensor.dtype for tensor in Reference(small).model.parameters()} == {torch.float32}
    monkeypatch.setattr("edgelm_export.mapped.LARGE_BYTES", 0)
    model = tiny.gpt2().to(torch.bfloat16)
    model.transformer.ln_f.float()
    mixed = load_checkpoint(tiny.save_gpt2(tmp_path / "mixed", model))
    assert mixed.weights.dtypes == ("BF16", "F32")
    reference = Reference(mixed)
    assert {tensor.dtype for tensor in reference.model.parameters()} == {torch.float32}
    weight = reference.model.transformer.ln_f.weight
    assert torch.equal(weight, model.transformer.ln_f.weight)
