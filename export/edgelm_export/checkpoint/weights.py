"""The weights of a checkpoint: safetensors, one file or several, read tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from edgelm_export.checkpoint.config import read_json
from edgelm_runtime.errors import UnsupportedCheckpoint

INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")


class Safetensors:
    """Tensors of one or several safetensors files, read from disk when asked for.

    ``renamed`` are the names that they are asked for by, by those in the file, where these are others.
    """

    def __init__(self, files: Mapping[str, Path], renamed: Mapping[str, str] | None = None) -> None:
        self._files = dict(files)
        self._stored_as = {name: stored for stored, name in (renamed or {}).items()}
        self._read: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The names of the tensors in the files."""
        return list(self._files)

    def renamed(self, names: Mapping[str, str]) -> Safetensors:
        """The same tensors under other names, given by those in the file."""
        return Safetensors(self._files, names) if names else self

    @property
    def elements_read(self) -> int:
        """Number of parameters in the tensors that were read so far, each counted once."""
        return sum(self._read.values())

    @property
    def elements(self) -> int:
        """Number of parameters in all tensors, from the headers of the files."""
        return sum(math.prod(shape) for _, shape in self._headers())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The kinds of numbers ("F32", "BF16", ...) of the tensors, sorted."""
        return tuple(sorted({kind for kind, _ in self._headers()}))

    @property
    def stored_bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.by_file())

    def by_file(self) -> dict[Path, list[str]]:
        """The names of the tensors of every file."""
        found: dict[Path, list[str]] = {}
        for name, path in self._files.items():
            found.setdefault(path, []).append(name)
        return found

    def _headers(self) -> Iterator[tuple[str, list[int]]]:
        for path, names in self.by_file().items():
            with safe_open(path, framework="pt") as handle:
                parts = [handle.get_slice(name) for name in names]
                yield from [(str(part.get_dtype()), part.get_shape()) for part in parts]

    def __contains__(self, name: str) -> bool:
        return self._stored(name) is not None

    def __call__(self, name: str) -> NDArray[Any]:
        """The tensor ``name`` in float32.

        Raises:
            UnsupportedCheckpoint: the checkpoint does not have it, or its file is broken.
        """
        stored = self._stored(name)
        if stored is None:
            raise UnsupportedCheckpoint(
                f"the weights have no tensor {name!r}; the checkpoint is incomplete or has another head. "
                f"It has {len(self._files)} tensors, such as {', '.join(sorted(self._files)[:3])}"
            )
        try:
            # Opened for each tensor: an open file stays mapped, and all its pages count as memory. Through torch, since
            # numpy has no bfloat16.
            with safe_open(self._files[stored], framework="pt") as handle:
                tensor = handle.get_tensor(stored)
        except (SafetensorError, OSError, ValueError) as error:
            raise UnsupportedCheckpoint(f"{self._files[stored]}: tensor {stored!r} cannot be read ({error})") from error
        if not tensor.is_floating_point():
            raise UnsupportedCheckpoint(
                f"tensor {stored!r} is {tensor.dtype}; only floating-point weights are accepted"
            )
        self._read[stored] = tensor.numel()
        array: NDArray[Any] = tensor.float().numpy()
        return array

    def _stored(self, name: str) -> str | None:
        """The name in the file: some savers leave the model's prefix out, old ones say gamma and beta for a norm."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        candidates = [alias for full in (name, old) for alias in (full, full.partition(".")[2])]
        stored = (self._stored_as.get(alias, alias) for alias in candidates)
        return next((alias for alias in stored if alias in self._files), None)


def open_weights(folder: Path) -> Safetensors:
    """The safetensors of a folder, one file or sharded.

    Raises:
        UnsupportedCheckpoint: none there, pickles only, a shard missing, or a truncated file.
    """
    if (folder / "model.safetensors").is_file():  # before a stale index, as transformers does
        names = ["model.safetensors"]
    elif (folder / INDEX).is_file():
        names = _shards(folder / INDEX)
    else:
        raise _no_weights(folder)
    files: dict[str, Path] = {}
    for name in names:
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise UnsupportedCheckpoint(f"{folder / INDEX} names the shard {name!r}, which is not in the folder")
        try:
            with safe_open(path, framework="pt") as handle:
                files.update(dict.fromkeys(handle.keys(), path))
        except (SafetensorError, OSError, ValueError) as error:
            raise UnsupportedCheckpoint(
                f"{path}: not a whole safetensors file ({error}); copy or save the checkpoint again"
            ) from error
    return Safetensors(files)


def _shards(index: Path) -> list[str]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UnsupportedCheckpoint(f"{index}: weight_map is {shards!r}, the shard of every tensor is needed")
    return sorted(set(map(str, shards.values())))


def _no_weights(folder: Path) -> UnsupportedCheckpoint:
    pickled = [name for name in PICKLED if (folder / name).is_file()]
    graphs = sorted({path.name for path in (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))})
    if graphs and not pickled:
        return UnsupportedCheckpoint(
            f"{folder}: no weights there, and of graphs model.onnx alone is taken, which is not among "
            f"{', '.join(graphs)}; give the float32 graph under that name, or the checkpoint"
        )
    if not pickled:
        return UnsupportedCheckpoint(f"{folder}: no model.safetensors and no {INDEX}; is it a checkpoint's folder?")
    return UnsupportedCheckpoint(
        f"{folder / pickled[0]} is a pickle, which can run code when it is loaded, and is refused. With --allow-pickle "
        "its tensors alone are read; or write model.safetensors where you trust it, with transformers' save_pretrained"
    )
