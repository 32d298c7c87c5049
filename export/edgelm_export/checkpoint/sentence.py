"""Folders of sentence-transformers: how the vectors of the tokens become one of the text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.config import read_json, read_json_array
from edgelm_runtime.errors import UnsupportedCheckpoint

MODULES = "modules.json"
POOLINGS = ("mean", "cls", "lasttoken")
# Fields of 1_Pooling/config.json before sentence-transformers 6.
_OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """What a sentence-transformers folder asks for.

    ``folder`` is that of the transformer, ``dense`` are those of the layers after pooling.
    """

    folder: Path
    pooling: str
    dense: tuple[Path, ...]
    normalize: bool
    max_tokens: int | None
    lowercase: bool


def read_sentence(folder: Path) -> Sentence | None:
    """The settings of a sentence-transformers folder; None for any other.

    Raises:
        UnsupportedCheckpoint: modules or settings that the graph would not honour, named.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _modules(folder / MODULES)
    kinds = [kind for kind, _ in modules]
    end = -1 if kinds[-1:] == ["Normalize"] else len(kinds)
    if kinds[:2] != ["Transformer", "Pooling"] or any(kind != "Dense" for kind in kinds[2:end]):
        raise UnsupportedCheckpoint(
            f"{folder / MODULES}: the modules {', '.join(kinds) or 'none'} are not honoured by this exporter; "
            "accepted: Transformer, Pooling, then any number of Dense, then Normalize or not"
        )
    (_, transformer), (_, pooling) = modules[:2]
    _check_prompt(folder)
    place = folder / transformer
    settings = _optional(place / "sentence_bert_config.json")
    asked = settings.get("transformer_task", "feature-extraction")
    if asked != "feature-extraction":
        raise UnsupportedCheckpoint(f"{place}: transformer_task is {asked!r}; accepted: feature-extraction")
    limit = settings.get("max_seq_length")
    return Sentence(
        place, _pooling(folder / pooling / "config.json"), tuple(folder / path for _, path in modules[2:end]),
        "Normalize" in kinds,
        int(limit) if limit else None, bool(settings.get("do_lower_case")),
    )  # fmt: skip


def module_folders(folder: Path) -> list[Path]:
    """The folders of the modules of a sentence-transformers folder beside its own; none of another."""
    if not (folder / MODULES).is_file():
        return []
    return [folder / path for _, path in _modules(folder / MODULES) if path and (folder / path).is_dir()]


def _modules(path: Path) -> list[tuple[str, str]]:
    """The kind and the folder of every module; a kind that is none of sentence-transformers' has its whole name."""
    modules = []
    for module in read_json_array(path):
        kind, place = str(module.get("type", "")), str(module.get("path", ""))
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise UnsupportedCheckpoint(f"{path} names {place!r}, which is not in the folder; save the model again")
        modules.append((kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind, place))
    return modules


def _pooling(path: Path) -> str:
    config = read_json(path)
    old = [mode for field, mode in _OLD_POOLINGS.items() if config.get(field)]
    modes = config.get("pooling_mode", old or "mean")
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UnsupportedCheckpoint(f"{path}: pooling {modes} is not honoured; accepted: one of {', '.join(POOLINGS)}")
    return str(modes[0])


def _check_prompt(folder: Path) -> None:
    config = _optional(folder / "config_sentence_transformers.json")
    name = config.get("default_prompt_name")
    if name and (config.get("prompts") or {}).get(name):
        raise UnsupportedCheckpoint(
            f"{folder}: default_prompt_name = {name!r} puts words before every text, which is not honoured; accepted: "
            "null, with the words in your texts"
        )


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
