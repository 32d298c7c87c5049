"""The tokenizer of a checkpoint, in the form that the runtime reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.ends import end_tokens
from edgelm_export.checkpoint.vocabulary import check_reads, load_tokenizer
from edgelm_export.encoder import padding_row
from edgelm_runtime.errors import BundleRejected, InputError, UnsupportedCheckpoint
from edgelm_runtime.manifest import TokenizerSpec
from edgelm_runtime.vetting.tokenizer import check_tokenizer

_CONTEXTS = ("max_position_embeddings", "n_positions")
_RELATIVE = 512  # the context of a T5, which knows distances alone and could read any: what most were trained with


@dataclass(frozen=True)
class ReadTokenizer:
    """tokenizer.json for the runtime, and what the manifest says of it.

    ``told`` says whether transformers gives the model `token_type_ids`; ``segments`` are those of the tokens of a
    text, and of a pair. ``decoder`` is the kind of its decoder, "" where there is none, ``chosen``
    why another class was taken than transformers takes, "" where none was.
    """

    json: bytes
    spec: TokenizerSpec
    told: bool
    segments: tuple[frozenset[int], frozenset[int]]
    decoder: str
    chosen: str = ""


def read_tokenizer(
    folder: Path, config: Mapping[str, Any], max_tokens: int | None = None, *, lowercase: bool = False
) -> ReadTokenizer:
    """The tokenizer of a folder, as transformers would use it.

    ``max_tokens`` stands for the length that the tokenizer itself names. With ``lowercase`` that comes before all else.

    Raises:
        UnsupportedCheckpoint: none there, broken, without a fast form, or of another model.
    """
    from tokenizers import normalizers

    tokenizer, chosen = load_tokenizer(folder, config)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedCheckpoint(
            f"{folder}: {type(tokenizer).__name__} has no fast form, which the runtime needs as tokenizer.json"
        )
    check_reads(folder, tokenizer)
    rows = int(config["vocab_size"])
    if len(tokenizer) > rows:
        raise UnsupportedCheckpoint(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model {rows} rows")
    limit = next((int(config[name]) for name in _CONTEXTS if name in config), _RELATIVE)
    padding = padding_row(config)
    limit -= 0 if padding is None else padding + 1
    limit = min(limit, int(tokenizer.model_max_length) if max_tokens is None else max_tokens)
    if lowercase and not _lowers(backend.normalizer):
        rest = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
    spec = TokenizerSpec(
        file="tokenizer.json", max_tokens=limit,
        bos_id=tokenizer.bos_token_id, eos_ids=end_tokens(folder, rows, tokenizer.eos_token_id),
        pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    # Without indentation: a third of the bytes.
    compact = json.dumps(json.loads(backend.to_str()), ensure_ascii=False, separators=(",", ":")).encode()
    try:
        check_tokenizer(compact, spec.file)
    except BundleRejected as error:
        raise UnsupportedCheckpoint(
            f"{folder}: the runtime would refuse its tokenizer: {error.found}; use a tokenizer without it"
        ) from error
    told = "token_type_ids" in tokenizer.model_input_names
    segments = frozenset(backend.encode("a").type_ids), frozenset(backend.encode("a", "a").type_ids)
    decoder = "" if backend.decoder is None else type(backend.decoder).__name__
    return ReadTokenizer(compact, spec, told, segments, decoder, chosen)


def with_ends(found: ReadTokenizer, ends: Sequence[str], task: str) -> ReadTokenizer:
    """The tokenizer with other tokens that end an answer, by their names in its vocabulary.

    Raises:
        InputError: a task that writes nothing, or a token that there is not.
    """
    from tokenizers import Tokenizer

    if task not in ("text-generation", "text2text-generation"):
        raise InputError(f"--eos {' '.join(ends)}: the checkpoint is for {task}, which writes no answer; leave it out")
    own = Tokenizer.from_str(found.json.decode())
    ids = tuple(dict.fromkeys(index for name in ends if (index := own.token_to_id(name)) is not None))
    if unknown := [name for name in ends if own.token_to_id(name) is None]:
        special = [token.content for token in own.get_added_tokens_decoder().values() if token.special]
        raise InputError(
            f"--eos {unknown[0]}: the tokenizer has no such token; accepted is one of its vocabulary, such as the "
            f"special ones {', '.join(special[:20]) or '(it has none)'}"
        )
    return replace(found, spec=replace(found.spec, eos_ids=ids))


def _lowers(normalizer: Any) -> bool:
    """Whether lower case is a part of it already, as sentence-transformers looks for it."""
    from tokenizers import normalizers

    parts: Any = normalizer if isinstance(normalizer, normalizers.Sequence) else [normalizer]
    return any(isinstance(part, normalizers.Lowercase) for part in parts)
