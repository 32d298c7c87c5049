"""Files that are whole or absent."""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import click

from edgelm_runtime.errors import InputError
from edgelm_runtime.leftovers import temporary


def new_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The callback of an option: refuse, before any work, a file that could not be written. Raises BadParameter."""
    if path is None:
        return None
    if path.is_dir():
        raise click.BadParameter(f"{path} is a folder; name a file", context, option)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise click.BadParameter(f"{path}: there is no folder {folder}; make it, or name another file", context, option)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return path
    except OSError as error:
        raise click.BadParameter(
            f"{path}: the folder {folder} cannot be written ({error.strerror}); name another file", context, option
        ) from error


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a file was written; ``kept`` is where its first part is, None where there was none yet."""

    def __init__(self, kept: Path | None) -> None:
        super().__init__()
        self.kept = kept


@contextmanager
def atomic_text_file(path: Path, *, add_bom: bool = False, keep_partial: bool = False) -> Iterator[TextIO]:
    """A UTF-8 file that appears under its name only when it is complete; on any exception nothing is left.

    What a killed process left of such a file is removed. With ``keep_partial`` Ctrl-C keeps what was written under the
    name that ``partial_name`` gives, and raises Interrupted.

    Raises:
        InputError: the folder cannot be written.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        try:
            unfinished = stack.enter_context(temporary(path.absolute().parent, f".{path.name}.", ".tmp"))
        except OSError as error:
            raise InputError(f"{path}: cannot be written there ({error.strerror}); name another file") from error
        encoding = "utf-8-sig" if add_bom else "utf-8"
        with unfinished.open("w", encoding=encoding, errors="backslashreplace", newline="") as stream:
            try:
                yield stream
            except KeyboardInterrupt:
                if not keep_partial:
                    raise
                _finish(stream)
                written = unfinished.stat().st_size > len(codecs.BOM_UTF8) * add_bom
                if written:
                    unfinished.chmod(0o666 & ~_umask())
                    unfinished.replace(partial_name(path))
                raise Interrupted(partial_name(path) if written else None) from None
            _finish(stream)
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)


def partial_name(path: Path) -> Path:
    """Where the first part of a file is kept when its writing was interrupted: answers.partial.csv."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def _finish(stream: TextIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
