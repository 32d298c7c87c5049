"""transformers' tokenizer of a folder: of the class that its files are of, and one that reads ordinary texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.config import read_json, reason_of
from edgelm_export.checkpoint.loading import config_object
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.guarded import is_foreign

TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_SETTINGS = "tokenizer_config.json"
_WORDPIECE = "vocab.txt"
_READS_IT = "BertTokenizer"
_UNKNOWN = "[UNK]"
# One sentence in each of the scripts that vocabularies are made for: a good one reads at least one of them.
TEXTS = (
    "it is good and the price is fine", "物流很快，质量也好", "とても良い商品です", "배송이 빠르고 좋아요",
    "доставка быстрая и всё хорошо", "المنتج جيد والسعر مناسب", "सामान अच्छा है और जल्दी आया", "สินค้าดีมากส่งเร็ว",
    "το προϊόν είναι πολύ καλό", "המוצר טוב והמחיר סביר",
)  # fmt: skip
_LEAST_READ = 0.5  # of the characters of one of them
_NOWHERE = "\U0010fffd"  # a character that no vocabulary has
_BLANK = "\u2581"  # as sentencepiece writes it


def load_tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[Any, str]:
    """The tokenizer as transformers loads it, and "" or why BERT's was taken in its place.

    Without a class, or with one whose vocabulary is not there, transformers makes a tokenizer of a few special tokens.
    A vocab.txt alone is BERT's, also beside BART, PEGASUS, GPT-2 and T5, as Chinese models have it.

    Raises:
        UnsupportedCheckpoint: there is none, or transformers cannot load it.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UnsupportedCheckpoint(
            f"{folder}: no tokenizer there (looked for {', '.join(TOKENIZER_FILES)}); "
            "save it into the folder with tokenizer.save_pretrained"
        )
    import transformers

    try:
        found = _loaded(transformers.AutoTokenizer, folder, config)
    except UnsupportedCheckpoint:
        if not _is_wordpiece_alone(folder):
            raise
        _check_known(folder, config)
        found = None
    if not _is_wordpiece_alone(folder) or (found is not None and _WORDPIECE in _files(type(found))):
        return found, ""
    _check_known(folder, config)
    if _UNKNOWN not in (folder / _WORDPIECE).read_text("utf-8", errors="replace").split("\n"):
        raise UnsupportedCheckpoint(
            f"{folder / _WORDPIECE} has no line {_UNKNOWN}, so that it is not BERT's; name the class that reads it as "
            f"tokenizer_class in {_SETTINGS}, or save its fast form as tokenizer.json"
        )
    why = f"{_WORDPIECE} is read as BERT's, since it is the only vocabulary there"
    return _loaded(getattr(transformers, _READS_IT), folder, config), why


def check_reads(folder: Path, tokenizer: Any) -> None:
    """Raise UnsupportedCheckpoint for a tokenizer that reads ordinary texts as unknown, whatever their script."""
    read = {text: _share_read(tokenizer, text) for text in TEXTS}
    if max(read.values()) >= _LEAST_READ:
        return
    name = type(tokenizer).__name__
    there = [file for file in TOKENIZER_FILES if (folder / file).is_file()]
    wanted = [file for file in _files(type(tokenizer)) if file != "tokenizer.json" and not (folder / file).is_file()]
    made_of = tokenizer.convert_ids_to_tokens(tokenizer(TEXTS[0], add_special_tokens=False).input_ids)[:6]
    missing = f", {name} reads {' and '.join(wanted)}, which is not there" if wanted else ""
    raise UnsupportedCheckpoint(
        f"{folder}: its tokenizer, a {name} of {len(tokenizer)} tokens, reads ordinary texts as unknown "
        f"({TEXTS[0]!r} as {made_of}). The folder has {', '.join(there)}{missing}: put the vocabulary of the model "
        f"there, or name the class that reads the file as tokenizer_class in {_SETTINGS}"
    )


def _loaded(kind: Any, folder: Path, config: Mapping[str, Any]) -> Any:
    try:
        return kind.from_pretrained(
            folder, config=config_object(config), local_files_only=True, trust_remote_code=False
        )
    except BaseException as error:  # transformers raises whatever its parsers raise, panics of tokenizers included
        if not is_foreign(error):
            raise
        raise UnsupportedCheckpoint(f"{folder}: transformers cannot load its tokenizer ({reason_of(error)})") from error


def _is_wordpiece_alone(folder: Path) -> bool:
    """Whether vocab.txt is the only vocabulary: bpe.codes beside it makes it one of another kind."""
    there = [name for name in (*TOKENIZER_FILES, "bpe.codes") if (folder / name).is_file()]
    return there == [_WORDPIECE]


def _check_known(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint where a class is named that transformers does not have: it may cut words first."""
    import transformers

    settings = read_json(folder / _SETTINGS) if (folder / _SETTINGS).is_file() else {}
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if named and not any(hasattr(transformers, name) for name in (str(named), str(named).removesuffix("Fast"))):
        raise UnsupportedCheckpoint(
            f"{folder / _SETTINGS}: tokenizer_class {named!r} is none of transformers; where it reads {_WORDPIECE} as "
            f"BERT does, name {_READS_IT}, and where it cuts words first (jieba), save its fast form as tokenizer.json"
        )


def _files(kind: Any) -> list[str]:
    """The files that a class of tokenizers reads."""
    return [str(name) for name in getattr(kind, "vocab_files_names", {}).values()]


def _share_read(tokenizer: Any, text: str) -> float:
    """The share of the characters of a text, blanks aside, that are in tokens of the vocabulary."""
    backend = tokenizer.backend_tokenizer
    encoding = backend.encode(text, add_special_tokens=False)
    # The mark of a blank stands for the first letter of a word, also where the word itself is unknown.
    nothing = {tokenizer.unk_token_id, backend.token_to_id(_BLANK)}
    nowhere = backend.encode(_NOWHERE, add_special_tokens=False).ids
    if len(nowhere) <= 2:  # not in bytes, which other characters have as well
        nothing |= set(nowhere)
    known = [span for index, span in zip(encoding.ids, encoding.offsets, strict=True) if index not in nothing]
    covered = {place for start, end in known for place in range(start, end)}
    visible = {place for place, character in enumerate(text) if not character.isspace()}
    return len(visible & covered) / len(visible)
