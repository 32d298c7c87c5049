"""Text to token ids and back, on Hugging Face's `tokenizers` behind `guarded`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .guarded import GuardedTokenizer
from .manifest import PROMPT_FIELD, TokenizerSpec
from .text_stream import Joining
from .text_stream import TextStream as TextStream  # its place of old, which programs import it from

MAX_CHARACTERS = 2_000_000
REPLACED_NOTE = "lone surrogates were read as U+FFFD"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def clean(text: object) -> str:
    """`text` as it can be encoded: lone surrogates become U+FFFD, everything else, NUL too, stays.

    Raises InputError when `text` is not a str.
    """
    if not isinstance(text, str):
        raise InputError(f"the text is {type(text).__name__}, a str is needed; decode bytes as UTF-8 first")
    return text if text.isascii() else _LONE_SURROGATE.sub(_REPLACEMENT, text)


def checked(text: object) -> tuple[str, tuple[str, ...]]:
    """The cleaned text, and the notes on what cleaning changed.

    Raises InputError for what no task reads: not a str, empty or blank, more than MAX_CHARACTERS characters.
    """
    cleaned = clean(text)
    if len(cleaned) > MAX_CHARACTERS:
        raise InputError(
            f"the text has {len(cleaned):,} characters, at most {MAX_CHARACTERS:,} are accepted; split it into parts"
        )
    if not cleaned or cleaned.isspace():
        raise InputError("the text is empty or blank; give at least one visible character")
    return cleaned, () if cleaned == text else (REPLACED_NOTE,)


@dataclass(frozen=True)
class Encoded:
    """Content tokens of one text, and what stands around them: special tokens, and in a pair the whole first text.

    Token i of `ids` is `text[starts[i] : ends[i]]`; the model reads `prefix + ids + suffix`, of which `type_ids` are
    the segments.
    """

    ids: list[int]
    starts: list[int]
    ends: list[int]
    prefix: list[int]
    suffix: list[int]
    type_ids: list[int]

    def window(self, first: int, last: int) -> tuple[list[int], list[int]]:
        """Ids and segments of the tokens `first` to `last`, less one, with what stands around them."""
        begin, end = len(self.prefix), len(self.prefix) + len(self.ids)
        types = self.type_ids
        return (
            self.prefix + self.ids[first:last] + self.suffix,
            types[:begin] + types[begin + first : begin + last] + types[end:],
        )


class TextTokenizer:
    """A bundle's tokenizer. Never truncates, never pads, and safe to share between threads.

    `data` is the content of tokenizer.json. Raises BundleRejected when it cannot be read.
    """

    def __init__(self, data: bytes, spec: TokenizerSpec) -> None:
        self.spec = spec
        self._tokenizer = GuardedTokenizer(data, spec.file)
        # Set once and never toggled, so that threads can share it: templates find special tokens by `_special`.
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = {token.content: index for index, token in added.items() if token.special}
        names = sorted(self._special_ids, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None
        self._smuggled = self._found_in_text()
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.joining = Joining.of(self._tokenizer.decoder)
        self.joins_bytes = self.joining.by == "bytes"

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the added special tokens, ascending."""
        return tuple(sorted(self._special_ids.values()))

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of user text, which cannot smuggle special tokens in: "[SEP]" is read as five characters.

        With `special` the tokenizer's own prefix and suffix ([CLS], [SEP], ...) are added.
        """
        return self._plain(self._tokenizer.encode(clean(text), add_special_tokens=special))

    def _found_in_text(self) -> dict[int, int]:
        """What is read for special tokens that the vocabulary finds in plain text, as sentencepiece does."""
        found = {
            index
            for name, index in self._special_ids.items()
            if index in self._tokenizer.encode(name, add_special_tokens=False).ids
        }
        if not found:
            return {}
        names = (self._tokenizer.token_to_id(name) for name in ("<unk>", "[UNK]"))
        unknown = next((index for index in names if index is not None), None)
        if unknown is None:
            unknown = self._tokenizer.encode("\U0010fffd", add_special_tokens=False).ids[-1]
        return dict.fromkeys(found, unknown)

    def _plain(self, encoding: Any) -> list[int]:
        ids: list[int] = encoding.ids
        if not self._smuggled:
            return ids
        around = encoding.special_tokens_mask
        return [index if own else self._smuggled.get(index, index) for index, own in zip(ids, around, strict=True)]

    def encode_parts(self, text: str, before: str | None = None) -> Encoded:
        """Content tokens of user text, and what belongs around them; in a pair `before` is the first text."""
        first_text, second = (clean(text), None) if before is None else (clean(before), clean(text))
        encoding = self._tokenizer.encode(first_text, second, add_special_tokens=True)
        ids, own = self._plain(encoding), int(second is not None)
        places = [place for place, part in enumerate(encoding.sequence_ids) if part == own]
        # Without content it does not matter where what stands around it is parted: nothing goes between.
        first, last = (places[0], places[-1] + 1) if places else (len(ids), len(ids))
        spans = encoding.offsets[first:last]
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        return Encoded(ids[first:last], starts, ends, ids[:first], ids[last:], encoding.type_ids)

    def encode_words(self, words: Sequence[str], starts: Sequence[int]) -> Encoded:
        """Content tokens of a text that is split already, each word by itself, and what belongs around them.

        Word i begins at the character `starts[i]` of the text, to which the places of the tokens refer.
        """
        encoding = self._tokenizer.encode_words(words)
        ids = self._plain(encoding)
        places = [place for place, word in enumerate(encoding.word_ids) if word is not None]
        first, last = (places[0], places[-1] + 1) if places else (len(ids), len(ids))
        spans = encoding.offsets[first:last]
        shifts = [starts[word] for word in encoding.word_ids[first:last] if word is not None]
        begins = [start + shift for (start, _), shift in zip(spans, shifts, strict=True)]
        ends = [end + shift for (_, end), shift in zip(spans, shifts, strict=True)]
        return Encoded(ids[first:last], begins, ends, ids[:first], ids[last:], encoding.type_ids)

    def subwords(self, parts: Encoded, text: str) -> list[bool]:
        """Whether each token goes on with the word of the one before, as transformers' token classification tells.

        Where the vocabulary marks what goes on (WordPiece's "##") by that mark, else by no blank before it; what the
        vocabulary does not know begins a word.
        """
        marked = bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))
        unknown = self._unknown_id()
        found = []
        for index, start, end in zip(parts.ids, parts.starts, parts.ends, strict=True):
            if marked:
                goes_on = len(self._tokenizer.id_to_token(index) or "") != end - start
            else:
                goes_on = start > 0 and " " not in text[start - 1 : start + 1]
            found.append(goes_on and index != unknown)
        return found

    def _unknown_id(self) -> int | None:
        """The token of what the vocabulary does not know; None where it knows everything."""
        names = (getattr(self._tokenizer.model, "unk_token", None), "<unk>", "[UNK]")
        ids = (self._tokenizer.token_to_id(name) for name in names if name is not None)
        return next((index for index in ids if index is not None), None)

    def encode_template(self, template: str, **fields: str) -> list[int]:
        """Ids of a prompt: literal parts may name special tokens, `{field}` parts are read as plain user text.

        Nothing is added around it. Raises InputError for a field of the template that is not given.
        """
        ids: list[int] = []
        for index, part in enumerate(PROMPT_FIELD.split(template)):
            if index % 2 == 0:
                ids += self._encode_literal(part)
            elif part in fields:
                ids += self.encode(fields[part], special=False)
            else:
                raise InputError(f"the prompt needs the field {part!r}; given are {sorted(fields)}")
        return ids

    def encode_source(self, template: str, text: str) -> list[int]:
        """Ids of what an encoder reads: `template` with the text in its place, and what the tokenizer puts around it.

        The text is cut into tokens together with the words before it, as in training; special tokens are those of the
        template alone.
        """
        before, _, after = PROMPT_FIELD.split(template)
        head, tail = self._cut(before), self._cut(after)
        around = self.encode_parts("a")
        ids = self._encode_cut([*head[:-1], head[-1] + text + tail[0], *tail[1:]])
        return [*around.prefix, *ids, *around.suffix]

    def _encode_literal(self, literal: str) -> list[int]:
        return self._encode_cut(self._cut(literal))

    def _cut(self, literal: str) -> list[str]:
        """Plain text and special tokens by turns, plain text first and last."""
        return self._special.split(literal) if self._special else [literal]

    def _encode_cut(self, pieces: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                ids.append(self._special_ids[piece])
            elif piece:
                ids += self.encode(piece, special=False)
        return ids

    def pieces(self) -> list[str]:
        """Every token as the tokenizer stores it, by id; "" where an id has none."""
        return [self._tokenizer.id_to_token(index) or "" for index in range(self.vocab_size)]

    def piece(self, token_id: int) -> str | None:
        """One token as the tokenizer stores it; None for a special one, and for an id that has none."""
        found = self._tokenizer.id_to_token(token_id)
        return None if found in self._special_ids else found

    def token_id(self, token: str) -> int | None:
        """The id of `token`, None when the vocabulary does not have it."""
        return self._tokenizer.token_to_id(token)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens; bytes that are not UTF-8 come out as U+FFFD."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)
