"""A tokenizer.json, checked before the tokenizers library sees it: its components, their fields, patterns and sizes.

Accepted are the components that checkpoints come with. None may make a text grow without bound, take more than linear
time, or refer to what is not there: the library ends the process, or panics, on some of that.
"""

from __future__ import annotations

import json
import math
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BundleRejected
from .patterns import is_safe

MAX_BYTES = 64 << 20
MAX_TOKENS = 2_000_000
MAX_TOKEN_CHARACTERS = 1_000
MAX_ID = 1 << 24
MAX_ADDED = 20_000
MAX_COMPONENTS = 32
MAX_GROWTH = 8.0  # of a text, by all that replaces
MAX_NORMAL_FORMS = 4
_MAX_CHARSMAP = 4 << 20
_MAX_MAPPED = 256  # bytes that a charsmap puts in the place of one character
_MAX_PIECES = 16  # of a template
_SHORT = 64  # characters of what is put in, taken out, or replaced


@dataclass(frozen=True)
class Check:
    """What a field may hold."""

    accepted: str
    holds: Callable[[Any], bool]


def _text(most: int, least: int = 0) -> Check:
    return Check(
        f"a text of {least} to {most} characters", lambda value: isinstance(value, str) and least <= len(value) <= most
    )


def _number(low: int, high: int) -> Check:
    return Check(f"an integer from {low} to {high:,}", lambda value: type(value) is int and low <= value <= high)


def _one_of(*values: Any) -> Check:
    return Check(
        f"one of {', '.join(map(str, values))}", lambda value: any(value is each or value == each for each in values)
    )


def _optional(check: Check) -> Check:
    return Check(f"{check.accepted}, or null", lambda value: value is None or check.holds(value))


def _is_pattern(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, pattern),) = value.items()
    if not isinstance(pattern, str):
        return False
    return 0 < len(pattern) <= _SHORT if kind == "String" else kind == "Regex" and is_safe(pattern)


_FLAG = Check("true or false", lambda value: isinstance(value, bool))
_PATTERN = Check(
    "a text of at most 64 characters, or a regular expression of a known tokenizer, or one of alternatives like "
    r"`[0-9]{1,3}` and ` ?\p{Han}+`, in which only the last of a few characters is repeated without an end",
    _is_pattern,
)
_TOKEN = Check(
    "a token and its id",
    lambda value: isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and _is_id(value[1]),
)
_SHORT_TEXT = _text(_SHORT)
_CHARACTER = _text(1, 1)
_BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_SPLITS = {"pattern": _PATTERN, "behavior": _one_of(*_BEHAVIORS), "invert": _FLAG}
_BYTE_LEVEL = {"add_prefix_space": _FLAG, "trim_offsets": _FLAG, "use_regex": _FLAG}
_METASPACE = {
    "replacement": _CHARACTER, "prepend_scheme": _one_of("always", "never", "first"), "split": _FLAG,
    "add_prefix_space": _FLAG, "str_rep": _CHARACTER,
}  # fmt: skip
_REPLACE = {"pattern": _PATTERN, "content": _SHORT_TEXT}
_PAIR = {"sep": _TOKEN, "cls": _TOKEN}

