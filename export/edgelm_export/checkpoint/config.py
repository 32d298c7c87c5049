"""What the configuration of a checkpoint says: architecture, task, labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelm_export import families
from edgelm_export.checkpoint.labels import with_labels
from edgelm_export.checkpoint.loading import config_object
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import PROBLEM_TYPES, REGRESSION, SINGLE_LABEL


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


def read_config(folder: Path, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Every field of config.json, those that it leaves out with transformers' defaults; ``labels`` stand for its own.

    Raises:
        UnsupportedCheckpoint: none there, broken, quantized or pruned, or of an unknown architecture.
    """
    if not (folder / "config.json").is_file():
        raise UnsupportedCheckpoint(
            f"{folder}: no config.json there; give the folder that transformers' save_pretrained wrote"
        )
    config = with_labels(read_json(folder / "config.json"), labels)
    if config.get("quantization_config"):
        raise families.refuse("quantization_config", config["quantization_config"], "none: weights in floating point")
    if any((config.get("pruned_heads") or {}).values()):
        raise families.refuse("pruned_heads", config["pruned_heads"], "none")
    model_type = str(config.get("model_type"))
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise _unknown(folder, model_type)
    try:
        # transformers knows the defaults of fields that are left out, and other names of fields.
        complete: dict[str, Any] = config_object(config).to_dict()
    except Exception as error:  # it raises whatever its validators raise
        raise UnsupportedCheckpoint(
            f"{folder / 'config.json'}: transformers refuses it ({reason_of(error)})"
        ) from error
    if type(complete.get("vocab_size")) is not int:
        raise UnsupportedCheckpoint(
            f"{folder / 'config.json'}: a {model_type!r} has no vocab_size: it reads no text, or is made of several "
            "models; give the folder of a model of text"
        )
    return complete


def _unknown(folder: Path, model_type: str) -> UnsupportedCheckpoint:
    if code := own_code(folder):
        return UnsupportedCheckpoint(
            f"{folder}: a {model_type!r} is code of its own ({', '.join(code)}), which edgelm never runs; where you "
            "trust it, export it with optimum yourself and give the folder of model.onnx"
        )
    return families.unknown(model_type)


def hidden_size(config: Mapping[str, Any]) -> int:
    """The width of a token's vector, whatever the architecture calls it."""
    return int(config_object(config).hidden_size)


def problem_type_of(config: Mapping[str, Any], labels: Sequence[str]) -> str:
    """transformers' `problem_type` of a text classifier: that of the configuration, or what one label would be."""
    found = config.get("problem_type") or (REGRESSION if len(labels) == 1 else SINGLE_LABEL)
    if found not in PROBLEM_TYPES or (found == SINGLE_LABEL and len(labels) < 2):
        raise families.refuse("problem_type", found, f"{', '.join(PROBLEM_TYPES)}, the first with two labels or more")
    return str(found)


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
