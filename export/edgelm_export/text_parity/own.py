"""transformers' own tokenizer of a checkpoint: torch is given what it reads, never what a bundle's tokenizer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.checkpoint.sentence import read_sentence
from edgelm_export.checkpoint.vocabulary import load_tokenizer
from edgelm_export.text_parity.asked import LeftOut
from edgelm_runtime.manifest import PROMPT_FIELD, TEXT
from edgelm_runtime.tasks.attributes import canonical, parse
from edgelm_runtime.tasks.reading import Reader
from edgelm_runtime.tokenizer import Encoded


@dataclass(frozen=True)
class OwnReader:
    """What a checkpoint in torch reads for a text: by its own tokenizer, or by a bundle's where ``own`` is None."""

    own: OwnTokenizer | None

    def reader(self, model: Any) -> Reader:
        """What reads texts for an encoder as the bundle of ``model`` does, in windows and pairs."""
        return model.reader if self.own is None else Reader(model.bundle.manifest, self.own)

    def prompt(self, model: Any, text: str) -> list[int]:
        """The ids of a generator's prompt for a text."""
        if self.own is None:
            return list(model.tokenize(text))
        manifest = model.bundle.manifest
        source = canonical(parse(text)) if model.task == "description" else text
        return self.own.encode_prompt(manifest.prompts[model.task], source, encoder=manifest.decoder is not None)


def own_reader(checkpoint: Checkpoint) -> OwnReader:
    """Of a cut vocabulary it is the bundle's tokenizer that reads: transformers has none for it."""
    return OwnReader(None if checkpoint.kept_ids is not None else OwnTokenizer(checkpoint))


class OwnTokenizer:
    """Reads texts as transformers does, with the methods that `tasks.reading.Reader` asks of a tokenizer.

    Ids are those of the checkpoint's cut vocabulary where it has one; a text with others raises LeftOut. With ``text``
    special tokens in a text are characters, as transformers' ``split_special_tokens`` reads them.
    """

    def __init__(self, checkpoint: Checkpoint, *, text: bool | None = None) -> None:
        found, _ = load_tokenizer(checkpoint.folder, checkpoint.config)
        self.tokenizer: Any = found
        self.splits = checkpoint.tokenizer.special_tokens == TEXT if text is None else text
        sentence = None if checkpoint.root is None else read_sentence(checkpoint.root)
        self._lowercase = sentence is not None and sentence.lowercase
        self._kept = checkpoint.kept_ids
        self._new = None if self._kept is None else {int(old): new for new, old in enumerate(self._kept)}
        added = self.tokenizer.added_tokens_decoder
        self._added = {token.content: int(index) for index, token in added.items()}
        self.special = {token.content: int(index) for index, token in added.items() if token.special}
        before = self.tokenizer("a").sequence_ids(0)[0] is None
        self._first = self.tokenizer.convert_ids_to_tokens(self.tokenizer("a").input_ids[:1])[0] if before else None

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text, with what the tokenizer puts around it where it is ``special``."""
        return self.kept(self._read(text, add_special_tokens=special).input_ids)

    def encode_parts(self, text: str, before: str | None = None, after: str | None = None) -> Encoded:
        """Content tokens of a text, and what belongs around them; in a pair ``before`` or ``after`` is the other."""
        given = [one for one in (before, text, after) if one is not None]
        read = self._read(*given, return_offsets_mapping=True, return_token_type_ids=True)
        own = int(before is not None)
        places = [place for place, part in enumerate(read.sequence_ids(0)) if part == own]
        return self._encoded(read, places, [(start, end) for start, end in read.offset_mapping])

    def pair(self, first: str, second: str) -> list[int]:
        """Token ids of a whole pair."""
        return self.kept(self._read(first, second).input_ids)

    def encode_words(self, words: Sequence[str], starts: Sequence[int]) -> Encoded:
        """Content tokens of a text that is split already, word i of which begins at the character ``starts[i]``."""
        read = self._read(
            list(words), is_split_into_words=True, return_offsets_mapping=True, return_token_type_ids=True
        )
        of = read.word_ids(0)
        places = [place for place, word in enumerate(of) if word is not None]
        shifts = [0 if word is None else starts[word] for word in of]
        spans = zip(read.offset_mapping, shifts, strict=True)
        return self._encoded(read, places, [(start + shift, end + shift) for (start, end), shift in spans])

    def encode_prompt(self, template: str, text: str, *, encoder: bool = False) -> list[int]:
        """Ids of ``tokenizer(prompt)``; special tokens in it are characters where no part of the template names any.

        A template that begins with what belongs around a prompt, and is for no ``encoder``, gets nothing around it, as
        transformers advises for chats.
        """
        before, _, after = PROMPT_FIELD.split(template)
        around = encoder or not (self._first and before.lstrip().startswith(self._first))
        splits = self.splits and not any(name in part for name in self.special for part in (before, after))
        prompt = f"{before}{text}{after}"
        read = self.tokenizer(prompt, add_special_tokens=around, truncation=False, split_special_tokens=splits)
        return self.kept(read.input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids."""
        return str(self.tokenizer.decode(self._old(ids), skip_special_tokens=True))

    def has_special(self, text: str, template: str) -> bool:
        """Whether transformers finds a special token in a text, or an added one that the template names."""
        read = set(self.tokenizer(text, add_special_tokens=False, truncation=False).input_ids)
        named = {name: index for name, index in self._added.items() if name in template}
        special = {**self.special, **named}
        found = (read - {self.tokenizer.unk_token_id}) & set(special.values())
        return bool(found) or any(name in text for name in special)

    def names(self, ids: Sequence[int]) -> list[str]:
        """The tokens of ids as the vocabulary has them."""
        return [str(token) for token in self.tokenizer.convert_ids_to_tokens(self._old(ids))]

    def kept(self, ids: Sequence[int]) -> list[int]:
        """The ids in the cut vocabulary, where it was cut. Raises LeftOut."""
        if self._new is None:
            return list(ids)
        if not self._new.keys() >= set(ids):
            raise LeftOut("tokens in it that were cut out of the vocabulary")
        return [self._new[index] for index in ids]

    def _old(self, ids: Sequence[int]) -> list[int]:
        return list(ids) if self._kept is None else [int(index) for index in self._kept[list(ids)]]

    def _read(self, *given: Any, **options: Any) -> Any:
        texts = [one.lower() for one in given] if self._lowercase else given
        return self.tokenizer(*texts, truncation=False, split_special_tokens=self.splits, **options)

    def _encoded(self, read: Any, places: Sequence[int], spans: Sequence[tuple[int, int]]) -> Encoded:
        ids = self.kept(read.input_ids)
        first, last = (places[0], places[-1] + 1) if places else (len(ids), len(ids))
        starts, ends = (np.array(spans).reshape(-1, 2)[first:last, side].tolist() for side in (0, 1))
        return Encoded(ids[first:last], starts, ends, ids[:first], ids[last:], list(read.token_type_ids))
