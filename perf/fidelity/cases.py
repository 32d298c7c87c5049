"""Checkpoints as every engine takes them, and the rows that they are asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.finetune.data import check_fields, label_id, read_rows
from edgelm_export.taskmetrics import evaluation_pairs
from edgelm_runtime.tokenizer import TextTokenizer

HELD_BACK = 5  # every fifth row is for scales and for accuracy control, and is not asked
MOST_HELD_BACK = 300
TASK = "summary"


@dataclass(frozen=True)
class Labelled:
    """A row of a classifier: token ids with their special tokens, and the right class."""

    ids: list[int]
    label: int


@dataclass(frozen=True)
class Prompted:
    """A row of a generator: the prompt's token ids, and the right answer."""

    ids: list[int]
    answer: str


def classifier(checkpoint: Path, rows_file: Path, most: int, out: Path) -> list[Labelled]:
    """Write the checkpoint with calibration.json and validation.json to `out`; at most so many rows to be asked."""
    given = load_checkpoint(checkpoint)
    tokenizer, limit = TextTokenizer(given.tokenizer_json, given.tokenizer), given.tokenizer.max_tokens
    rows = []
    for row in check_fields(read_rows([rows_file]), ("text", "label")):
        ids = tokenizer.encode(str(row["text"]))
        rows.append(Labelled(ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]], label_id(row, given.labels)))
    held = _thinned(rows[::HELD_BACK], MOST_HELD_BACK)
    asked = [row for index, row in enumerate(rows) if index % HELD_BACK]
    if not out.is_dir():
        _copy(checkpoint, out)
        (out / "calibration.json").write_text(json.dumps([row.ids for row in held]), "utf-8")
        (out / "validation.json").write_text(json.dumps([vars(row) for row in held]), "utf-8")
    return _thinned(asked, most)


def generator(checkpoint: Path, rows_file: Path, most: int, tokens: int, out: Path) -> list[Prompted]:
    """Write the checkpoint to `out`; at most so many summaries to be asked for, with room for so many tokens."""
    given = load_checkpoint(checkpoint)
    tokenizer, room = TextTokenizer(given.tokenizer_json, given.tokenizer), given.tokenizer.max_tokens - tokens
    pairs = evaluation_pairs(read_rows([rows_file]), (TASK,))
    rows = [Prompted(tokenizer.encode_prompt(given.prompts[TASK], pair.source), pair.answer) for pair in pairs]
    if not out.is_dir():
        _copy(checkpoint, out)
    return _thinned([row for row in rows if len(row.ids) <= room], most)


def _thinned(rows: Sequence[Any], most: int) -> list[Any]:
    """At most so many rows, evenly spread."""
    return list(rows[:: -(-len(rows) // most)]) if rows else []


def _copy(checkpoint: Path, out: Path) -> None:
    """A copy whose tokenizer files older releases of transformers read as well."""
    shutil.copytree(checkpoint, out)
    path = out / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    special = {name: value for name, value in settings.items() if name.endswith("_token") and isinstance(value, str)}
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": settings["model_max_length"], **special}
    path.write_text(json.dumps(plain), "utf-8")
    (out / "special_tokens_map.json").write_text(json.dumps(special), "utf-8")
