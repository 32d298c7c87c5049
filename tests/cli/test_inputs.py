"""Reading inputs: what is taken, what is named as a problem, what is refused as a whole."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm import inputs
from edgelm.inputs import Item, Reader
from edgelm_runtime.errors import InputError
from edgelm_runtime.files import decode
from edgelm_runtime.files.lines import parse_lines
from edgelm_runtime.files.table import parse_table

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


def test_jsonl_takes_strings_and_the_column(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '"plain"\n{"text": "field", "id": 1}\n')
    assert inputs.read_file(path, TEXT).items == (Item("plain", 1), Item("field", 2, {"id": 1}))


def test_broken_lines_of_jsonl_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    lines = ['{"text": "good"}', "{broken", "[1]", '{"review": "x"}', '{"text": 5}', '{"text": {"a": "b"}}', "null"]
    read = inputs.read_file(write(tmp_path, "a.jsonl", "\n".join([*lines, "[" * 100_000, '"end"'])), TEXT)
    assert read.items == (Item("good", 1), Item("end", 9))
    assert [problem.line for problem in read.problems] == [2, 3, 4, 5, 6, 7, 8]
    assert "'review'" in read.problems[2].message


def test_csv_without_the_column_names_those_found(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "id,review\n1,good\n")
    with pytest.raises(InputError, match=r"no column 'text'; found are 'id', 'review'; .*--column"):
        inputs.read_file(path, TEXT)
    read = inputs.read_file(path, Reader("review"))
    assert (read.items, read.columns) == ((Item("good", 2, {"id": "1"}),), ("id",))


def test_csv_rows_of_another_width_are_named(tmp_path: Path) -> None:
    read = inputs.read_file(write(tmp_path, "a.csv", "id,text\n1\n2,good\n3,a,b\n"), TEXT)
    assert read.items == (Item("good", 3, {"id": "2"}),)
    assert [problem.line for problem in read.problems] == [2, 4]


def test_description_reads_attributes_or_the_whole_row(tmp_path: Path) -> None:
    column = write(tmp_path, "a.csv", "id,attributes\n1,类型#裙*颜色#白色\n")
    assert inputs.read_file(column, ATTRIBUTES).items == (Item("类型#裙*颜色#白色", 2, {"id": "1"}),)
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
        ("a.xlsx", "x", r"a workbook \(\.xlsx\) cannot be read"),
    ],
)
def test_files_with_nothing_usable_are_refused(tmp_path: Path, name: str, data: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inputs.read_file(write(tmp_path, name, data), TEXT)


def test_an_argument_that_is_not_utf8_is_refused_with_the_position() -> None:
    assert inputs.argument("好 🙂 \ud800") == Item("好 🙂 \ud800")  # not from bytes: for the model to judge
    with pytest.raises(InputError, match=r"not UTF-8 at byte 4 \(value 0xe9\)"):
        inputs.argument(b"\xe5\xa5\xbd \xe9".decode("utf-8", "surrogateescape"))


@given(st.lists(st.text(), max_size=8))
def test_any_text_survives_jsonl(texts: list[str]) -> None:
    text = "\n".join(json.dumps({"text": value}) for value in texts)
    rows = parse_lines(text, is_json=True)
    assert [TEXT.item(record.value, record.line).value for record in rows.records] == texts


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(InputError):
        text = decode(data, "bytes")
        parsed = parse_lines(text, is_json=True)
        assert len(parsed.entries) + parsed.blank <= text.count("\n") + text.count("\r") + 1
        parse_table(text, "bytes")
