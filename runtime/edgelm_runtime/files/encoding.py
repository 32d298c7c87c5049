"""Bytes to text. UTF-8 is read, and UTF-16 and UTF-32 where they say so by a byte order mark; nothing is guessed.

GB18030 or Windows-1252 cannot be told from one another for certain, and a wrong guess is other words without an error.
So they are refused, with the command that makes UTF-8 of them; which one it names is a guess that does no harm.
"""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from ..errors import InputError

# The mark of UTF-32 begins like that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 1 << 16


def marked(data: bytes) -> str | None:
    """The codec that the byte order mark of `data` stands for; None without one, and for that of UTF-8."""
    return next((codec for mark, codec in MARKS if data.startswith(mark)), None)


def decode(data: bytes, source: str | Path, first_line: int = 1, first_byte: int = 0) -> str:
    """The text of `data`, without a byte order mark. `source` is the file that it is of, or what is said in its place.

    Raises InputError for what is not text in a known encoding, with the byte and the line, counted from the given
    first ones, and for a file the command that mends it.
    """
    codec = marked(data) if first_byte == 0 else None
    if codec is None and _is_half_zero(data):
        raise InputError(f"{source}: looks like UTF-16 without its byte order mark; {_remedy(data, source)}")
    try:
        text = data.decode(codec or "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + (data.count(b"\n", 0, error.start))
        raise InputError(
            f"{source}: not {(codec or 'utf-8').upper()} at byte {first_byte + error.start} "
            f"(line {line}, value 0x{data[error.start]:02x}); {_remedy(data, source)}"
        ) from error
    return text.lstrip("\ufeff") if first_byte == 0 else text


def _is_half_zero(data: bytes) -> bool:
    """Whether Latin letters with a zero byte beside each are there."""
    sample = data[:_SAMPLE]
    return len(sample) > 1 and 4 * max(sample[::2].count(0), sample[1::2].count(0)) > len(sample)


def _remedy(data: bytes, source: str | Path) -> str:
    if not isinstance(source, Path):
        return "send UTF-8"
    packed = source.suffix.lower() == ".gz"
    plain = source.with_suffix("") if packed else source
    target = plain.with_name(f"{plain.stem}.utf8{plain.suffix}")
    read = f"gunzip -c {_quoted(source)} | " if packed else ""
    given = "" if packed else f" {_quoted(source)}"
    command = f"{read}iconv {_likely(data)} -t UTF-8{given} > {_quoted(target)}"
    return f"make UTF-8 of it with: {command} (or save it as UTF-8, in a spreadsheet program as CSV UTF-8)"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _likely(data: bytes) -> str:
    """The encoding that the command names: that of Chinese or Western Windows; of a few broken bytes to drop them."""
    sample = data[:_SAMPLE]
    if sample.count(0):
        return "-f UTF-16LE" if sample[1::2].count(0) >= sample[::2].count(0) else "-f UTF-16BE"
    letters = [letter for letter in data.decode("utf-8", "replace") if not letter.isascii()]
    if letters.count("\ufffd") * 4 < len(letters):
        return "-c -f UTF-8"
    beyond = [letter for letter in sample.decode("gb18030", "replace") if not letter.isascii()]
    common = sum(letter.encode("gb2312", "ignore") != b"" for letter in beyond)
    return "-f GB18030" if common > 0.8 * len(beyond) else "-f WINDOWS-1252"
