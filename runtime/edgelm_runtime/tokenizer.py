"""Text to token ids and back, on Hugging Face's `tokenizers` behind `guarded`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from .errors import InputError
from .guarded import GuardedTokenizer
from .manifest import PARSE, PROMPT_FIELD, SPECIAL_TOKENS, TEXT, TokenizerSpec
from .text_stream import Joining, without_cjk_spaces
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

    def after(self, characters: int) -> Encoded:
        """The same with the tokens of the first characters, a prompt, as a part of what stands before the content.

        A token across the border is content. Offsets are counted from the border.
        """
        if not characters:
            return self
        cut = next((place for place, end in enumerate(self.ends) if end > characters), len(self.ids))
        starts, ends = ([max(0, place - characters) for place in places[cut:]] for places in (self.starts, self.ends))
        return Encoded(self.ids[cut:], starts, ends, self.prefix + self.ids[:cut], self.suffix, self.type_ids)

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

    `data` is the content of tokenizer.json. What special tokens in a text are is said by `spec`: "parse" reads them as
    such, as transformers does; "text" as any other characters, and with them every added token that one of the
    `prompts` names. Raises BundleRejected when `data` cannot be read.
    """

    def __init__(self, data: bytes, spec: TokenizerSpec, prompts: Iterable[str] = ()) -> None:
        self.spec = spec
        self.special_tokens: str = spec.special_tokens or TEXT
        self._tokenizer = GuardedTokenizer(data, spec.file)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special_ids = {token.content: index for index, token in added.items() if token.special}
        templates = tuple(prompts)
        named = {token.content: index for index, token in added.items() if _named(token.content, templates)}
        self._markers = {**named, **self._special_ids}
        names = sorted(self._markers, key=len, reverse=True)
        self._marker = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None
        self._names = {index: name for name, index in self._markers.items()}
        self._unknown = self._unknown_id()
        self._literal: _Literal | None = None
        self._lock = Lock()
        prefix = self.encode_parts("a").prefix
        self._first = self._tokenizer.id_to_token(prefix[0]) if prefix else None
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.joining = Joining.of(self._tokenizer.decoder)
        self.joins_bytes = self.joining.by == "bytes"
        self.continuing = self.joining.continuing

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the added special tokens, ascending."""
        return tuple(sorted(self._special_ids.values()))

    def read_special_tokens_as(self, kind: str) -> None:
        """Read them as "text" or "parse" from now on, whatever the bundle says. Raises InputError for another `kind`.

        To be called before the tokenizer is shared between threads.
        """
        if kind not in SPECIAL_TOKENS:
            accepted = ", ".join(map(repr, SPECIAL_TOKENS))
            raise InputError(f"special_tokens is {kind!r}, accepted are {accepted}, or None for what the bundle says")
        self.special_tokens = kind

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text; in "text" it cannot smuggle special tokens in: "[SEP]" is read as five characters.

        With `special` the tokenizer's own prefix and suffix ([CLS], [SEP], ...) are added.
        """
        return self._read(clean(text), around=special)[1]

    def encode_parts(self, text: str, before: str | None = None, after: str | None = None) -> Encoded:
        """Content tokens of a text, and what belongs around them; in a pair `before` or `after` is the other one."""
        other = after if before is None else clean(text)
        encoding, ids = self._read(clean(text if before is None else before), None if other is None else clean(other))
        own = int(before is not None)
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
        if self.special_tokens == TEXT and self._found(encoding, words, encoding.word_ids):
            encoding, ids = self._literally().encode_words(words)
        else:
            ids = encoding.ids
        places = [place for place, word in enumerate(encoding.word_ids) if word is not None]
        first, last = (places[0], places[-1] + 1) if places else (len(ids), len(ids))
        spans = encoding.offsets[first:last]
        shifts = [starts[word] for word in encoding.word_ids[first:last] if word is not None]
        begins = [start + shift for (start, _), shift in zip(spans, shifts, strict=True)]
        ends = [end + shift for (_, end), shift in zip(spans, shifts, strict=True)]
        return Encoded(ids[first:last], begins, ends, ids[:first], ids[last:], encoding.type_ids)

    @property
    def marks_subwords(self) -> bool:
        """Whether the vocabulary marks pieces that go on with a word, as WordPiece does with "##"."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    def subwords(self, parts: Encoded, text: str) -> list[bool]:
        """Whether each token goes on with the word of the one before, as transformers' token classification tells.

        Where the vocabulary marks what goes on (WordPiece's "##") by that mark, else by no blank before it; what the
        vocabulary does not know begins a word.
        """
        marked, unknown = self.marks_subwords, self._unknown_id()
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

    def encode_prompt(self, template: str, text: str, *, encoder: bool = False) -> list[int]:
        """Ids of a prompt, `template` with the text for its field, as transformers' `tokenizer(prompt)` gives them.

        The prompt is cut into tokens as a whole, with what the tokenizer puts around it. A template that begins with
        that itself, as chats do, gets nothing around it, unless it is for an `encoder`. In "text" the special tokens
        are those of the template alone, whatever the text holds.
        """
        before, _, after = [*PROMPT_FIELD.split(template), "", ""][:3]
        text = clean(text)
        prompt, around = before + text + after, encoder or not self._begins_itself(before)
        encoding = self._tokenizer.encode(prompt, add_special_tokens=around)
        if self.special_tokens == PARSE:
            return list(encoding.ids)
        behind = len(before) + len(text)
        own = [*self._places(before), *((start + behind, index) for start, index in self._places(after))]
        if [(start, index) for _, start, index in self._found(encoding, (prompt,), encoding.sequence_ids)] == own:
            return list(encoding.ids)
        head, tail = self._cut(before), self._cut(after)
        ids = self._encode_cut([*head[:-1], head[-1] + text + tail[0], *tail[1:]])
        parts = self.encode_parts("a")
        return [*parts.prefix, *ids, *parts.suffix] if around else ids

    def encode_template(self, template: str, **fields: str) -> list[int]:
        """Ids of a prompt that is cut at its seams: literal parts may name special tokens, `{field}` parts are texts.

        Nothing is added around it: so do bundles read whose manifest does not say what special tokens in a text are.
        Raises InputError for a field of the template that is not given.
        """
        ids: list[int] = []
        for index, part in enumerate(PROMPT_FIELD.split(template)):
            if index % 2 == 0:
                ids += self._encode_cut(self._cut(part))
            elif part in fields:
                ids += self.encode(fields[part], special=False)
            else:
                raise InputError(f"the prompt needs the field {part!r}; given are {sorted(fields)}")
        return ids

    def _read(self, text: str, pair: str | None = None, *, around: bool = True) -> tuple[Any, list[int]]:
        """The encoding of a text, or of a pair, and its ids."""
        encoding = self._tokenizer.encode(text, pair, add_special_tokens=around)
        if self.special_tokens == PARSE or not self._found(encoding, (text, pair or ""), encoding.sequence_ids):
            return encoding, encoding.ids
        return self._literally().encode(text, pair, around)

    def _found(self, encoding: Any, texts: Sequence[str], parts: Sequence[int | None]) -> list[tuple[int, int, int]]:
        """Special tokens that stand in the texts themselves, as (text, start, id); `parts` are the tokens' texts."""
        if self._names.keys().isdisjoint(encoding.ids):
            return []
        found = []
        read = zip(encoding.ids, encoding.special_tokens_mask, parts, encoding.offsets, strict=True)
        for index, own, part, (start, end) in read:
            if own or part is None or index not in self._names:
                continue
            written = texts[part][start:end]
            # What the vocabulary does not have is read as the unknown token: nobody wrote that.
            if index != self._unknown or written.strip() == self._names[index]:
                found.append((part, start + len(written) - len(written.lstrip()), index))
        return found

    def _places(self, literal: str) -> list[tuple[int, int]]:
        """The special tokens that a part of a template names, as (start, id)."""
        if self._marker is None:
            return []
        return [(match.start(), self._markers[match.group()]) for match in self._marker.finditer(literal)]

    def _begins_itself(self, literal: str) -> bool:
        """Whether a template begins with what the tokenizer puts before a text."""
        return bool(self._first) and literal.lstrip().startswith(str(self._first))

    def _literally(self) -> _Literal:
        """What reads special tokens as text; made for the first text that has one."""
        with self._lock:
            if self._literal is None:
                copy = self._tokenizer.literal_copy(list(self._markers))
                self._literal = _Literal(copy, self._markers, self._unknown)
            return self._literal

    def _cut(self, literal: str) -> list[str]:
        """Plain text and special tokens by turns, plain text first and last."""
        return self._marker.split(literal) if self._marker else [literal]

    def _encode_cut(self, pieces: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                ids.append(self._markers[piece])
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
        text = self.joined(ids)
        return without_cjk_spaces(text) if self.spec.strip_cjk_spaces else text

    def joined(self, ids: Sequence[int]) -> str:
        """`decode` with every blank that the decoder makes."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)


class _Literal:
    """Reads special tokens as the characters that they are written with.

    What is read for those that the vocabulary finds in plain text all the same, as sentencepiece does, is `unknown`.
    """

    def __init__(self, tokenizer: GuardedTokenizer, special: Mapping[str, int], unknown: int | None) -> None:
        self._tokenizer = tokenizer
        found = {
            index for name, index in special.items() if index in tokenizer.encode(name, add_special_tokens=False).ids
        }
        if unknown is None and found:
            ids = tokenizer.encode("\U0010fffd", add_special_tokens=False).ids
            unknown = next((index for index in ids[::-1] if index not in found), 0)
        self._instead = dict.fromkeys(found, unknown)

    def encode(self, text: str, pair: str | None, around: bool) -> tuple[Any, list[int]]:
        """The encoding of a text, or of a pair, and its ids."""
        return self._replaced(self._tokenizer.encode(text, pair, add_special_tokens=around))

    def encode_words(self, words: Sequence[str]) -> tuple[Any, list[int]]:
        """The encoding of a text that is split already, and its ids."""
        return self._replaced(self._tokenizer.encode_words(words))

    def _replaced(self, encoding: Any) -> tuple[Any, list[int]]:
        if not self._instead:
            return encoding, encoding.ids
        read = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return encoding, [index if own else self._instead.get(index, index) for index, own in read]


def _named(token: str, templates: Sequence[str]) -> bool:
    return any(token in template for template in templates)
