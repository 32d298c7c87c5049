"""Lines of a pipe: as they come, of any length, each on its own."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm import pipes
from edgelm.inputs import Item, Problem, reader_for
from edgelm.pipes import Requests, lines_as_they_come, text_line
from edgelm_runtime.files.lines import parse_lines


class Pipe(io.RawIOBase):
    """Gives the pieces one by one, as a slow writer would."""

    def __init__(self, pieces: Iterator[bytes] | list[bytes]) -> None:
        self._pieces = iter(pieces)

    def read1(self, _: int) -> bytes:
        return next(self._pieces, b"")


def entries(pieces: Iterator[bytes] | list[bytes], read: pipes.Read = text_line) -> list[Item | Problem]:
    return [entry for group in lines_as_they_come(Pipe(pieces), read) for entry in group.entries]  # type: ignore[arg-type]


def test_a_pipe_gives_whole_lines_as_they_come() -> None:
    pieces = [b"one\ntw", b"o\n", "半".encode()[:1], "半".encode()[1:]]
    groups = lines_as_they_come(Pipe(pieces), text_line)  # type: ignore[arg-type]
    assert [group.items for group in groups if group.items] == [(Item("one", 1),), (Item("two", 2),), (Item("半", 3),)]


def test_a_line_that_is_not_utf8_is_a_problem_and_the_others_are_read() -> None:
    found = entries([b"\xef\xbb\xbfgood\n", b"also\nb\xffd\nlast\n"])
    assert [entry.line for entry in found if isinstance(entry, Item)] == [1, 2, 4]
    assert found[0] == Item("good", 1)
    assert isinstance(found[2], Problem)
    assert "not UTF-8 at byte 14 (line 3, value 0xff)" in found[2].message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_utf16_is_read_where_it_says_so(encoding: str, size: int) -> None:
    data = "很好\r\n\n差 🙂".encode(encoding)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert entries(pieces) == [Item("很好", 1), Item("差 🙂", 3)]
    broken = entries([data[:-1]])
    assert (broken[0], type(broken[-1])) == (Item("很好", 1), Problem)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"])), max_size=8), st.data()
)
def test_a_pipe_cut_anywhere_is_the_same_as_the_whole(lines: list[str], data: st.DataObject) -> None:
    raw = "\n".join(lines).encode("utf-8")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) if end > start]
    groups = list(lines_as_they_come(Pipe(pieces), text_line))  # type: ignore[arg-type]
    expected = parse_lines(raw.decode("utf-8").lstrip("\ufeff"), is_json=False)
    assert [(item.value, item.line) for group in groups for item in group.items] == [
        (record.value, record.line) for record in expected.records
    ]
    assert sum(group.blank for group in groups) == expected.blank


@pytest.mark.parametrize(("size", "kind"), [(64, Item), (65, Problem)])
def test_a_line_is_bounded_and_the_next_one_read(monkeypatch: pytest.MonkeyPatch, size: int, kind: type) -> None:
    monkeypatch.setattr(pipes, "MAX_LINE_BYTES", 64)
    first, second = entries([b"a" * (size - 1), b"\nnext\n"])
    assert (type(first), second) == (kind, Item("next", 2))


def test_a_line_without_an_end_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "MAX_LINE_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        first, second = entries(iter([*([b"x" * 512] * (64 << 11)), b"\nnext"]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(first, Problem)
    assert "the line has 67,108,865 bytes, at most 1,048,576 are accepted" in first.message
    assert second == Item("next", 2)
    assert peak < 8 << 20


CLASSIFY = Requests(reader_for("classify", None))
SENTIMENT = Requests(reader_for("sentiment", None))
DESCRIPTION = Requests(reader_for("description", None))


@pytest.mark.parametrize(
    ("read", "line", "item"),
    [
        (SENTIMENT, "good", Item("good", 7)),
        (SENTIMENT, "{smile} good", Item("{smile} good", 7)),
        (SENTIMENT, '"quoted" good', Item('"quoted" good', 7)),
        (SENTIMENT, '{"text": "good"}', Item("good", 7)),
        (SENTIMENT, ' { "text": "a\\nb", "id": 3}', Item("a\nb", 7, {"id": 3})),
        (SENTIMENT, '{"id": null, "text": "{\\"id\\": 9}"}', Item('{"id": 9}', 7, {"id": None})),
        (CLASSIFY, '{"text": "a", "text_pair": "b"}', Item(("a", "b"), 7)),
        (DESCRIPTION, '{"品类": "裙"}', Item({"品类": "裙"}, 7)),
        (DESCRIPTION, '{"attributes": {"a": "b"}, "id": "x"}', Item({"a": "b"}, 7, {"id": "x"})),
        (DESCRIPTION, '{"text": "a: b", "id": "x"}', Item("a: b", 7, {"id": "x"})),
        (SENTIMENT, '{"text": "a", "options": {"top_k": 5}}', Item("a", 7, {}, {"top_k": 5})),
    ],
)
def test_requests_are_text_or_objects(read: Requests, line: str, item: Item) -> None:
    assert read(line, 7) == item


@pytest.mark.parametrize(
    ("read", "line", "message"),
    [
        (SENTIMENT, " ", "the line is blank"),
        (SENTIMENT, '{"text": "a"', "not JSON"),
        (SENTIMENT, '{"id": 1}', "no field 'text'"),
        (SENTIMENT, "{}", "no field 'text'"),
        (SENTIMENT, '{"text": 5, "id": 1}', "text is a JSON number"),
        (SENTIMENT, '{"text": "a", "id": [1]}', "id is a JSON array"),
        (
            SENTIMENT,
            '{"text": "a", "top_k": 5}',
            "accepted are id, text, options, and generation options inside options",
        ),
        (SENTIMENT, '{"text": "a", "text_pair": "b"}', "the request has 'text_pair'"),
        (SENTIMENT, '{"text": "a", "options": []}', "options is a JSON array"),
        (SENTIMENT, '{"text": "a", "options": null}', "options is a JSON null"),
        (CLASSIFY, '{"text": "a", "text_pair": 5}', "text_pair is a JSON number"),
        (DESCRIPTION, '{"attributes": 5}', "attributes is a JSON number"),
    ],
)
def test_requests_that_are_none_are_refused(read: Requests, line: str, message: str) -> None:
    found = read(line, 7)
    assert isinstance(found, Problem)
    assert (found.line, message in found.message) == (7, True), found.message
    assert "--column" not in found.message


def test_a_refused_request_keeps_its_id() -> None:
    assert SENTIMENT('{"id": "a", "text": 5}', 1).beside == {"id": "a"}