Kinds = Mapping[str, Mapping[str, Check]]
# By the key of tokenizer.json, the components by type with their fields; those of a Sequence are under its own key.
COMPONENTS: Mapping[str, Kinds] = {
    "normalizer": {
        "BertNormalizer": {
            "clean_text": _FLAG, "handle_chinese_chars": _FLAG, "strip_accents": _optional(_FLAG), "lowercase": _FLAG,
        },
        "ByteLevel": {}, "Lowercase": {}, "NFC": {}, "NFD": {}, "NFKC": {}, "NFKD": {}, "Nmt": {}, "StripAccents": {},
        "Precompiled": {"precompiled_charsmap": Check("a table of sentencepiece", lambda value: _is_charsmap(value))},
        "Prepend": {"prepend": _SHORT_TEXT},
        "Replace": _REPLACE,
        "Strip": {"strip_left": _FLAG, "strip_right": _FLAG},
    },
    "pre_tokenizer": {
        "BertPreTokenizer": {}, "ByteLevel": _BYTE_LEVEL, "CharDelimiterSplit": {"delimiter": _CHARACTER},
        "Digits": {"individual_digits": _FLAG}, "Metaspace": _METASPACE,
        "Punctuation": {"behavior": _one_of(*_BEHAVIORS)}, "Split": _SPLITS, "UnicodeScripts": {}, "Whitespace": {},
        "WhitespaceSplit": {},
    },
    "post_processor": {
        "BertProcessing": _PAIR, "ByteLevel": _BYTE_LEVEL,
        "RobertaProcessing": {**_PAIR, "trim_offsets": _FLAG, "add_prefix_space": _FLAG},
        "TemplateProcessing": {
            "single": Check("pieces: special tokens, and the text once", lambda value: _is_template(value, "A")),
            "pair": Check("pieces: special tokens, and each text once", lambda value: _is_template(value, "AB")),
            "special_tokens": Check("special tokens with their ids", lambda value: _are_specials(value)),
        },
    },
    "decoder": {
        "BPEDecoder": {"suffix": _SHORT_TEXT}, "ByteFallback": {}, "ByteLevel": _BYTE_LEVEL, "Fuse": {},
        "Metaspace": _METASPACE, "Replace": _REPLACE,
        "Strip": {"content": _CHARACTER, "start": _number(0, _SHORT), "stop": _number(0, _SHORT)},
        "WordPiece": {"prefix": _SHORT_TEXT, "cleanup": _FLAG},
    },
}  # fmt: skip
_SEQUENCES = {
    "normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors",
    "decoder": "decoders",
}  # fmt: skip
_VOCABULARY = Check(
    f"at most {MAX_TOKENS:,} tokens of at most {MAX_TOKEN_CHARACTERS:,} characters with their ids",
    lambda value: _is_vocabulary(value),
)
_PIECES = Check(
    f"at most {MAX_TOKENS:,} tokens of at most {MAX_TOKEN_CHARACTERS:,} characters with their scores",
    lambda value: _are_scored(value),
)
_OPTIONAL_TEXT = _optional(_SHORT_TEXT)
MODELS: Kinds = {
    "BPE": {
        "dropout": _one_of(None, 0.0), "unk_token": _optional(_text(MAX_TOKEN_CHARACTERS)),
        "continuing_subword_prefix": _OPTIONAL_TEXT, "end_of_word_suffix": _OPTIONAL_TEXT, "fuse_unk": _FLAG,
        "byte_fallback": _FLAG, "ignore_merges": _FLAG, "vocab": _VOCABULARY,
        "merges": Check(
            f"at most {MAX_TOKENS:,} merges", lambda value: isinstance(value, list) and len(value) <= MAX_TOKENS
        ),
    },
    "WordPiece": {
        "unk_token": _text(MAX_TOKEN_CHARACTERS, 1), "continuing_subword_prefix": _SHORT_TEXT,
        "max_input_chars_per_word": _number(1, MAX_TOKEN_CHARACTERS), "vocab": _VOCABULARY,
    },
    "WordLevel": {"unk_token": _text(MAX_TOKEN_CHARACTERS, 1), "vocab": _VOCABULARY},
    "Unigram": {"unk_id": _optional(_number(0, MAX_ID)), "byte_fallback": _FLAG, "vocab": _PIECES},
}  # fmt: skip
_ADDED = {
    "id": _number(0, MAX_ID), "content": _text(MAX_TOKEN_CHARACTERS, 1), "single_word": _FLAG, "lstrip": _FLAG,
    "rstrip": _FLAG, "normalized": _FLAG, "special": _FLAG,
}  # fmt: skip
_NEEDED = {"content", "pattern", "precompiled_charsmap", "single", "vocab"}  # by the checks, or by the library
_TOP = {"version", "truncation", "padding", "added_tokens", "model", *COMPONENTS}


