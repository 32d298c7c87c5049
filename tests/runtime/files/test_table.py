"""Tables of any writer: what comes back, and what is refused by its line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.errors import InputError
from edgelm_runtime.files import read_rows
from edgelm_runtime.files.table import parse_table


def values(text: str) -> list[dict[str, str]]:
    """The rows of a table that has no problem."""
    rows = parse_table(text, "t")
    assert rows.problems == ()
    return [dict(record.value) for record in rows.records]  # type: ignore[arg-type]


def refused(text: str) -> dict[int | None, str]:
    return {problem.line: problem.message for problem in parse_table(text, "t").problems}


ROWS = [{"text": "good, nice", "label": "positive"}, {"text": "bad", "label": "negative"}]


@pytest.mark.parametrize(
    "text",
    [
        'text,label\n"good, nice",positive\nbad,negative\n',
        "text;label\ngood, nice;positive\nbad;negative\n",
        "text\tlabel\r\ngood, nice\tpositive\r\nbad\tnegative\r\n",
        'text,label\r"good, nice",positive\rbad,negative\r',
        'sep=;\r\ntext;label\r\n"good, nice";positive\r\nbad;negative',
        '\ufefftext , label \n"good, nice",positive\nbad,negative\n',
        'text, label\n"good, nice", positive\nbad, negative\n',
        '"text","label"\n"good, nice","positive"\n"bad","negative"\n',
        'text,label,,\r\n"good, nice",positive,,\r\nbad,negative,,\r\n,,,\r\n,,,\r\n',
        'text,label\n\n"good, nice",positive\n\n \nbad,negative\n,\n',
        '\n,\ntext,label\n"good, nice",positive,\nbad,negative\n',
        'ｔｅｘｔ,label\u3000\n"good, nice",positive\nbad,negative\n',
    ],
)
def test_tables_as_people_and_spreadsheets_write_them(text: str) -> None:
    assert values(text) == ROWS


def test_a_comma_is_no_separator_where_semicolons_make_more_columns() -> None:
    assert values("id;price;text\n1;2,50;a, b\n") == [{"id": "1", "price": "2,50", "text": "a, b"}]


def test_rows_decide_where_the_header_does_not() -> None:
    assert values("text; long,label\nx;y,a\nz,b\n")[1] == {"text; long": "z", "label": "b"}
    assert values("text, long;label\nx,y;a\nz;b\n")[1] == {"text, long": "z", "label": "b"}


def test_lines_are_those_on_which_rows_begin() -> None:
    rows = parse_table('id,text\n1,"two\nlines"\n2,"say ""hi"", ok"\n\n3,last\n', "t")
    assert [(record.line, record.value["text"]) for record in rows.records] == [  # type: ignore[index]
        (2, "two\nlines"),
        (4, 'say "hi", ok'),
        (6, "last"),
    ]
    assert rows.blank == 1


def test_an_unquoted_comma_is_refused_by_its_line() -> None:
    text = "text,label\nIt is great, fits well,positive\nbad,negative\nshort\n"
    assert refused(text) == {
        2: "3 fields where the header has 2; a field that holds commas must stand in quotes",
        4: "1 field where the header has 2",
    }
    assert len(parse_table(text, "t").records) == 1
    assert "must stand in quotes" in refused("text\nIt is great, fits well\n")[2]


@pytest.mark.parametrize(
    ("first", "others", "line"),
    [
        ('"great shoes,positive', ["a,negative", "b,positive", "c,negative"], 2),  # to the end of the file
        ('"great shoes,positive', ["a,negative", '"fits, well",positive', "c,negative"], 2),  # to the next quote
        ('"great shoes,positive', ["a,negative", 'size 5",positive', "c,negative"], 2),  # to a quote that would close
        ('great shoes,"positive', ["a,negative", "b,positive", "c,negative"], 2),
        ('"great" shoes,positive', ["a,negative", "b,positive"], 2),
    ],
)
def test_a_quote_that_is_not_closed_costs_its_own_row(first: str, others: list[str], line: int) -> None:
    rows = parse_table("\n".join(["text,label", first, *others, ""]), "t")
    assert [problem.line for problem in rows.problems] == [line]
    assert "quote" in rows.problems[0].message
    assert [record.line for record in rows.records] == list(range(line + 1, line + 1 + len(others)))


def test_a_text_of_several_lines_with_commas_is_one_row() -> None:
    rows = [{"text": "great, really\nwould buy", "label": "positive"}, {"text": "bad", "label": "negative"}]
    assert values('text,label\n"great, really\nwould buy",positive\nbad,negative\n') == rows
    assert values('id,text\n1,"great\nbut, hmm"\n2,bad\n')[0] == {"id": "1", "text": "great\nbut, hmm"}


def test_a_quote_inside_a_text_is_text() -> None:
    assert values('text,label\n5" screen,positive\n') == [{"text": '5" screen', "label": "positive"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a header line"),
        ("\n , ,\n", "a header line"),
        ("text,text\na,b\n", "names 'text' twice"),
        ("text,text \na,b\n", "names 'text' twice"),
    ],
)
def test_a_table_without_a_usable_header_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_table(text, "t")


def test_columns_without_a_name_have_a_number() -> None:
    assert values(",text\n0,good\n") == [{"column 1": "0", "text": "good"}]


def test_fields_are_as_long_as_they_are_and_the_limit_of_the_process_comes_back() -> None:
    before = csv.field_size_limit(131_072)
    long = "x" * 1_000_000
    assert values(f"text,label\n{long},1\n") == [{"text": long, "label": "1"}]
    assert csv.field_size_limit(before) == 131_072


def test_a_hundred_thousand_broken_rows_take_no_more_than_linear_time() -> None:
    broken = ['"a" b,1', '"open', 'a,"b"c', "x,y,z", '"""', 'x,""y'] * 16_000
    rows = parse_table("\n".join(["text,label", *broken]), "t")
    assert len(rows.entries) > 60_000


def test_a_tsv_has_tabs_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\ngood, nice\n", "utf-8")
    assert read_rows(path).records[0].value == {"text": "good, nice"}


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")
FIELDS = st.lists(st.lists(st.text(LETTERS, max_size=6), min_size=3, max_size=3), max_size=8)


@given(
    rows=FIELDS,
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    packed=st.booleans(),
)
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    delimiter: str,
    quoting: int,
    encoding: str,
    packed: bool,
) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=quoting).writerows([["a", "b", "c"], *rows])  # type: ignore[arg-type]
    data = stream.getvalue().encode(encoding)
    path = tmp_path_factory.mktemp("written") / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    found = read_rows(path)
    assert found.columns == ("a", "b", "c")
    expected = [dict(zip("abc", row, strict=True)) for row in rows if any(field.strip() for field in row)]
    assert [record.value for record in found.records] == expected
    assert found.problems == ()


@given(st.text(st.sampled_from('ab",;\t\n\r 1'), max_size=60))
def test_any_table_is_read_or_refused_and_every_line_is_told_once(text: str) -> None:
    try:
        rows = parse_table(text, "t")
    except InputError:
        return
    lines = [entry.line for entry in rows.entries]
    assert all(line is not None for line in lines)
    assert lines == sorted(set(lines))  # type: ignore[type-var]
    for record in rows.records:
        assert set(record.value) == set(rows.columns)
