"""The bytes of a file of rows: its kind, unpacked, and never more than a machine can hold."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

KINDS = (".txt", ".jsonl", ".csv", ".tsv")
MAX_BYTES = 1 << 31
# Text of reviews packs to a quarter, tables of repeated words to a thirtieth. What packs better is no text.
MAX_RATIO, ALWAYS_UNPACKED = 50, 64 << 20
_PIECE = 1 << 20
_PACKED = ".gz"
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_SAVE_AS = "in the spreadsheet program, save it as CSV UTF-8 and give that file"


def kind_of(path: Path) -> str:
    """The kind of a file by its suffix in any case, that before .gz where it has one.

    Raises InputError for a folder, and for any other kind.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [_PACKED]
    kind = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    if kind in KINDS:
        return kind
    accepted = f"{', '.join(KINDS)}, each also {_PACKED}"
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file, accepted are {accepted}")
    if kind in _WORKBOOKS:
        raise InputError(f"{path}: a workbook ({kind}) cannot be read; {_SAVE_AS}")
    shown = repr(kind + _PACKED * packed) if kind or packed else "without a suffix"
    raise InputError(f"{path}: files of kind {shown}; accepted are {accepted}")


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is packed with gzip, whatever its name says.

    Raises InputError for what cannot be read or unpacked, a workbook, and more than MAX_BYTES or, unpacked,
    MAX_RATIO times the packed size.
    """
    try:
        with path.open("rb") as stream:
            first = stream.read(len(_ZIP))
            stream.seek(0)
            size = path.stat().st_size
            if first.startswith(_GZIP) or path.suffix.lower() == _PACKED:
                return _unpacked(path, stream, size)
            if first == _ZIP:
                raise InputError(f"{path}: a workbook or another zip file, whatever its name says; {_SAVE_AS}")
            data = stream.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the path and the file") from error
    if max(size, len(data)) > MAX_BYTES:
        raise InputError(f"{path}: has {size:,} bytes, at most {MAX_BYTES:,} are accepted; split it into several files")
    return data


def _unpacked(path: Path, stream: BinaryIO, size: int) -> bytes:
    most = min(MAX_BYTES, max(ALWAYS_UNPACKED, MAX_RATIO * size))
    pieces, total = [], 0
    with gzip.GzipFile(fileobj=stream) as unpacking:
        while piece := unpacking.read(_PIECE):
            pieces.append(piece)
            total += len(piece)
            if total > most:
                raise InputError(
                    f"{path}: unpacks to more than {most:,} bytes from {size:,}, which text does not; "
                    "where that is meant, unpack it first: gunzip -k, and give the file that this makes"
                )
    return b"".join(pieces)