def check_tokenizer(data: bytes, file: str) -> None:
    """Check the content of a tokenizer.json; raises BundleRejected for what its library is not to see."""
    try:
        problem_free(_parsed(data))
    except (ValueError, RecursionError) as error:
        raise BundleRejected(
            f"{file} is refused: {error}; export the bundle again",
            what=file,
            expected="a tokenizer as the supported checkpoints have it",
            found=str(error),
        ) from error


def problem_free(content: Any) -> None:
    """Raise ValueError for the first thing in a parsed tokenizer.json that is not accepted."""
    if not isinstance(content, dict) or not content.keys() <= _TOP:
        strange = sorted(content.keys() - _TOP) if isinstance(content, dict) else []
        raise ValueError(
            f"it is no object of {', '.join(sorted(_TOP))}; found {', '.join(strange)[:80] or 'another value'}"
        )
    for key, kinds in COMPONENTS.items():
        _check_components(key, kinds, content.get(key))
    _check_added(content.get("added_tokens", []))
    _check_model(content.get("model"))
    for processor in _components("post_processor", content.get("post_processor")):
        if processor["type"] == "TemplateProcessing":
            _check_references(processor)


def _parsed(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, accepted are {MAX_BYTES:,}")
    return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _components(key: str, value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The components under a key, those of sequences one by one. Raises ValueError for what is none."""
    if value is None and not depth:
        return
    if not isinstance(value, dict) or not isinstance(value.get("type"), str) or depth > 3:
        raise ValueError(f"{key} is no object with a type")
    if value["type"] != "Sequence":
        yield value
        return
    inner = value.get(_SEQUENCES[key])
    if value.keys() != {"type", _SEQUENCES[key]} or not isinstance(inner, list) or len(inner) > MAX_COMPONENTS:
        raise ValueError(f"{key}: a Sequence has {_SEQUENCES[key]}, at most {MAX_COMPONENTS}")
    for each in inner:
        yield from _components(key, each, depth + 1)


def _check_components(key: str, kinds: Kinds, value: Any) -> None:
    found = []
    for component in _components(key, value):
        found.append(component)
        if len(found) > MAX_COMPONENTS:
            raise ValueError(f"{key} has more than {MAX_COMPONENTS} components")
        fields = kinds.get(component["type"])
        if fields is None:
            raise ValueError(f"{key} has a {component['type'][:80]!r}, accepted are {', '.join(sorted(kinds))}")
        _check_fields(f"{key} {component['type']}", fields, component)
    kinds_found = [component["type"] for component in found]
    growth = math.prod(map(_growth, found))
    forms = sum(kind in ("NFC", "NFD", "NFKC", "NFKD", "Precompiled") for kind in kinds_found)
    if growth > MAX_GROWTH or kinds_found.count("ByteLevel") > 1 or forms > MAX_NORMAL_FORMS:
        raise ValueError(
            f"{key} lets a text grow {growth:,.0f} times, in {forms} normal forms and {kinds_found.count('ByteLevel')} "
            f"ByteLevel; accepted are {MAX_GROWTH:.0f} times, {MAX_NORMAL_FORMS} and one"
        )


def _growth(component: Mapping[str, Any]) -> float:
    if component["type"] != "Replace":
        return 1.0
    replaced = len(component["pattern"].get("String", "1"))
    return max(1.0, len(component["content"]) / replaced)


def _check_fields(where: str, fields: Mapping[str, Check], value: Mapping[str, Any]) -> None:
    absent = sorted(_NEEDED & fields.keys() - value.keys())
    if absent:
        raise ValueError(f"{where} has no {absent[0]}")
    strange = sorted(value.keys() - fields.keys() - {"type"})
    if strange:
        raise ValueError(f"{where} has the field {strange[0][:80]!r}, accepted are {', '.join(fields) or 'none'}")
    for name, found in value.items():
        if name != "type" and not fields[name].holds(found):
            raise ValueError(f"{where} has {name} {json.dumps(found)[:100]}, accepted is {fields[name].accepted}")


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise ValueError("it has no model")
    kind = model.get("type")
    # Files of older versions do not say which model they have; the library tells it by its fields, too.
    fits = [kind] if kind is not None else [name for name, fields in MODELS.items() if model.keys() <= fields.keys()]
    if not fits or not isinstance(fits[0], str) or fits[0] not in MODELS:
        raise ValueError(f"the model is {str(kind)[:80]!r}, accepted are {', '.join(MODELS)}")
    _check_fields(f"the model {fits[0]}", MODELS[fits[0]], model)


def _check_added(added: Any) -> None:
    if not isinstance(added, list) or len(added) > MAX_ADDED or not all(isinstance(token, dict) for token in added):
        raise ValueError(f"added_tokens is no list of at most {MAX_ADDED:,} objects")
    for token in added:
        _check_fields("an added token", _ADDED, token)


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_ID


def _is_vocabulary(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_TOKENS
        and all(map(_is_id, value.values()))
        and max(map(len, value), default=0) <= MAX_TOKEN_CHARACTERS
    )


def _are_scored(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_TOKENS and all(map(_is_scored, value))


def _is_scored(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        return False
    score = entry[1]
    return len(entry[0]) <= MAX_TOKEN_CHARACTERS and isinstance(score, int | float) and abs(score) < 1e30


def _is_charsmap(value: Any) -> bool:
    """Whether the table is whole: the size of a trie, the trie, and texts that end in zero bytes, none of them long."""
    if value is None:
        return True
    if not isinstance(value, str) or len(value) > _MAX_CHARSMAP:
        return False
    try:
        table = a2b_base64(value, strict_mode=True)
    except (Base64Error, ValueError):
        return False
    size = int.from_bytes(table[:4], "little")
    texts = table[4 + size :]
    if len(table) < 8 or not size or size % 4 or size > len(table) - 4 or not texts.endswith(b"\0"):
        return False
    try:
        texts.decode("utf-8")
    except ValueError:
        return False
    return max(map(len, texts.split(b"\0"))) <= _MAX_MAPPED


def _is_template(value: Any, texts: str) -> bool:
    """Whether the pieces are special tokens and each of `texts` once at most."""
    if not isinstance(value, list) or len(value) > _MAX_PIECES:
        return False
    found = []
    for piece in value:
        if not isinstance(piece, dict) or len(piece) != 1:
            return False
        ((kind, content),) = piece.items()
        well_formed = isinstance(content, dict) and content.keys() == {"id", "type_id"}
        if not well_formed or content["type_id"] not in range(_MAX_PIECES) or not isinstance(content["id"], str):
            return False
        if kind == "Sequence":
            found.append(content["id"])
        elif kind != "SpecialToken":
            return False
    return len(set(found)) == len(found) and set(found) <= set(texts)


def _are_specials(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= _MAX_PIECES and all(map(_is_special, value.values()))


def _is_special(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"id", "ids", "tokens"}:
        return False
    ids, tokens = value["ids"], value["tokens"]
    lists = isinstance(ids, list) and isinstance(tokens, list) and 0 < len(ids) == len(tokens) <= _MAX_PIECES
    return lists and all(map(_is_id, ids)) and all(isinstance(token, str) for token in tokens)


def _check_references(template: Mapping[str, Any]) -> None:
    pieces = (*template.get("single", []), *template.get("pair", []))
    named = {piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece}
    absent = sorted(named - template.get("special_tokens", {}).keys())
    if absent:
        raise ValueError(
            f"post_processor TemplateProcessing names {absent[0][:80]!r}, which special_tokens does not have"
        )
