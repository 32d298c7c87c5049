"""A Hugging Face folder, read and checked before any work: configuration, weights, tokenizer, task, prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from edgelm_export import families
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import TokenizerSpec

INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
PROMPTS_FILE = "prompts.json"
# Fields of generation_config.json that the runtime has under the same name (the last two are edgelm's own).
GENERATION_FIELDS = (
    "max_new_tokens", "no_repeat_ngram_size", "repetition_penalty", "coverage_bonus", "quote_bonus",
)  # fmt: skip
SAMPLING_FIELDS = ("temperature", "top_k", "top_p")


@dataclass(frozen=True)
class Checkpoint:
    """Everything of a checkpoint that a bundle is made from."""

    folder: Path
    config: Mapping[str, Any]
    weights: Safetensors
    tokenizer_json: bytes
    tokenizer: TokenizerSpec
    wanted: families.Wanted
    labels: tuple[str, ...]
    prompts: Mapping[str, str]
    generation: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Hugging Face's name of the task."""
        return self.wanted.task

    @property
    def family(self) -> str:
        """The architecture: transformers' model type."""
        return str(self.config["model_type"])

    @property
    def float32_bytes(self) -> int:
        """Size in float32 of the weights that were read: old checkpoints hold masks and counters beside them."""
        return 4 * self.weights.elements_read


def load_checkpoint(folder: Path, task: str | None = None) -> Checkpoint:
    """Read a folder that transformers saved.

    Raises:
        UnsupportedCheckpoint: anything missing, broken, or of a kind that cannot be exported; the message says what to
            do about it.
    """
    config = _config(folder)
    family = families.family(str(config.get("model_type")))
    family.check(config)
    found = _task(config, family.TASKS, task)
    weights = open_weights(folder)
    tokenizer_json, spec = _tokenizer(folder, config)
    labels: tuple[str, ...] = ()
    prompts: Mapping[str, str] = {}
    if found == "text-classification":
        labels = _labels(config, weights)
    else:
        prompts = _read_json(folder / PROMPTS_FILE) if (folder / PROMPTS_FILE).is_file() else {}
    wanted = families.Wanted(found, spec.max_tokens)
    return Checkpoint(
        folder, config, weights, tokenizer_json, spec, wanted, labels, prompts, _generation(folder, found)
    )


class Safetensors:
    """Tensors of one or several safetensors files, read from disk when asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._read: dict[str, int] = {}

    @property
    def elements_read(self) -> int:
        """Number of parameters in the tensors that were read so far, each counted once."""
        return sum(self._read.values())

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
        return next((alias for alias in candidates if alias in self._files), None)


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
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UnsupportedCheckpoint(f"{index}: weight_map is {shards!r}, the shard of every tensor is needed")
    return sorted(set(map(str, shards.values())))


def _no_weights(folder: Path) -> UnsupportedCheckpoint:
    pickled = [name for name in PICKLED if (folder / name).is_file()]
    if not pickled:
        return UnsupportedCheckpoint(f"{folder}: no model.safetensors and no {INDEX}; is it a checkpoint's folder?")
    where = str(folder)
    return UnsupportedCheckpoint(
        f"{folder / pickled[0]} is a pickle, which can run code when it is loaded, and is refused. If you trust it, "
        f'write model.safetensors beside it: python -c "import transformers as t; '
        f't.AutoModelForSequenceClassification.from_pretrained({where!r}).save_pretrained({where!r})" '
        "(AutoModelForCausalLM for a GPT)"
    )


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UnsupportedCheckpoint(
            f"{folder}: no config.json there; give the folder that transformers' save_pretrained wrote"
        )
    config = _read_json(folder / "config.json")
    if config.get("quantization_config"):
        raise families.refuse("quantization_config", config["quantization_config"], "none: weights in floating point")
    if any((config.get("pruned_heads") or {}).values()):
        raise families.refuse("pruned_heads", config["pruned_heads"], "none")
    model_type = str(config.get("model_type"))
    families.family(model_type)
    from transformers import CONFIG_MAPPING

    try:
        # transformers knows the defaults of fields that are left out, and other names of fields.
        complete: dict[str, Any] = CONFIG_MAPPING[model_type].from_dict(config).to_dict()
    except Exception as error:  # it raises whatever its validators raise
        raise UnsupportedCheckpoint(f"{folder / 'config.json'}: transformers refuses it ({error})") from error
    return complete


def _task(config: Mapping[str, Any], served: Sequence[str], asked: str | None) -> str:
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
    wanted = TasksManager.map_from_synonym(asked) if asked else found
    if found not in served or wanted != found:
        raise UnsupportedCheckpoint(
            f"the checkpoint is a {architecture or config.get('model_type')} for {found!r}"
            + (f", asked for was {wanted!r}" if asked else "")
            + f"; a {config.get('model_type')} is exported for {', '.join(served)}: fine-tune it with that head first"
        )
    return found


def _tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[bytes, TokenizerSpec]:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UnsupportedCheckpoint(
            f"{folder}: no tokenizer there (looked for {', '.join(TOKENIZER_FILES)}); "
            "save it into the folder with tokenizer.save_pretrained"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise UnsupportedCheckpoint(f"{folder}: transformers cannot load its tokenizer ({error})") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedCheckpoint(
            f"{folder}: {type(tokenizer).__name__} has no fast form, which the runtime needs as tokenizer.json"
        )
    rows = int(config["vocab_size"])
    if len(tokenizer) > rows:
        raise UnsupportedCheckpoint(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {rows} rows")
    limit = int(config["max_position_embeddings"] if "max_position_embeddings" in config else config["n_positions"])
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else config.get("eos_token_id")
    spec = TokenizerSpec(
        file="tokenizer.json", max_tokens=min(limit, int(tokenizer.model_max_length)),
        bos_id=tokenizer.bos_token_id, eos_id=end, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    # Without indentation: a third of the bytes.
    compact = json.dumps(json.loads(backend.to_str()), ensure_ascii=False, separators=(",", ":"))
    return compact.encode(), spec


def _labels(config: Mapping[str, Any], weights: Safetensors) -> tuple[str, ...]:
    rows = weights("classifier.bias").shape[0]
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    if sorted(names) != list(range(rows)):
        names = {index: f"LABEL_{index}" for index in range(rows)}
    return tuple(names[index] for index in range(rows))


def _generation(folder: Path, task: str) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if task != "text-generation" or not path.is_file():
        return {}
    stored = _read_json(path)
    fields = GENERATION_FIELDS + (SAMPLING_FIELDS if stored.get("do_sample") else ())
    return {name: stored[name] for name in fields if stored.get(name) is not None}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedCheckpoint(f"{path}: not readable as JSON ({error}); save the checkpoint again") from error
    if not isinstance(value, dict):
        raise UnsupportedCheckpoint(f"{path}: holds a {type(value).__name__}, a JSON object is needed")
    return value
