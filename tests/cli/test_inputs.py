"""Reading inputs: what is taken, what is named as a problem, what is refused as a whole."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm import inputs
from edgelm.inputs import Item, Reader
from edgelm_runtime.errors import InputError

TEXT = Reader("text")
ATTRIBUTES = inputs.reader_for("description", None)


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def test_txt_is_one_input_a_line_with_numbers(tmp_path: Path) -> None:
    read = inputs.read_file(write(tmp_path, "a.txt", "第一\r\n\nthird\n"), TEXT)
    assert read.items == (Item("第一", 1), Item("third", 3))
    assert read.blank == 1
    assert read.problems == ()


def test_only_line_ends_end_lines(tmp_path: Path) -> None:
    line = "a\u2028b\x0bc\x85d\x00e"
    assert inputs.read_file(write(tmp_path, "a.txt", line), TEXT).items == (Item(line, 1),)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert inputs.read_file(write(tmp_path, "a.txt", b"\xef\xbb\xbfgood"), TEXT).items == (Item("good", 1),)


@pytest.mark.parametrize(
    ("data", "position", "line"), [(b"ok\ngut\xe9", 6, 2), (b"\xef\xbb\xbfok\n\xff", 6, 2), (b"\xff\xfea\x00", 0, 1)]
)
def test_what_is_not_utf8_is_refused_with_the_position(tmp_path: Path, data: bytes, position: int, line: int) -> None:
    with pytest.raises(InputError, match=rf"a\.txt: not UTF-8 at byte {position} \(line {line}, "):
        inputs.read_file(write(tmp_path, "a.txt", data), TEXT)


def test_jsonl_takes_strings_and_the_column(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '"plain"\n{"text": "field", "id": 1}\n')
    assert inputs.read_file(path, TEXT).items == (Item("plain", 1), Item("field", 2))


def test_broken_lines_of_jsonl_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    lines = ['{"text": "good"}', "{broken", "[1]", '{"review": "x"}', '{"text": 5}', '{"text": {"a": "b"}}', "null"]
    read = inputs.read_file(write(tmp_path, "a.jsonl", "\n".join([*lines, "[" * 100_000, '"end"'])), TEXT)
    assert read.items == (Item("good", 1), Item("end", 9))
    assert [problem.line for problem in read.problems] == [2, 3, 4, 5, 6, 7, 8]
    assert "'review'" in read.problems[2].message


def test_csv_reads_the_column_over_quoted_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'id,text\n1,"two\nlines"\n2,"say ""hi"", ok"\n\n3,last\n')
    assert inputs.read_file(path, TEXT).items == (Item("two\nlines", 2), Item('say "hi", ok', 4), Item("last", 6))


def test_csv_without_the_column_names_those_found(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "id,review\n1,good\n")
    with pytest.raises(InputError, match=r"no column 'text'; found are 'id', 'review'; .*--column"):
        inputs.read_file(path, TEXT)
    assert inputs.read_file(path, Reader("review")).items == (Item("good", 2),)


def test_csv_rows_of_another_width_are_named(tmp_path: Path) -> None:
    read = inputs.read_file(write(tmp_path, "a.csv", "id,text\n1\n2,good\n3,a,b\n"), TEXT)
    assert read.items == (Item("good", 3),)
    assert [problem.line for problem in read.problems] == [2, 4]


def test_csv_fields_may_be_long_and_broken_quotes_are_refused(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    assert inputs.read_file(write(tmp_path, "a.csv", f"text\n{long}\n"), TEXT).items == (Item(long, 2),)
    with pytest.raises(InputError, match="quotes"):
        inputs.read_file(write(tmp_path, "b.csv", 'text\n"open\n'), TEXT)


def test_description_reads_attributes_or_the_whole_row(tmp_path: Path) -> None:
    column = write(tmp_path, "a.csv", "id,attributes\n1,类型#裙*颜色#白色\n")
    assert inputs.read_file(column, ATTRIBUTES).items == (Item("类型#裙*颜色#白色", 2),)
    row = write(tmp_path, "b.csv", "类型,颜色,图案\n裙,白色,\n")
    assert inputs.read_file(row, ATTRIBUTES).items == (Item({"类型": "裙", "颜色": "白色"}, 2),)
    objects = write(tmp_path, "c.jsonl", '{"attributes": {"type": "tv"}}\n{"type": "laptop"}\n"name: x"\n')
    values = [item.value for item in inputs.read_file(objects, ATTRIBUTES).items]
    assert values == [{"type": "tv"}, {"type": "laptop"}, "name: x"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", "", "holds no input"),
        ("a.txt", "\n \n", "holds no input"),
        ("a.csv", "", "a header line"),
        ("a.csv", "text\n", "holds no input"),
        ("a.xlsx", "x", r"kind '\.xlsx'; accepted are \.txt, \.jsonl, \.csv"),
        ("a", "x", "without a suffix"),
    ],
)
def test_files_with_nothing_usable_are_refused(tmp_path: Path, name: str, data: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inputs.read_file(write(tmp_path, name, data), TEXT)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        inputs.read_file(tmp_path / "none.txt", TEXT)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        inputs.read_file(tmp_path / "folder.txt", TEXT)


def test_an_argument_that_is_not_utf8_is_refused_with_the_position() -> None:
    assert inputs.argument("好 🙂 \ud800") == Item("好 🙂 \ud800")  # not from bytes: for the model to judge
    with pytest.raises(InputError, match=r"not UTF-8 at byte 4 \(value 0xe9\)"):
        inputs.argument(b"\xe5\xa5\xbd \xe9".decode("utf-8", "surrogateescape"))


class Pipe(io.RawIOBase):
    """Gives the pieces one by one, as a slow writer would."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def read1(self, _: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_a_pipe_gives_whole_lines_as_they_come() -> None:
    groups = inputs.lines_as_they_come(Pipe([b"one\ntw", b"o\n", "半".encode()[:1], "半".encode()[1:]]))  # type: ignore[arg-type]
    assert [group.items for group in groups if group.items] == [(Item("one", 1),), (Item("two", 2),), (Item("半", 3),)]


