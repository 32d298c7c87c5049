"""A vocabulary cut to what a corpus or some languages need: fewer rows in the tables, the same answers on those texts.

A tokenizer chooses among its pieces by rules that do not look at pieces which it did not choose: the longest that fits
(WordPiece), the pair that comes first in the list of merges (BPE), the most probable path (Unigram). Without the others
it cuts the same texts in the same way. Pieces of one character and of one byte stay, so that every text can be read.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from edgelm_export.architecture import GraphSource
from edgelm_export.checkpoint import Checkpoint
from edgelm_export.checkpoint.generation import renumbered as renumbered_options
from edgelm_export.checkpoint.weights import Safetensors
from edgelm_export.families import Family
from edgelm_export.finetune.data import check_fields, read_rows
from edgelm_export.passes.trimming import Kept
from edgelm_runtime.errors import InputError, UnsupportedCheckpoint
from edgelm_runtime.manifest import PROMPT_FIELD
from edgelm_runtime.tokenizer import clean

LATIN, CYRILLIC, ARABIC = frozenset({"LATIN"}), frozenset({"CYRILLIC"}), frozenset({"ARABIC"})
# The scripts of a language, by the first word of their letters' names in Unicode.
SCRIPTS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("en", "de", "es", "fr", "id", "it", "nl", "pl", "pt", "sv", "tr", "vi"), LATIN),
    **dict.fromkeys(("bg", "ru", "uk"), CYRILLIC), **dict.fromkeys(("ar", "fa", "ur"), ARABIC),
    "el": frozenset({"GREEK"}), "he": frozenset({"HEBREW"}), "hi": frozenset({"DEVANAGARI"}),
    "ja": frozenset({"HIRAGANA", "KATAKANA", "CJK", "KATAKANA-HIRAGANA"}), "ko": frozenset({"HANGUL", "CJK"}),
    "th": frozenset({"THAI"}), "zh": frozenset({"CJK"}),
}  # fmt: skip
NEARLY_ALL = 0.95
_TABLES = re.compile(
    r"(^|\.)(word_embeddings|wte|embed_tokens|shared|lm_head)\.weight$|(^|\.)(lm_head\.bias|final_logits_bias)$"
)
_BYTE = re.compile("<0x[0-9A-F]{2}>")
_BATCH = 1024
_KINDS = ("WordPiece", "BPE", "Unigram")
# RoBERTa counts positions from the id of padding: what is below it stays.
_LOW = 16

Merge = tuple[str, str]


@dataclass(frozen=True)
class Trimmed:
    """What was cut: pieces kept and dropped, the bytes of table rows in float32 that went, and for what."""

    kept: int
    dropped: int
    saved_bytes: int
    by: str

    def __str__(self) -> str:
        """For the report of an export."""
        share = self.kept / (self.kept + self.dropped)
        note = ", nearly all: it could be left as it is" if share > NEARLY_ALL else ""
        return (
            f"{self.kept:,} of {self.kept + self.dropped:,} pieces kept for {self.by}{note}; "
            f"{self.saved_bytes / 1e6:.1f} MB of float32 tables dropped; other texts are split into more pieces"
        )


class CutTables(Safetensors):
    """Weights whose tables by token have the rows ``kept`` alone."""

    def __init__(self, whole: Safetensors, kept: NDArray[np.int64], rows: int) -> None:
        super().__init__(whole._files, {stored: name for name, stored in whole._stored_as.items()})
        self._kept, self._rows = kept, rows

    @property
    def cut_bytes(self) -> int:
        """Bytes in float32 of all rows that are left out."""
        shapes: list[list[int]] = []
        for path, names in self.by_file().items():
            with safe_open(path, framework="pt") as handle:
                shapes += [handle.get_slice(name).get_shape() for name in names if _TABLES.search(name)]
        widths = [math.prod(shape) // self._rows for shape in shapes if self._rows in shape]
        return 4 * sum(widths) * (self._rows - len(self._kept))

    def __call__(self, name: str) -> NDArray[Any]:
        """The tensor ``name`` in float32, a table without the rows that nothing needs."""
        array = super().__call__(name)
        if not _TABLES.search(name) or self._rows not in array.shape:
            return array
        return np.take(array, self._kept, axis=array.shape.index(self._rows))


def trim(checkpoint: Checkpoint, by: str, templates: Iterable[str] = ()) -> tuple[Checkpoint, Trimmed]:
    """The checkpoint with a vocabulary for ``by``: a corpus file (.txt, .jsonl, .csv), or languages such as "zh,en".

    ``templates`` are prompts, whose pieces are kept too.

    Raises:
        InputError: no such file or language, or a corpus without text.
        UnsupportedCheckpoint: a tokenizer whose pieces cannot be dropped safely.
    """
    whole, templates = _Vocabulary(checkpoint), list(templates)
    texts: list[str] = []
    if _is_languages(by):
        wanted = whole.in_scripts(frozenset().union(*(SCRIPTS[name] for name in by.split(","))))
    else:
        texts = [*_corpus(Path(by)), *(part for template in templates for part in PROMPT_FIELD.split(template)[::2])]
        # A prompt is cut into tokens as a whole: its seams have pieces that neither side has alone.
        texts += [f"{before}{text}{after}" for before, after in map(_sides, templates) for text in texts]
        wanted = whole.used(texts)
    rows = int(checkpoint.config["vocab_size"])
    special = {index for index in _ids_of(checkpoint) if 0 <= index < rows}
    padding = checkpoint.config.get("pad_token_id")
    low = range(padding + 1) if isinstance(padding, int) and padding < _LOW else ()
    kept = np.array(sorted(whole.closed({*wanted, *special, *low})), np.int64)
    new = {int(old): index for index, old in enumerate(kept)}
    data = whole.renumbered(new)
    _check_same(whole, data, texts, new)
    weights, architecture, saved = _cut(checkpoint, Kept(kept, rows))
    config = {**checkpoint.config, **_mapped(checkpoint.config, new), "vocab_size": len(kept)}
    spec = replace(checkpoint.tokenizer, **_mapped(vars(checkpoint.tokenizer), new))
    generation = renumbered_options(checkpoint.generation, new)
    decoder = checkpoint.decoder
    if decoder is not None:
        decoder = replace(decoder, **_mapped(vars(decoder), new))
    cut = replace(
        checkpoint, config=config, weights=weights, tokenizer_json=data, tokenizer=spec, generation=generation,
        kept_ids=kept, decoder=decoder, architecture=architecture,
    )  # fmt: skip
    return cut, Trimmed(len(kept), rows - len(kept), saved, Path(by).name)


def _cut(checkpoint: Checkpoint, kept: Kept) -> tuple[Safetensors, Family, int]:
    """The weights and what builds the graph, one of them with fewer rows, and the bytes that saves."""
    architecture = checkpoint.architecture
    if not isinstance(architecture, GraphSource):
        weights = CutTables(checkpoint.weights, kept.ids, kept.rows)
        return weights, architecture, weights.cut_bytes
    cut = architecture.trimmed(kept)
    return checkpoint.weights, cut, cut.saved_bytes(checkpoint.wanted)


def _sides(template: str) -> tuple[str, str]:
    before, _, after = PROMPT_FIELD.split(template)
    return before, after


def _is_languages(by: str) -> bool:
    names = by.split(",")
    if Path(by).is_file():
        return False
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        raise InputError(
            f"--trim-vocab {by}: no such file, and no language {', '.join(map(repr, unknown))}; accepted are a corpus "
            f"(.txt with a text a line, .jsonl or .csv), or languages with commas between them: {', '.join(SCRIPTS)}"
        )
    return True


def _corpus(path: Path) -> list[str]:
    texts = [clean(str(row["text"])) for row in check_fields(read_rows([path]), ("text",))]
    if not texts:
        raise InputError(f"{path}: no text in it; give texts like those that the model is to read, one a line")
    return texts


def _ids_of(checkpoint: Checkpoint) -> Iterator[int]:
    """Every token id that the configuration and the manifest's tokenizer name."""
    decoder = {} if checkpoint.decoder is None else vars(checkpoint.decoder)
    for fields in (checkpoint.config, vars(checkpoint.tokenizer), decoder):
        for value in (value for name, value in fields.items() if _names_ids(name)):
            yield from filter(_is_id, value if isinstance(value, list | tuple) else [value])


