"""Chinese or English, told by the script alone: no model, no table, bounded time."""

from __future__ import annotations

import re

# Unified ideographs with their extensions and compatibility forms, and the ideographic zero.
_HAN_RUN = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")
_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\uff21-\uff3a\uff41-\uff5a]+")


def language_of(text: str) -> str:
    """Tell the language: "zh" when `text` has as many Han characters as Latin words or more, else "en".

    Text without letters is "en". One Han character counts like one Latin word: a Chinese review that names an English
    brand stays Chinese.
    """
    han = sum(run.end() - run.start() for run in _HAN_RUN.finditer(text))
    if han == 0:
        return "en"
    latin = sum(1 for _ in _LATIN_WORD.finditer(text))
    return "zh" if han >= latin else "en"
