"""Adapters of peft (LoRA and its relatives), merged into the checkpoint that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgelm_export.checkpoint.config import read_config, read_json, reason_of
from edgelm_export.checkpoint.labels import HEADS, with_labels
from edgelm_export.checkpoint.loading import load_model
from edgelm_export.checkpoint.needs import check_disk, check_memory, export_needs
from edgelm_export.checkpoint.pickles import copy_small
from edgelm_export.checkpoint.tensors import needed
from edgelm_export.checkpoint.vocabulary import TOKENIZER_FILES
from edgelm_export.checkpoint.weights import open_weights
from edgelm_runtime.errors import UnsupportedCheckpoint

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TASKS: Mapping[str, str] = {
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "CAUSAL_LM": "text-generation",
    "SEQ_2_SEQ_LM": "text2text-generation",
    "FEATURE_EXTRACTION": "feature-extraction",
}
_HEADS = tuple(f"{head}.weight" for head in HEADS)


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, and what its configuration says."""

    folder: Path
    kind: str
    task: str
    base: str

    @property
    def local_base(self) -> Path | None:
        """The base where it is a folder: as it is named, or as seen from the adapter."""
        places = (Path(self.base), self.folder / self.base)
        return next((place for place in places if self.base and place.is_dir()), None)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "model.safetensors").is_file()


def read_adapter(folder: Path, *, allow_pickle: bool) -> Adapter:
    """Read an adapter's configuration.

    Raises:
        UnsupportedCheckpoint: of a kind that peft cannot merge, for a task that is not exported, or without weights.
    """
    config = read_json(folder / CONFIG)
    kind, task = str(config.get("peft_type")), str(config.get("task_type"))
    if kind not in _mergeable():
        raise UnsupportedCheckpoint(
            f"{folder}: peft cannot merge an adapter of the kind {kind!r} into its model; "
            f"accepted: {', '.join(_mergeable())}"
        )
    if config.get("alora_invocation_tokens"):
        raise UnsupportedCheckpoint(f"{folder}: alora_invocation_tokens switch it on while it answers; accepted: none")
    if task not in TASKS:
        raise UnsupportedCheckpoint(f"{folder}: {CONFIG} has task_type {task!r}; accepted: {', '.join(TASKS)}")
    if not (folder / WEIGHTS).is_file():
        if not (folder / PICKLED).is_file():
            raise UnsupportedCheckpoint(f"{folder}: an adapter without its weights; {WEIGHTS} is needed")
        if not allow_pickle:
            raise UnsupportedCheckpoint(
                f"{folder / PICKLED} is a pickle, which can run code when it is loaded; if you need it, --allow-pickle "
                "reads its tensors alone"
            )
    return Adapter(folder, kind, TASKS[task], str(config.get("base_model_name_or_path") or ""))


def merge(adapter: Adapter, base: Path, into: Path) -> Path:
    """Write the model in ``base`` with the adapter merged into it, in float32, to ``into``.

    In float32 even where the base is in half precision, whose rounding would swallow small changes.

    Raises:
        UnsupportedCheckpoint: the two do not fit, or a part of the head is in neither.
    """
    read_config(base)
    needs = export_needs(open_weights(base))
    check_memory(needs)
    check_disk(needs, into)  # the merged model takes as much as the bundles that are tried
    import transformers
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        stored = load_peft_weights(str(adapter.folder), device="cpu")
        model, absent = _base_model(adapter, base, stored)
        merging = PeftModel.from_pretrained(model, str(adapter.folder))
        # Left to itself peft asks the hub whether the embeddings were resized: they count where they are stored.
        plain, whole = (set(get_peft_model_state_dict(merging, save_embedding_layers=kept)) for kept in (False, True))
        _check_names(adapter, set(stored), plain | (whole & set(stored)), absent)
        merged: Any = merging.merge_and_unload(safe_merge=True)
    except UnsupportedCheckpoint:
        raise
    except Exception as error:  # peft and torch raise whatever they meet
        raise UnsupportedCheckpoint(
            f"{adapter.folder}: peft cannot merge it into {base} ({reason_of(error)})"
        ) from error
    copy_small(base, into)
    if any((adapter.folder / name).is_file() for name in TOKENIZER_FILES):
        copy_small(adapter.folder, into)
        (into / CONFIG).unlink()  # transformers would look for the adapter
    merged.save_pretrained(into)
    return into


def _base_model(adapter: Adapter, base: Path, stored: Mapping[str, torch.Tensor]) -> tuple[Any, set[str]]:
    """The base with the head that the adapter has, and the names of the tensors that it lacks."""
    config = read_config(base, _labels(adapter, base, stored))
    model, info = load_model(
        base, config, adapter.task, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )
    absent = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    return model, needed(absent, adapter.task)


def _labels(adapter: Adapter, base: Path, stored: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """The classes of the head that the adapter has, named by its config.json or the base's; none without a head."""
    rows = {tensor.shape[0] for name, tensor in stored.items() if name.endswith(_HEADS) and tensor.ndim == 2}
    if len(rows) != 1:
        return ()
    (count,) = rows
    for path in (adapter.folder / "config.json", base / "config.json"):
        named = with_labels(read_json(path)).get("id2label") if path.is_file() else None
        if named and len(named) == count:
            return tuple(named.values())
    return tuple(f"LABEL_{index}" for index in range(count))


def _check_names(adapter: Adapter, stored: set[str], placed: set[str], absent: set[str]) -> None:
    if stored != placed:
        sides = [", ".join(sorted(names)) or "none" for names in (stored - placed, placed - stored)]
        raise UnsupportedCheckpoint(
            f"{adapter.folder}: its base is another model. Tensors of the adapter without a place there: {sides[0]}; "
            f"places without a tensor: {sides[1]}"
        )
    lacking = sorted(name for name in absent if f"base_model.model.{name}" not in stored)
    if lacking:
        raise UnsupportedCheckpoint(
            f"{adapter.folder}: neither the adapter nor its base has {', '.join(lacking)}; "
            "train it again with these in modules_to_save"
        )


def _mergeable() -> list[str]:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return sorted(
        str(kind.value) for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items() if hasattr(tuner, "merge_and_unload")
    )