def _mapped(fields: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """The fields that name token ids, with the new ones."""
    mapped: dict[str, Any] = {}
    for name, value in fields.items():
        if _names_ids(name) and isinstance(value, list | tuple):
            mapped[name] = type(value)(new.get(each, each) for each in value)
        elif _names_ids(name) and _is_id(value):
            mapped[name] = new.get(value, value)
    return mapped


def _names_ids(name: str) -> bool:
    ours = ("bos_id", "eos_ids", "pad_id", "start_id", "forced_bos_id")
    return name in ours or name.endswith(("_token_id", "_token_ids"))


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_same(whole: _Vocabulary, data: bytes, texts: Sequence[str], new: Mapping[int, int]) -> None:
    """Raise UnsupportedCheckpoint where the new tokenizer does not read the texts as the old one did."""
    from tokenizers import Tokenizer

    cut = Tokenizer.from_str(data.decode())
    cut.encode_special_tokens = True
    for part in _batches(texts):
        for text, before, after in zip(part, whole.encoded(part), cut.encode_batch(list(part)), strict=True):
            if [new[index] for index in before] != after.ids:
                raise UnsupportedCheckpoint(
                    f"its tokenizer reads {text[:80]!r} otherwise once the other pieces are gone, as this "
                    f"{whole.kind} depends on them; leave --trim-vocab out"
                )


class _Vocabulary:
    """The pieces of a checkpoint's tokenizer. Raises UnsupportedCheckpoint for a kind that is not known."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from tokenizers import Tokenizer

        self._json: dict[str, Any] = json.loads(checkpoint.tokenizer_json)
        self._model: dict[str, Any] = self._json["model"]
        self.kind = str(self._model.get("type"))
        affixes = [self._model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix")]
        if self.kind not in _KINDS or (self.kind == "BPE" and any(affixes)):
            raise UnsupportedCheckpoint(
                f"{checkpoint.folder}: a tokenizer of kind {self.kind}{' with affixes' if any(affixes) else ''} cannot "
                f"be trimmed; accepted are {', '.join(_KINDS)}. Leave --trim-vocab out"
            )
        self._tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # as the runtime reads
        vocabulary = self._model["vocab"]
        listed = [piece for piece, _ in vocabulary] if self.kind == "Unigram" else None
        self._ids: dict[str, int] = (
            dict(vocabulary) if listed is None else {piece: index for index, piece in enumerate(listed)}
        )
        self._added = {int(token["id"]) for token in self._json.get("added_tokens", [])}

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, with the special ones around them."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def used(self, texts: Sequence[str]) -> set[int]:
        """The ids that texts are read as."""
        return {index for part in _batches(texts) for ids in self.encoded(part) for index in ids}

    def in_scripts(self, scripts: frozenset[str]) -> set[int]:
        """The ids of pieces whose letters are all in those scripts, of digits, signs, and of parts of characters."""
        decoder = self._tokenizer.decoder
        read = {piece: decoder.decode([piece]) if decoder is not None else piece for piece in self._ids}
        return {self._ids[piece] for piece, text in read.items() if all(_in(scripts, letter) for letter in text)}

    def closed(self, wanted: set[int]) -> set[int]:
        """The ids, and those without which a text could not be read, or a piece not be made."""
        always = {index for piece, index in self._ids.items() if self._is_basic(piece)}
        ids = {*wanted, *self._added, *always, *self._unknown(), *self._around()}
        if self.kind == "BPE":
            ids |= {self._ids["".join(merge)] for merge in self._merges_for(ids)}
        if self.kind == "Unigram":
            # What an unknown character costs is measured from the least probable piece.
            ids.add(min(range(len(self._ids)), key=lambda index: self._model["vocab"][index][1]))
        return ids

    def renumbered(self, new: Mapping[int, int]) -> bytes:
        """tokenizer.json with the pieces of ``new`` alone, under the new ids."""
        model, kept = dict(self._model), {piece: new[old] for piece, old in self._ids.items() if old in new}
        if self.kind == "Unigram":
            model["vocab"] = [entry for index, entry in enumerate(self._model["vocab"]) if index in new]
            model["unk_id"] = next((new[index] for index in self._unknown()), None)
        else:
            model["vocab"] = dict(sorted(kept.items(), key=lambda item: item[1]))
        if self.kind == "BPE":
            needed = self._merges_for(set(new))
            model["merges"] = [list(merge) for merge in self._merges() if merge in needed]
        changed = {
            **self._json, "model": model, "truncation": None, "padding": None,
            "added_tokens": [{**token, "id": new[int(token["id"])]} for token in self._json.get("added_tokens", [])],
            "post_processor": renumbered(self._json.get("post_processor"), new),
        }  # fmt: skip
        return json.dumps(changed, ensure_ascii=False, separators=(",", ":")).encode()

    def _is_basic(self, piece: str) -> bool:
        prefix = self._model.get("continuing_subword_prefix") or ""
        return len(piece.removeprefix(prefix)) == 1 or _BYTE.fullmatch(piece) is not None

    def _unknown(self) -> set[int]:
        name = self._model.get("unk_token")
        found = self._model.get("unk_id") if self.kind == "Unigram" else self._ids.get(name) if name else None
        return set() if found is None else {int(found)}

    def _around(self) -> set[int]:
        """What the tokenizer puts around a text and a pair."""
        return {*self._tokenizer.encode("").ids, *self._tokenizer.encode("", "").ids}

    def _merges(self) -> list[Merge]:
        return [
            (merge[0], merge[1]) if isinstance(merge, list) else (merge.partition(" ")[0], merge.partition(" ")[2])
            for merge in self._model["merges"]
        ]

    def _merges_for(self, ids: set[int]) -> set[Merge]:
        """The merges that make the pieces of ``ids``, each in the order that the tokenizer follows."""
        ranks = {merge: rank for rank, merge in enumerate(self._merges())}
        found: set[Merge] = set()
        for piece, index in self._ids.items():
            if index in ids and index not in self._added:
                found |= _made_by(piece, ranks)
        return found


def _made_by(piece: str, ranks: Mapping[Merge, int]) -> set[Merge]:
    """The merges that join the characters of a piece, the first in the list first (Sennrich et al., 2016)."""
    parts, applied = list(piece), set()
    while len(parts) > 1:
        found = [ranks.get(pair, len(ranks)) for pair in pairwise(parts)]
        place = min(range(len(found)), key=found.__getitem__)
        if found[place] == len(ranks):
            break
        applied.add((parts[place], parts[place + 1]))
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    return applied


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _BATCH):
        yield texts[start : start + _BATCH]


def _in(scripts: frozenset[str], letter: str) -> bool:
    return not letter.isalpha() or unicodedata.name(letter, "").partition(" ")[0] in {*scripts, "FULLWIDTH"}


def renumbered(processor: dict[str, Any] | None, new: Mapping[int, int]) -> dict[str, Any] | None:
    """A post-processor with the new ids of the tokens that it puts around a text.

    Raises UnsupportedCheckpoint for a kind that is not known.
    """
    if processor is None or processor["type"] == "ByteLevel":
        return processor
    if processor["type"] == "Sequence":
        return {**processor, "processors": [renumbered(each, new) for each in processor["processors"]]}
    if processor["type"] == "TemplateProcessing":
        tokens = {
            name: {**token, "ids": [new[index] for index in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
        return {**processor, "special_tokens": tokens}
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        ends = {name: [processor[name][0], new[processor[name][1]]] for name in ("sep", "cls")}
        return {**processor, **ends}
    raise UnsupportedCheckpoint(
        f"its tokenizer has a post-processor {processor['type']!r}, whose ids are not known; accepted are ByteLevel, "
        "Sequence, TemplateProcessing, BertProcessing and RobertaProcessing. Leave --trim-vocab out"
    )
