"""The tokens that end an answer: what transformers' own generation stops at."""

from __future__ import annotations

from pathlib import Path

from edgelm_export.checkpoint.config import read_json
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import MAX_END_TOKENS

# The first decides, as in transformers. What a configuration leaves out is not its class's default, which may be
# a word of this vocabulary.
_FILES = ("generation_config.json", "config.json")


def end_tokens(folder: Path, rows: int, own: int | None) -> tuple[int, ...]:
    """The end tokens of the first file that names tokens of the model, below ``rows``; else the tokenizer's ``own``.

    Raises:
        UnsupportedCheckpoint: a file names something else than token ids, or too many.
    """
    known, _ = _sorted_out(folder, rows)
    return tuple(known or ([] if own is None else [own]))


def absent_ends(folder: Path, rows: int) -> list[int]:
    """The end tokens that were passed over on the way: they are named, and the model does not have them."""
    return _sorted_out(folder, rows)[1]


def _sorted_out(folder: Path, rows: int) -> tuple[list[int], list[int]]:
    """The end tokens of the file that decides, and those before them that the model does not have."""
    absent: dict[int, None] = {}
    for name in _FILES:
        named = _named(folder / name)
        absent |= dict.fromkeys(token for token in named if not 0 <= token < rows)
        if known := [token for token in named if token not in absent]:
            return known, list(absent)
    return [], list(absent)


def _named(path: Path) -> list[int]:
    stored = read_json(path).get("eos_token_id") if path.is_file() else None
    ids = stored if isinstance(stored, list) else [] if stored is None else [stored]
    if len(ids) > MAX_END_TOKENS or not all(type(token) is int for token in ids):
        raise UnsupportedCheckpoint(
            f"{path}: eos_token_id is {str(stored)[:60]}, accepted: a token id, or a list of at most {MAX_END_TOKENS}; "
            "name the tokens that end an answer"
        )
    return list(dict.fromkeys(ids))
