"""Weights in pickles, written again as safetensors. Nothing that a pickle asks to be run is run."""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from edgelm_export.checkpoint.config import read_json, reason_of
from edgelm_export.checkpoint.hub import READ
from edgelm_export.checkpoint.sentence import module_folders
from edgelm_runtime.errors import UnsupportedCheckpoint

WHOLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def is_pickled(folder: Path) -> bool:
    """Whether the folder, or one of a module in it, has its weights in pickles alone."""
    return any(map(_is_pickled, [folder, *module_folders(folder)]))


def _is_pickled(folder: Path) -> bool:
    pickled = (folder / WHOLE).is_file() or (folder / INDEX).is_file()
    return pickled and not any(folder.glob("model*.safetensors"))


def unpickle(folder: Path, into: Path) -> Path:
    """A copy of the checkpoint in ``folder`` at ``into``, its weights as safetensors; they are mapped, not loaded.

    Raises:
        UnsupportedCheckpoint: a pickle that is broken, holds more than tensors, or is not in the folder.
    """
    from huggingface_hub import save_torch_state_dict

    copy_small(folder, into)
    for each in [folder, *module_folders(folder)]:
        place = into / each.relative_to(folder)
        if not _is_pickled(each):
            for path in each.glob("model*.safetensors"):
                (place / path.name).symlink_to(path.resolve())
            continue
        tensors: dict[str, torch.Tensor] = {}
        for path in _files(each):
            tensors.update(_tensors(path))
        save_torch_state_dict(tensors, place)
    return into


def copy_small(folder: Path, into: Path) -> None:
    """Copy everything that an export reads but the weights: configuration, tokenizer, prompts."""
    for path in sorted({path for pattern in READ for path in folder.glob(pattern)}):
        if path.is_file() and not path.match("*.safetensors*"):
            target = into / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _files(folder: Path) -> list[Path]:
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    shards = read_json(folder / INDEX).get("weight_map")
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise UnsupportedCheckpoint(f"{folder / INDEX} names {missing or 'no shards'}, which are not in the folder")
    return [folder / name for name in names]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        loaded = _load(path)
    except pickle.UnpicklingError as error:
        raise UnsupportedCheckpoint(
            f"{path}: the pickle asks for code to be run, or for more than tensors, and is refused{_asked(error)}; "
            "save it as safetensors where you trust it"
        ) from error
    except Exception as error:  # torch raises whatever its readers raise
        raise UnsupportedCheckpoint(f"{path}: not a whole pickle of torch ({reason_of(error)})") from error
    if not isinstance(loaded, dict) or not all(map(_is_named_tensor, loaded.items())):
        raise UnsupportedCheckpoint(f"{path}: holds something else than tensors by name; save the model's state_dict")
    # One number may stand for a terabyte of them, which would be written.
    wide = [name for name, tensor in loaded.items() if tensor.nbytes > tensor.untyped_storage().nbytes()]
    if wide:
        raise UnsupportedCheckpoint(f"{path}: {wide[0][:80]!r} has more numbers than the file; save the model again")
    return loaded


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    """Whether it is a name and plain numbers: neither sparse nor quantized, nor without any."""
    name, tensor = item
    plain = isinstance(name, str) and isinstance(tensor, torch.Tensor)
    return plain and tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"


def _load(path: Path) -> Any:
    # Before torch 1.6 they were no zip files, and such a one cannot be mapped.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _asked(error: Exception) -> str:
    """The name that a pickle asked for, where torch says it."""
    found = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
    return f" ({found[1]})" if found else ""