def test_a_line_of_a_pipe_that_is_not_utf8_is_a_problem_and_the_others_are_read() -> None:
    groups = inputs.lines_as_they_come(Pipe([b"\xef\xbb\xbfgood\n", b"also\nb\xffd\nlast\n"]))  # type: ignore[arg-type]
    assert next(groups).items == (Item("good", 1),)
    group = next(groups)
    assert group.items == (Item("also", 2), Item("last", 4))
    assert [problem.line for problem in group.problems] == [3]
    assert "stdin: not UTF-8 at byte 14 (line 3, value 0xff)" in group.problems[0].message
    assert group.blank == 0


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=8), st.data())
def test_a_pipe_cut_anywhere_is_the_same_as_the_whole(lines: list[str], data: st.DataObject) -> None:
    whole = "\n".join(lines)
    raw = whole.encode("utf-8")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) if end > start]
    groups = list(inputs.lines_as_they_come(Pipe(pieces)))  # type: ignore[arg-type]
    expected = inputs.parse_lines(raw.decode("utf-8-sig").split("\n"))
    assert tuple(item for group in groups for item in group.items) == expected.items
    assert sum(group.blank for group in groups) == expected.blank


@given(st.lists(st.text(), max_size=8))
def test_any_text_survives_jsonl(texts: list[str]) -> None:
    text = "\n".join(json.dumps({"text": value}) for value in texts)
    assert [item.value for item in inputs.parse_lines(text.split("\n"), TEXT).items] == texts


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for reader in (TEXT, ATTRIBUTES):
        with suppress(InputError):
            text = inputs.decode(data, "bytes")
            parsed = inputs.parse_lines(text.split("\n"), reader)
            assert len(parsed.items) + len(parsed.problems) + parsed.blank <= text.count("\n") + 1
            inputs.parse_csv(text, reader, "bytes")
