"""Open and write bundles: every byte is checked before a parser sees it, and a bundle on disk is whole or absent."""

from __future__ import annotations

import glob
import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from . import plain
from .errors import BundleNotFound, BundleRejected, ExportError
from .exchange import exchange
from .fields import MANIFEST_NAME, check_path
from .manifest import MAX_MANIFEST_BYTES, FileEntry, Manifest

Content = bytes | Path | Sequence[bytes | BinaryIO]

_SHIPPED = Path(__file__).parent / "bundles"
_CHUNK = 1 << 20
MAX_READ_BYTES = 2 << 30  # of a file that is read as a whole; protocol buffers end there


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its checked manifest."""

    path: Path
    manifest: Manifest

    @property
    def sha256(self) -> str:
        """Of the manifest, which names every byte of the bundle."""
        return hashlib.sha256(self.manifest.to_json().encode("utf-8")).hexdigest()

    @property
    def shipped(self) -> bool:
        """Whether it is one of those in this package: who can write there can write code."""
        return self.path.parent == _SHIPPED

    def read(self, name: str, most: int = MAX_READ_BYTES) -> bytes:
        """Read a file that the manifest names, once, and return the very bytes whose sha256 was checked.

        Raises BundleRejected when the name is not in the manifest, it has more than `most` bytes, or size, sha256 or
        kind of file do not match.
        """
        entry = self._entry(name)
        if entry.size > most:
            raise _mismatch(name, f"at most {most:,} bytes", f"{entry.size:,} bytes")
        with _opened(self.path, name) as descriptor:
            _check_size(name, entry, descriptor)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(entry.size + 1)
        self._compare(name, entry, len(data), hashlib.sha256(data).hexdigest())
        return data

    def map(self, name: str) -> mmap.mmap:
        """Map a file that the manifest names into memory, read-only, after its sha256 was checked in that memory.

        For what is too large to be copied. Raises BundleRejected like `read`.
        """
        entry = self._entry(name)
        with _opened(self.path, name) as descriptor:
            if _check_size(name, entry, descriptor) == 0:
                raise _mismatch(name, "a file that is not empty", "0 bytes")
            memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self._compare(name, entry, len(memory), hashlib.sha256(memory).hexdigest())
        return memory

    def verify_hashes(self) -> None:
        """Hash every file of the manifest in constant memory; raises BundleRejected at the first that differs."""
        for name, entry in self.manifest.files.items():
            size, digest = 0, hashlib.sha256()
            with _opened(self.path, name) as descriptor:
                _check_size(name, entry, descriptor)
                while size <= entry.size and (chunk := os.read(descriptor, _CHUNK)):
                    digest.update(chunk)
                    size += len(chunk)
            self._compare(name, entry, size, digest.hexdigest())

    def check_files(self) -> None:
        """Every file of the manifest is there, a plain file of the right size, with no symlink on the way."""
        for name, entry in self.manifest.files.items():
            try:
                size = plain.status(self.path, name).st_size
            except OSError as error:
                raise _unusable(name, error) from error
            if size != entry.size:
                raise _mismatch(name, f"{entry.size:,} bytes", f"{size:,} bytes")

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            listed = ", ".join(sorted(self.manifest.files))
            raise BundleRejected(
                f"{name!r} is not in the manifest of {self.path}; it lists {listed}", what=name, expected=listed
            )
        return entry

    @staticmethod
    def _compare(name: str, entry: FileEntry, size: int, digest: str) -> None:
        if size != entry.size:
            raise _mismatch(name, f"{entry.size:,} bytes", f"{size:,} bytes or more")
        if digest != entry.sha256:
            raise _mismatch(name, f"sha256 {entry.sha256}", f"sha256 {digest}")


def open_bundle(path: str | os.PathLike[str], *, verify: str = "all") -> Bundle:
    """Open the bundle in the folder `path`.

    `verify="all"` hashes every file now; `verify="lazy"` checks kinds and sizes now, and each `read` checks the hash of
    what it returns. Raises BundleNotFound when there is no bundle, BundleRejected when there is and something is wrong.
    """
    if verify not in ("all", "lazy"):
        raise ValueError(f"verify is {verify!r}, accepted are 'all' and 'lazy'")
    folder = Path(path)
    bundle = Bundle(folder, Manifest.from_bytes(_read_manifest(folder)))
    bundle.check_files()
    if verify == "all":
        bundle.verify_hashes()
    return bundle


def default_bundles() -> dict[str, Path]:
    """Folders of the bundles shipped with this package, by name, sorted."""
    return bundles_in(_SHIPPED)


def bundles_in(folder: Path) -> dict[str, Path]:
    """Folders inside `folder` that hold a manifest, by name, sorted; hidden ones are leftovers of killed writers."""
    if not folder.is_dir():
        return {}
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return {name: folder / name for name in names if (folder / name / MANIFEST_NAME).is_file()}


def write_bundle(
    target: str | os.PathLike[str],
    manifest: Manifest,
    contents: Mapping[str, Content],
    force: bool = False,
) -> Bundle:
    """Write a bundle atomically and return it opened.

    `contents` are the files by name, as bytes, as a file to copy, or as a sequence of bytes and open files; their
    entries replace `manifest.files`, and a variant of size 0 gets the size of its files. An existing target is refused
    unless `force`, which replaces a bundle or an empty folder, nothing else. Whatever stops it, a full disk or a kill,
    no half bundle stays under `target`.
    Raises ExportError when it cannot be written, BundleRejected when the manifest would not be accepted back.
    """
    folder = Path(target).absolute()
    _check_target(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(folder) as temporary:
            files = {name: _write_file(temporary, check_path(name), source) for name, source in contents.items()}
            data = _completed(manifest, files).to_json().encode("utf-8")
            Manifest.from_bytes(data)
            _write_new(temporary / MANIFEST_NAME, data)
            _sync_folders(temporary)
            _replace(temporary, folder)
    except OSError as error:
        raise ExportError(
            f"the bundle {folder} was not written: {error}; free some space, or choose another folder"
        ) from error
    return open_bundle(folder, verify="lazy")


def _mismatch(name: str, expected: str, found: str) -> BundleRejected:
    return BundleRejected(
        f"{name} does not match the manifest: expected {expected}, found {found}; copy or export the bundle again",
        what=name,
        expected=expected,
        found=found,
    )


def _read_manifest(folder: Path) -> bytes:
    if not os.path.lexists(folder / MANIFEST_NAME):
        why = f"the folder has no {MANIFEST_NAME}" if folder.is_dir() else "there is no such folder"
        if left := _left_aside(folder):
            why += f", and {left} is what an interrupted --force left of it: rename it back"
        raise BundleNotFound(
            f"there is no bundle at {folder}: {why}; give the path of a folder that `edgelm export` wrote"
        )
    try:
        return plain.read_plain(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise _unusable(MANIFEST_NAME, error) from error


def _left_aside(folder: Path) -> Path | None:
    """The old bundle where the process that replaced it was ended between two renames."""
    found = sorted(folder.absolute().parent.glob(f".{glob.escape(folder.name)}.old-*"))
    return next((path for path in found if (path / MANIFEST_NAME).is_file()), None)


def _unusable(name: str, error: OSError) -> BundleRejected:
    why = str(error.strerror)
    return BundleRejected(
        f"{name} of the bundle is refused: {why}; copy or export the bundle again",
        what=name,
        expected="a plain file inside the bundle's folder",
        found=why,
    )


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    """File descriptor of a plain file inside the bundle; what goes wrong while reading is a BundleRejected too."""
    try:
        with plain.opened(folder, name) as descriptor:
            yield descriptor
    except OSError as error:
        raise _unusable(name, error) from error


def _check_size(name: str, entry: FileEntry, descriptor: int) -> int:
    """The size of an open file, which is compared before anything of it is read."""
    size = os.fstat(descriptor).st_size
    if size != entry.size:
        raise _mismatch(name, f"{entry.size:,} bytes", f"{size:,} bytes")
    return size


def _check_target(folder: Path, force: bool) -> None:
    if not os.path.lexists(folder):
        return
    if not force:
        raise ExportError(f"{folder} exists already; choose another folder, or give --force to replace it")
    ours = folder.is_dir() and not folder.is_symlink()
    if not ours or (any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file()):
        raise ExportError(f"{folder} is not a bundle, and --force replaces only a bundle; choose another folder")


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """A hidden sibling of `folder`, on the same disk; removed with all it holds where the block does not rename it."""
    from .leftovers import temporary

    with temporary(folder.parent, f".{folder.name}.tmp-", is_folder=True) as path:
        yield path


def _write_file(folder: Path, name: str, source: Content) -> FileEntry:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with target.open("xb") as writer:
        for chunk in _chunks(source):
            digest.update(chunk)
            size += writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(size, digest.hexdigest())


def _chunks(source: Content) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, Path):
        with source.open("rb") as reader:
            yield from _read_on(reader)
    else:
        for part in source:
            if isinstance(part, bytes):
                yield part
            else:
                part.seek(0)
                yield from _read_on(part)


def _read_on(reader: BinaryIO) -> Iterator[bytes]:
    while chunk := reader.read(_CHUNK):
        yield chunk


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as writer:
        writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())


def _completed(manifest: Manifest, files: dict[str, FileEntry]) -> Manifest:
    variants = tuple(
        replace(variant, size=sum(files[name].size for name in variant.files))
        if variant.size == 0 and set(variant.files) <= set(files)
        else variant
        for variant in manifest.variants
    )
    return replace(manifest, files=files, variants=variants)


def _sync_folders(folder: Path) -> None:
    for current, _, _ in os.walk(folder):
        _sync_folder(Path(current))


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable; Windows has no descriptor for a folder and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`; an old bundle changes places with it, or else steps aside and may come back."""
    import shutil

    temporary.chmod(0o755)
    if not folder.is_dir():
        temporary.rename(folder)
        _sync_folder(folder.parent)
        return
    old = temporary
    if not exchange(temporary, folder):
        old = temporary.with_name(temporary.name.replace(".tmp-", ".old-"))
        folder.rename(old)
        try:
            temporary.rename(folder)
        except BaseException:
            if not folder.exists():
                old.rename(folder)
            raise
    _sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
