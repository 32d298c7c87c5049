"""A reader of pickles that runs nothing: a class becomes a record of its name, its arguments and its state.

Only the operations that plain data and arrays of numpy need are known, up to a number, and only names from a list. What
joblib writes is read, too: its arrays lie in the file as bytes behind a wrapper.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_runtime.errors import UnsupportedCheckpoint

MAX_BYTES = 64 << 20
_MAX_STEPS = 200_000  # a head of a thousand classes takes some hundred
_NUMBERS = re.compile(r"[fiub]\d{1,2}|U\d{1,4}|O8?")
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_ARRAYS = {
    "numpy.ndarray", "numpy.dtype", _WRAPPER,
    *(f"{place}.multiarray.{name}" for place in ("numpy.core", "numpy._core") for name in ("_reconstruct", "scalar")),
}  # fmt: skip
_STEPS = (
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1",
    "BININT2", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND",
    "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "MEMOIZE", "PUT", "BINPUT",
    "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD",
)  # fmt: skip
_Unpickler: Any = pickle._Unpickler  # the one in C reads ahead, over joblib's arrays


class Record:
    """What a pickle says of an object: the name of its class or function, the arguments, and the state."""

    name = ""

    def __new__(cls, *args: Any) -> Record:
        """A record of a call with these arguments."""
        made = super().__new__(cls)
        made.args, made.state = args, {}
        return made

    args: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the object."""
        return self.state.get(name, default) if isinstance(self.state, Mapping) else default


def read_records(data: bytes, names: set[str]) -> Any:
    """What a pickle, or a file that joblib wrote, holds; ``names`` are those that it may name beside numpy's arrays.

    Raises:
        UnsupportedCheckpoint: it names others, is broken, too large, or compressed.
    """
    if len(data) > MAX_BYTES:
        raise UnsupportedCheckpoint(f"it has {len(data):,} bytes; accepted are {MAX_BYTES:,}")
    if data[:1] != b"\x80" or data[1:2] < b"\x03":
        raise UnsupportedCheckpoint(
            "it is no pickle of protocol 3 or later, or a compressed one; save it with joblib.dump"
        )
    try:
        return _Reader(io.BytesIO(data), names | _ARRAYS).load()
    except UnsupportedCheckpoint:
        raise
    except Exception as error:  # broken bytes raise whatever the step at which they end does
        raise UnsupportedCheckpoint(f"it is broken ({type(error).__name__})") from error


class _Reader(_Unpickler):  # type: ignore[misc]  # it is Any
    def __init__(self, file: io.BytesIO, names: set[str], nested: bool = False) -> None:
        super().__init__(file)
        self._data, self._names, self._nested, self._steps = file, names, nested, 0

    def find_class(self, module: str, name: str) -> Any:
        """A record's class for a name of the list."""
        whole = f"{module}.{name}"
        if whole == "collections.OrderedDict" and whole in self._names:
            return _Ordered
        if whole not in self._names:
            raise UnsupportedCheckpoint(f"it asks for {whole[:120]!r}, which is not run and not known")
        return type("Record", (Record,), {"name": whole})

    def step(self, work: Callable[[Any], None]) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise UnsupportedCheckpoint(f"it takes more than {_MAX_STEPS:,} steps")
        work(self)

    def build(self) -> None:
        """State of an object; behind a wrapper of joblib's stands the array itself."""
        _Unpickler.load_build(self)
        made = self.stack[-1]
        if isinstance(made, Record) and made.name == _WRAPPER:
            self.stack[-1] = self._array(made)

    def put_item(self) -> None:
        """One entry of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._entries([key, value], dict)

    def put_items(self) -> None:
        """Entries of a dictionary."""
        self._entries(self.pop_mark(), dict)

    def add_items(self) -> None:
        """Members of a set."""
        self._entries(self.pop_mark(), set)

    def make_dict(self) -> None:
        """A dictionary of what stands since the mark."""
        items = self.pop_mark()
        self.stack.append({})
        self._entries(items, dict)

    def _entries(self, items: list[Any], kind: Any) -> None:
        """Keys are texts or numbers: the hash of nested tuples may take for ever."""
        into = self.stack[-1]
        keys = items[:: 2 if kind is dict else 1]
        if not isinstance(into, kind) or not all(isinstance(key, str | int | float | None) for key in keys):
            raise UnsupportedCheckpoint("it puts items into what holds none, or under a name that is none")
        into.update(zip(keys, items[1::2], strict=True) if kind is dict else keys)

    def _array(self, wrapper: Record) -> Any:
        kind = dtype_of(wrapper.get("dtype"))
        if kind.hasobject:
            if self._nested:
                raise UnsupportedCheckpoint("it has arrays in arrays")
            return _Reader(self._data, self._names, nested=True).load()
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._data.read(self._data.read(1)[0])
        shape = _shape_of(wrapper.get("shape"))
        array = _filled(self._data.read(prod(shape) * kind.itemsize), kind, shape, wrapper.get("order") == "F")
        return array.copy()


def _counted(work: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda reader: reader.step(work)


_OWN = {
    "BUILD": _Reader.build, "SETITEM": _Reader.put_item, "SETITEMS": _Reader.put_items, "ADDITEMS": _Reader.add_items,
    "DICT": _Reader.make_dict,
}  # fmt: skip
_CODES = {name: getattr(pickle, name)[0] for name in _STEPS}
_Reader.dispatch = {code: _counted(_OWN.get(name, _Unpickler.dispatch[code])) for name, code in _CODES.items()}


class _Ordered(dict[Any, Any]):
    def __init__(self, *args: Any) -> None:
        if args:
            raise UnsupportedCheckpoint("it makes a dictionary from items")
        super().__init__()


def _filled(data: Any, kind: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> NDArray[Any]:
    if not isinstance(data, bytes) or len(data) != prod(shape) * kind.itemsize:
        raise UnsupportedCheckpoint("it ends inside an array")
    array: NDArray[Any] = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
    return array


def dtype_of(record: Any) -> np.dtype[Any]:
    """The type of an array: numbers, texts of fixed length, or objects."""
    code = str(record.args[0]) if isinstance(record, Record) and record.args else ""
    if not _NUMBERS.fullmatch(code):
        raise UnsupportedCheckpoint(f"it has an array of {code[:20]!r}")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "|"
    return np.dtype(f"{order if order in ('<', '>') else '='}{code}" if code[0] != "O" else "O")


def _shape_of(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape):
        raise UnsupportedCheckpoint("it has an array without a shape")
    return shape


def array_of(value: Any) -> NDArray[Any]:
    """The array that a record stands for."""
    if isinstance(value, np.ndarray):
        return value
    state = value.state if isinstance(value, Record) and value.name.endswith("._reconstruct") else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise UnsupportedCheckpoint("it has something else where an array should be")
    shape, kind = _shape_of(state[1]), dtype_of(state[2])
    if kind.hasobject:
        if not isinstance(state[4], list) or len(state[4]) != prod(shape):
            raise UnsupportedCheckpoint("it ends inside an array")
        objects: NDArray[Any] = np.array([str(one) for one in state[4]]).reshape(shape)
        return objects
    return _filled(state[4], kind, shape, bool(state[3]))


def number_of(value: Any) -> Any:
    """A plain value, also where numpy has one for it."""
    if isinstance(value, Record) and value.name.endswith(".scalar") and len(value.args) == 2:
        return _filled(value.args[1], dtype_of(value.args[0]), (), False).item()
    return value
