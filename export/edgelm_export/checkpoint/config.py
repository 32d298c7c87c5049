"""What the configuration of a checkpoint says: architecture, task, labels, defaults of generation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelm_export import families
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import PROBLEM_TYPES, REGRESSION, SINGLE_LABEL

# Fields of generation_config.json that the runtime has under the same name (the last two are edgelm's own).
GENERATION_FIELDS = (
    "max_new_tokens", "no_repeat_ngram_size", "repetition_penalty", "coverage_bonus", "quote_bonus",
)  # fmt: skip
SAMPLING_FIELDS = ("temperature", "top_k", "top_p")


def readable_folder(folder: Path) -> Path:
    """The folder, if there is one that may be read. Raises UnsupportedCheckpoint otherwise."""
    if not folder.exists():
        raise UnsupportedCheckpoint(
            f"{folder}: there is no such folder; name that of a checkpoint, or a model of the hub as ORGANISATION/NAME"
        )
    if not folder.is_dir():
        raise UnsupportedCheckpoint(f"{folder} is a file; name the folder that it lies in")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UnsupportedCheckpoint(f"{folder}: no permission to read it; chmod u+rx {folder}")
    if not any(folder.iterdir()):
        raise UnsupportedCheckpoint(f"{folder} is empty; name the folder of a checkpoint")
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """Every field of config.json, those that it leaves out with transformers' defaults.

    Raises:
        UnsupportedCheckpoint: none there, broken, quantized or pruned, or of an unknown architecture.
    """
    if not (folder / "config.json").is_file():
        raise UnsupportedCheckpoint(
            f"{folder}: no config.json there; give the folder that transformers' save_pretrained wrote"
        )
    config = read_json(folder / "config.json")
    if config.get("quantization_config"):
        raise families.refuse("quantization_config", config["quantization_config"], "none: weights in floating point")
    if any((config.get("pruned_heads") or {}).values()):
        raise families.refuse("pruned_heads", config["pruned_heads"], "none")
    model_type = str(config.get("model_type"))
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise families.unknown(model_type)
    try:
        # transformers knows the defaults of fields that are left out, and other names of fields.
        complete: dict[str, Any] = CONFIG_MAPPING[model_type].from_dict(config).to_dict()
    except Exception as error:  # it raises whatever its validators raise
        raise UnsupportedCheckpoint(f"{folder / 'config.json'}: transformers refuses it ({error})") from error
    return complete


def hidden_size(config: Mapping[str, Any]) -> int:
    """The width of a token's vector, whatever the architecture calls it."""
    from transformers import CONFIG_MAPPING

    return int(CONFIG_MAPPING[config["model_type"]].from_dict(dict(config)).hidden_size)


def task_of(config: Mapping[str, Any], served: Sequence[str], asked: str | None) -> str:
    """Hugging Face's task name of the checkpoint: its head, named by `architectures`, decides."""
    from optimum.exporters.tasks import TasksManager

    architecture = str((config.get("architectures") or [""])[0])
    found = served[0]
    if architecture:
        import transformers

        try:
            found = TasksManager.infer_task_from_model(getattr(transformers, architecture))
        except (AttributeError, ValueError, KeyError) as error:
            raise UnsupportedCheckpoint(
                f"config.json: architectures names {architecture!r}, which is unknown"
            ) from error
    if architecture.endswith("ForConditionalGeneration") and "text2text-generation" in served:
        found = "text2text-generation"  # of a BART optimum says that it fills masks, which it does as well
    return check_task(found, config, served, asked)


def check_task(found: str, config: Mapping[str, Any], served: Sequence[str], asked: str | None) -> str:
    """The task that was found. Raises UnsupportedCheckpoint if it is not served, or another one was asked for."""
    from optimum.exporters.tasks import TasksManager

    wanted = TasksManager.map_from_synonym(asked) if asked else found
    architecture = str((config.get("architectures") or [""])[0])
    if wanted == "feature-extraction" and wanted in served:
        return wanted  # the base model of any head gives vectors
    if found not in served or wanted != found:
        raise UnsupportedCheckpoint(
            f"the checkpoint is a {architecture or config.get('model_type')} for {found!r}"
            + (f", asked for was {wanted!r}" if asked else "")
            + f"; a {config.get('model_type')} is exported for {', '.join(served)}: fine-tune it with that head first"
        )
    return found


def problem_type_of(config: Mapping[str, Any], labels: Sequence[str]) -> str:
    """transformers' `problem_type` of a text classifier: that of the configuration, or what one label would be."""
    found = config.get("problem_type") or (REGRESSION if len(labels) == 1 else SINGLE_LABEL)
    if found not in PROBLEM_TYPES or (found == SINGLE_LABEL and len(labels) < 2):
        raise families.refuse("problem_type", found, f"{', '.join(PROBLEM_TYPES)}, the first with two labels or more")
    return str(found)


def labels_of(config: Mapping[str, Any], weights: families.Weights) -> tuple[str, ...]:
    """The name of every class of a classifier, in the order of its logits."""
    bias = "classifier.out_proj.bias"
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    stored = next((name for name in (bias, "classifier.bias") if name in weights), None)
    rows = len(names) if stored is None else weights(stored).shape[0]
    if sorted(names) != list(range(rows)):
        names = {index: f"LABEL_{index}" for index in range(rows)}
    return tuple(names[index] for index in range(rows))


def generation_defaults(folder: Path, task: str) -> dict[str, Any]:
    """What generation_config.json says of the options that the runtime has."""
    path = folder / "generation_config.json"
    if task != "text-generation" or not path.is_file():
        return {}
    stored = read_json(path)
    fields = GENERATION_FIELDS + (SAMPLING_FIELDS if stored.get("do_sample") else ())
    return {name: stored[name] for name in fields if stored.get(name) is not None}


def reason_of(error: BaseException) -> str:
    """What a library raised, in one line; that code should be trusted is no advice of ours."""
    said = " ".join(str(error).split())
    if "trust_remote_code" in said:
        return (
            "it is code of its own, named by auto_map, which edgelm never runs; where you trust it, export it with "
            "optimum yourself and give the folder of model.onnx"
        )
    if "weights_only" in said:
        return "its pickle asks for code to be run, or for more than tensors"
    return said[:300]


def own_code(folder: Path) -> list[str]:
    """The code of its own that a folder names in auto_map, sorted."""
    named: set[str] = set()
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        found = read_json(path).get("auto_map") if path.is_file() else None
        named |= _texts(list(found.values()) if isinstance(found, dict) else found)
    return sorted(named)


def _texts(found: Any) -> set[str]:
    """The strings in a value and the lists in it."""
    if isinstance(found, list):
        return {text for part in found for text in _texts(part)}
    return {found} if isinstance(found, str) else set()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UnsupportedCheckpoint for anything else."""
    value = _parsed(path)
    if not isinstance(value, dict):
        raise UnsupportedCheckpoint(f"{path}: holds a {type(value).__name__}, a JSON object is needed")
    return value


def read_json_array(path: Path) -> list[dict[str, Any]]:
    """The objects in a JSON array. Raises UnsupportedCheckpoint for anything else."""
    value = _parsed(path)
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise UnsupportedCheckpoint(f"{path}: holds a {type(value).__name__}, a JSON array of objects is needed")
    return value


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedCheckpoint(f"{path}: not readable as JSON ({error}); save the checkpoint again") from error
