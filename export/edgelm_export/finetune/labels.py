"""Labels as people write them: with spaces, in full width, as numbers of a spreadsheet, in two spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from edgelm_runtime.errors import InputError

# What pandas and Excel write where there is no label.
NO_LABEL = frozenset(["nan", "<na>", "#n/a", "#null!", "#ref!", "#value!", "#name?", "#div/0!"])
_WHOLE = re.compile(r"(-?\d+)\.0+")
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])")
_AT_THE_END = ".,;:!。，；：！"


def label_text(value: object) -> str:
    """The name of a class as text, in Unicode's form NFKC, without spaces around it and what cannot be seen.

    Raises:
        InputError: no label (blank, null, nan, an error of Excel's), or a list or an object.
    """
    if value is None or isinstance(value, list | dict):
        raise InputError(f"label is {str(value)[:80]}; one label is accepted, a text or a number")
    text = _tidy(str(value))
    if not text or text.lower() in NO_LABEL:
        raise InputError(f"label is {str(value)!r}, which is none; leave the row out, or give it a label")
    return text


@lru_cache(maxsize=4096)
def _tidy(text: str) -> str:
    letters = (letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf")
    return " ".join("".join(letters).split())


def same_label(text: str, names: Sequence[str]) -> str | None:
    """The one of the names that a label of ``label_text`` is: as it is written, or 1.0 for 1; None where it is none."""
    forms = _forms(tuple(names))
    return forms.get(text) or forms.get(whole(text))


@lru_cache(maxsize=16)
def _forms(names: tuple[str, ...]) -> Mapping[str, str]:
    return {_tidy(name): name for name in names}


def whole(text: str) -> str:
    """The number 1 for 1.0, as which pandas writes it in a column with gaps; any other label as it is."""
    found = _WHOLE.fullmatch(text)
    return found.group(1) if found else text


def distinct(texts: Iterable[str]) -> list[str]:
    """The different labels, sorted.

    Raises:
        InputError: some differ only in case, in what stands between words, or in a point at the end.
    """
    names = set(texts)
    if all(_WHOLE.fullmatch(name) or name.removeprefix("-").isdigit() for name in names):
        names = set(map(whole, names))
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(_BETWEEN_LETTERS.sub(" ", name.casefold()).rstrip(_AT_THE_END), []).append(name)
    doubled = [", ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if doubled:
        raise InputError(f"labels that are nearly the same: {'; '.join(doubled)}; write each class in one way")
    return sorted(names)
