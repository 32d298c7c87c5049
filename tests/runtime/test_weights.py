"""Weights in a file of their own: what is read, what is refused, and what onnxruntime is given."""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.bundle import Bundle, open_bundle
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.manifest import FileEntry
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.weights import Weights

DATA = Path(__file__).parents[1] / "data"
GRAPH = (DATA / "external.onnx").read_bytes()  # one tensor outside: weights, float32 [2], added to input


def memory(data: bytes) -> mmap.mmap:
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = data
    return mapped


def file(header: Any, numbers: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def weights(header: Any, numbers: bytes = bytes(8)) -> Weights:
    return Weights("model.safetensors", memory(file(header, numbers)))


def test_tensors_are_read_where_they_lie() -> None:
    numbers = np.array([1.5, -2.0], np.float32).tobytes() + np.arange(6, dtype=np.uint8).tobytes()
    found = weights({"__metadata__": {"a": "b"}, "weights": entry(), "t": entry("U8", (2, 3), (8, 14))}, numbers)
    np.testing.assert_array_equal(found.arrays["weights"], [1.5, -2.0])
    np.testing.assert_array_equal(found.arrays["t"], [[0, 1, 2], [3, 4, 5]])
    assert found.arrays["weights"].dtype == np.float32
    assert list(found.arrays) == ["weights", "t"]


def test_half_precision_is_read() -> None:
    numbers = np.array([1.5, -2.0], np.float16).tobytes()
    found = weights({"weights": entry("F16", (2,), (0, 4))}, numbers)
    np.testing.assert_array_equal(found.arrays["weights"], np.array([1.5, -2.0], np.float16))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"{", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        ([1], "no object"),
        ({"w": 1}, "not understood"),
        ({"w": {"dtype": "F32", "shape": [2]}}, "not understood"),
        ({"weights": entry("F8")}, "not understood"),
        ({"weights": entry([])}, "not understood"),
        ({"weights": entry(offsets=(0, 8, 9))}, "not understood"),
        ({"weights": entry(shape=(3,))}, "does not fit"),
        ({"weights": entry(shape=(-1, -2))}, "does not fit"),
        ({"weights": entry(shape=(2.0,))}, "does not fit"),
        ({"weights": entry(shape=(True, 2))}, "does not fit"),
        ({"weights": entry(offsets=(4, 12))}, "does not fit"),
        ({"weights": entry(offsets=(-8, 0))}, "does not fit"),
        ({"weights": entry(shape=(1 << 40, 1 << 40), offsets=(0, 1 << 82))}, "does not fit"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: Any, why: str) -> None:
    with pytest.raises(BundleRejected, match=why):
        weights(header)


@pytest.mark.parametrize(
    "shape", [[1] * 65, [10**4000] * 200, [10**4000, 0], [0, 1 << 70], [True], "ab", [1 << 60] * 15, {"a": 1}]
)
def test_no_shape_costs_time_or_is_too_much_for_numpy(shape: Any) -> None:
    with pytest.raises(BundleRejected, match="which does not fit") as caught:
        weights({"t": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}})
    assert len(str(caught.value)) < 600


def test_a_tensor_of_nothing_at_the_end_is_read() -> None:
    assert weights({"t": entry(shape=(3, 0), offsets=(8, 8))}).arrays["t"].shape == (3, 0)


def test_a_header_longer_than_the_file_or_the_limit_is_refused() -> None:
    for data in (b"1234", (1 << 60).to_bytes(8, "little") + b"{}", file(b" " * ((1 << 20) + 1))):
        with pytest.raises(BundleRejected, match="a header of"):
            Weights("w", memory(data))


def sizes(data: bytes) -> list[int]:
    """Bytes of every tensor that is read; none where the file is refused."""
    try:
        return [array.nbytes for array in Weights("w", memory(data)).arrays.values()]
    except BundleRejected:
        return []


NUMBERS = st.integers(-4, 40) | st.integers() | st.booleans() | st.floats() | st.none()
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "I64", "BF16"]),
        "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | NUMBERS,
    }
)


@given(st.binary(min_size=1, max_size=200), st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3))
def test_whatever_the_bytes_are_no_tensor_is_larger_than_its_file(data: bytes, header: dict[str, Any]) -> None:
    for whole in (data, file(data), file(header, data)):
        assert all(0 <= size <= len(whole) for size in sizes(whole))


def test_onnxruntime_reads_them_from_memory_also_after_the_pages_went_back(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(file({"weights": entry()}, np.array([1.5, -2.0], np.float32).tobytes()))
    with path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    session = create_session(GRAPH, SessionOptions(1), weights=Weights("w", mapped))
    path.unlink()
    np.testing.assert_array_equal(run(session, {"input": np.zeros(2, np.float32)}, ["output"])[0], [1.5, -2.0])


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"other": entry()},
        {"weights": entry(shape=(1, 2))},
        {"weights": entry("I32")},
        {"weights": entry(shape=(1,), offsets=(0, 4))},
    ],
)
def test_tensors_that_the_graph_does_not_have_so_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises(BundleRejected, match=r"refuses the graph|the graph has"):
        create_session(GRAPH, SessionOptions(1), weights=weights(header))


def bundle_with(folder: Path, data: bytes, listed: bytes) -> Bundle:
    (folder / "w.bin").write_bytes(data)
    manifest = open_bundle(DATA / "tiny-classifier").manifest
    entry_of = FileEntry(len(listed), hashlib.sha256(listed).hexdigest())
    return Bundle(folder, replace(manifest, files={**manifest.files, "w.bin": entry_of}))


def test_a_file_is_mapped_as_it_was_hashed(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, b"abc", b"abc")
    mapped = bundle.map("w.bin")
    (tmp_path / "other").write_bytes(b"xyz")
    (tmp_path / "other").replace(tmp_path / "w.bin")
    assert mapped[:] == b"abc"


@pytest.mark.parametrize("data", [b"abd", b"ab", b"abcd", b""])
def test_a_file_that_differs_is_not_mapped(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleRejected, match="does not match the manifest"):
        bundle_with(tmp_path, data, b"abc").map("w.bin")


def test_a_link_is_not_mapped(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, b"abc", b"abc")
    (tmp_path / "w.bin").rename(tmp_path / "real")
    (tmp_path / "w.bin").symlink_to(tmp_path / "real")
    with pytest.raises(BundleRejected, match="symlink"):
        bundle.map("w.bin")
