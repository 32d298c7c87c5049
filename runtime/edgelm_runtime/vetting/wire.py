"""Protocol buffers as tagged fields (https://protobuf.dev/programming-guides/encoding), read strictly and boundedly.

What other readers may understand differently is refused: integers with more bytes than they need, tags beyond 32 bits,
groups, and a field that is said to be longer than what is left.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 1_000_000  # of one model; the largest graphs of our exports have a tenth
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_TAG = (1 << 32) - 1

Value = int | memoryview | None


class Wire:
    """Reads messages, at most MAX_FIELDS fields in all. Raises ValueError for what is no protocol buffer."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def spans(self, message: memoryview) -> Iterator[tuple[int, Value, memoryview]]:
        """Number, value and all bytes of each field; a value is an integer, bytes, or None where its width is fixed."""
        at, end = 0, len(message)
        while at < end:
            self._count()
            start = at
            tag, at = _varint(message, at)
            kind, number = tag & 7, tag >> 3
            if tag > _MAX_TAG or not number:
                raise ValueError(f"a field with the tag {tag}")
            if kind == _VARINT:
                value, at = _varint(message, at)
                yield number, value, message[start:at]
                continue
            if kind == _BYTES:
                length, at = _varint(message, at)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise ValueError(f"a field of wire type {kind}")
            if length > end - at:
                raise ValueError(f"a field of {length:,} bytes where {end - at:,} are left")
            content = message[at : at + length]
            at += length
            yield number, content if kind == _BYTES else None, message[start:at]

    def read(self, message: memoryview) -> Message:
        """All fields of a message."""
        return Message(self, message)

    def integers(self, values: list[Value]) -> list[int]:
        """A repeated integer: some by themselves, some packed."""
        found: list[int] = []
        for value in values:
            if isinstance(value, int):
                found.append(value)
            elif value is not None:
                at = 0
                while at < len(value):
                    self._count()
                    number, at = _varint(value, at)
                    found.append(number)
        return found

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_FIELDS:,} fields")


def spans(message: memoryview) -> Iterator[tuple[int, Value, memoryview]]:
    """Number, value and all bytes of each field of one message. Raises ValueError."""
    return Wire().spans(message)


def packed(values: memoryview) -> list[int]:
    """The integers of a packed field. Raises ValueError."""
    return Wire().integers([values])


class Message:
    """The fields of one message by number. Of a field that is there once the last counts, as every parser reads it."""

    def __init__(self, wire: Wire, message: memoryview) -> None:
        self._wire = wire
        self._fields: dict[int, list[Value]] = {}
        for number, value, _ in wire.spans(message):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def texts(self, number: int) -> list[str]:
        """Names. Raises ValueError for one that is not UTF-8."""
        return [str(value, "utf-8") for value in self.blobs(number)]

    def text(self, number: int) -> str:
        """A name, "" where there is none."""
        return (self.texts(number) or [""])[-1]

    def blobs(self, number: int) -> list[memoryview]:
        """Bytes as they are stored."""
        return [value for value in self._fields.get(number, ()) if isinstance(value, memoryview)]

    def messages(self, number: int) -> list[Message]:
        """Messages inside."""
        return [Message(self._wire, value) for value in self.blobs(number)]

    def number(self, number: int) -> int:
        """An integer, 0 where there is none."""
        found = [value for value in self._fields.get(number, ()) if isinstance(value, int)]
        return found[-1] if found else 0

    def numbers(self, number: int) -> list[int]:
        """A repeated integer."""
        return self._wire.integers(self._fields.get(number, []))


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer at `at`, and where it ends. Raises ValueError for one that is cut off, too long, or not shortest."""
    if at >= len(message):
        raise ValueError("an integer that is cut off")
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for index in range(1, min(_MAX_VARINT_BYTES, len(message) - at)):
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if not byte or value >> 64:
                raise ValueError("an integer with more bytes than it needs" if not byte else "an integer over 64 bits")
            return value, at + index + 1
    raise ValueError("an integer of more than 10 bytes, or cut off")


def signed(value: int) -> int:
    """An int64 as it is written: negative ones as their complement to two."""
    return value - (1 << 64) if value >> 63 else value
