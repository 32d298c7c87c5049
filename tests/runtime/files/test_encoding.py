"""Bytes of a file to text: what is read, and what is refused with the command that mends it."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from edgelm_runtime.errors import InputError
from edgelm_runtime.files import decode, kind_of, read_rows
from edgelm_runtime.files.content import ALWAYS_UNPACKED

CHINESE = "物流很快，包装完好，会再来买"


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_encodings_are_read(encoding: str) -> None:
    assert decode(CHINESE.encode(encoding), "x") == CHINESE


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_the_mark_decides_the_order_of_bytes(encoding: str) -> None:
    assert decode(("\ufeff" + CHINESE).encode(encoding), "x") == CHINESE


def test_a_mark_that_was_added_twice_is_no_text() -> None:
    assert decode(b"\xef\xbb\xbf\xef\xbb\xbfgood", "x") == "good"


@pytest.mark.parametrize(
    ("data", "position", "line"),
    [(b"ok\ngut\xe9", 6, 2), (b"\xef\xbb\xbfok\n\xff", 6, 2), ("物流".encode("gb18030"), 0, 1)],
)
def test_what_is_not_utf8_is_refused_with_the_position(data: bytes, position: int, line: int) -> None:
    with pytest.raises(InputError, match=rf"a\.txt: not UTF-8 at byte {position} \(line {line}, "):
        decode(data, Path("a.txt"))


@pytest.mark.parametrize("name", ["reviews.csv", "our reviews.csv", "reviews.csv.gz", "it's.TXT"])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", f"text,label\n{CHINESE},好\n"),
        ("cp1252", "text,label\nCafé très bon,gut\n"),
        ("utf-16-le", "text,label\ngood,yes\n"),
        ("utf-16-be", "text,label\ngood,yes\n"),
    ],
)
@pytest.mark.skipif(shutil.which("iconv") is None, reason="this system has no iconv")
def test_the_command_that_is_named_mends_the_file(tmp_path: Path, name: str, encoding: str, text: str) -> None:
    data = text.encode(encoding)
    path = write(tmp_path, name, gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(InputError) as refused:
        read_rows(path)
    command = str(refused.value).partition("mends it: ")[2] or str(refused.value).partition("with: ")[2]
    subprocess.run(["bash", "-c", command.partition(" (or")[0]], check=True)
    (mended,) = [other for other in tmp_path.iterdir() if other != path]
    assert ".utf8." in mended.name
    assert mended.read_text("utf-8") == text


def test_a_few_broken_bytes_are_dropped_by_the_command() -> None:
    with pytest.raises(InputError, match=r"iconv -c -f UTF-8 -t UTF-8 a\.txt > a\.utf8\.txt"):
        decode(CHINESE.encode() * 9 + b"\xe7\n", Path("a.txt"))


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xff\xfe\x00\xd8", b"\xfe\xff\x00"])
def test_broken_utf16_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.txt: not UTF-16 at byte "):
        decode(data, Path("a.txt"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", ".csv"), ("A.CSV", ".csv"), ("a.Jsonl.GZ", ".jsonl"), ("a.b.tsv", ".tsv"), ("a.txt.gz", ".txt")],
)
def test_kinds_are_known_in_any_case(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", r"a workbook \(\.xlsx\) cannot be read; .* save it as CSV UTF-8"),
        ("a.parquet", r"kind '\.parquet'; accepted are \.txt, \.jsonl, \.csv, \.tsv, each also \.gz"),
        ("a.gz", r"kind '\.gz'"),
        ("a", "without a suffix"),
    ],
)
def test_other_kinds_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind_of(Path(name))


def test_packed_files_are_known_by_their_content(tmp_path: Path) -> None:
    data = gzip.compress(b"good\n") + gzip.compress(b"bad\n")
    for name in ("a.txt.gz", "b.txt"):
        assert [record.value for record in read_rows(write(tmp_path, name, data)).records] == ["good", "bad"]
    with pytest.raises(InputError, match="a workbook or another zip file"):
        read_rows(write(tmp_path, "c.csv", b"PK\x03\x04rest"))


@pytest.mark.parametrize("cut", [slice(None, -9), slice(None, 10), slice(3, None)])
def test_a_broken_package_is_refused(tmp_path: Path, cut: slice) -> None:
    with pytest.raises(InputError, match=r"a\.txt\.gz: cannot be read"):
        read_rows(write(tmp_path, "a.txt.gz", gzip.compress(b"text" * 99)[cut]))


def test_a_package_of_nothing_but_repetition_is_refused_before_memory_is_full(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt.gz", gzip.compress(bytes(ALWAYS_UNPACKED + 1), compresslevel=1))
    with pytest.raises(InputError, match=r"unpacks to more than .* which text does not"):
        read_rows(path)


def test_a_file_larger_than_memory_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match=r"has 1,099,511,627,776 bytes, at most"):
        read_rows(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read \\(No such file"):
        read_rows(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "folder.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_rows(tmp_path / "folder")
