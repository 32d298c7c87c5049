"""Tiny random checkpoints of architectures without a family file, and prepared graphs in onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import transformers
from numpy.typing import NDArray

from edgelm_export.checkpoint.tensors import MODELS
from edgelm_export.families import Wanted
from edgelm_export.passes.placing import placed
from edgelm_export.quantize import Scheme
from edgelm_export.vector import Vector
from edgelm_runtime.session import SessionOptions, create_session, run
from tests.export.tiny import CONTEXT, randomized, save_bert

TASKS = ("text-classification", "token-classification", "feature-extraction")
SHAPE = {
    "vocab_size": 600, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": CONTEXT, "pad_token_id": 0,
}  # fmt: skip
TRACED: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "convbert": {"embedding_size": 16},
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
        "norm_rel_ebd": "layer_norm", "type_vocab_size": 0, "position_biased_input": False,
    },
    "modernbert": {
        "local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2,
        "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip


def model(kind: str, task: str, spread: float = 0.1, **config: Any) -> Any:
    """A model of one of TRACED with the head of a task, every weight random."""
    layers = 2 if task == TASKS[0] and kind in ("albert", "modernbert") else 1  # those two have layers of two kinds
    given = {**SHAPE, **TRACED[kind], "num_labels": 3, "num_hidden_layers": layers, **config}
    made = transformers.AutoConfig.for_model(kind, **given)
    return randomized(getattr(transformers, MODELS[task]).from_config(made, attn_implementation="eager"), 0, spread)


def save(folder: Path, kind: str, task: str, **config: Any) -> Path:
    """Save such a model with a tokenizer."""
    return save_bert(folder, model(kind, task, **{"spread": 0.05, **config}))


def output(torch_model: Any, wanted: Wanted, ids: Sequence[int]) -> NDArray[np.float32]:
    """What torch answers: logits [labels] or [tokens, labels], or the vector [width]."""
    with torch.inference_mode():
        found = torch_model(input_ids=torch.tensor([list(ids)]))
    if wanted.task != "feature-extraction":
        return found.logits[0].numpy()
    return Vector(wanted)(found.last_hidden_state)[0].numpy()


class Answers:
    """A prepared graph in a scheme, in onnxruntime."""

    def __init__(self, prepared: ir.Model, scheme: Scheme) -> None:
        self._session = create_session(placed(prepared, scheme, "tiny").graph, SessionOptions(1))
        self._name = str(prepared.graph.outputs[0].name)

    def __call__(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The output for one row."""
        found: NDArray[np.float32] = self.batch([ids])[0]
        return found

    def batch(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The outputs for rows of one length."""
        return run(self._session, {"input_ids": np.array(rows, np.int64)}, [self._name])[0]
