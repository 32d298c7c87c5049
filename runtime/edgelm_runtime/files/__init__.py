"""Files of rows, as everything in edgelm reads them: .txt, .jsonl, .csv and .tsv, each also .gz. Standard library only.

A row that cannot be read becomes a `Problem` with its line, and the others stay usable; what makes the whole file
unusable (an encoding that is not known, no header) raises `InputError` with what mends it.
"""

from .content import KINDS, kind_of
from .encoding import decode
from .rows import Problem, Record, Rows
from .table import read_rows

__all__ = ["KINDS", "Problem", "Record", "Rows", "decode", "kind_of", "read_rows"]
