"""Where a checkpoint comes from: a folder, the hub, an adapter with its base, or pickles that the user trusts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgelm_export.checkpoint import adapters, hub, pickles, setfit
from edgelm_export.checkpoint.config import readable_folder
from edgelm_runtime.errors import UnsupportedCheckpoint


@dataclass(frozen=True)
class Origin:
    """What the user names, and what may be done with it.

    ``place`` is a folder, or ORGANISATION/NAME on the hub. ``base`` is the same for the model that an adapter is merged
    into, where the adapter does not name one that is there.
    """

    place: Path
    base: Path | None = None
    allow_pickle: bool = False

    @property
    def name(self) -> str:
        """What to call it: the folder's own name, or the name on the hub."""
        return self.place.resolve().name if self.place.exists() else self.place.as_posix()


@dataclass(frozen=True)
class Opened:
    """A folder with configuration, safetensors and tokenizer, and how it came about."""

    folder: Path
    how: str


@contextmanager
def opened(origin: Origin, scratch: Path) -> Iterator[Opened]:
    """The checkpoint as a folder to read; what has to be written for it lies in ``scratch`` until the end.

    Raises:
        UnsupportedCheckpoint: it cannot be found, fetched, merged or read without running code.
    """
    folder = readable_folder(_located(origin.place, origin))
    how = "a folder" if folder == origin.place else "of the hub"
    adapter = adapters.is_adapter(folder)
    pickled = origin.allow_pickle and pickles.is_pickled(folder)
    headed = origin.allow_pickle and setfit.has_head(folder)
    if origin.base is not None and not adapter:
        raise UnsupportedCheckpoint(f"{folder} is no adapter (no {adapters.CONFIG}); leave out --base")
    if not (adapter or pickled or headed):
        yield Opened(folder, how)
        return
    with _folder_in(scratch) as temporary:
        # The name stays: it is what errors and the manifest say.
        into = Path(temporary) / origin.place.resolve().name
        if pickled or headed:
            copy = pickles.unpickle(folder, into)
            if headed:
                setfit.add_head(folder, copy)
            yield Opened(copy, f"{how}, {'its classifier' if headed else 'its pickles'} read as tensors")
        else:
            yield _merged(origin, folder, into)


def _merged(origin: Origin, folder: Path, into: Path) -> Opened:
    adapter = adapters.read_adapter(folder, allow_pickle=origin.allow_pickle)
    base = _base(origin, adapter)
    if origin.allow_pickle and pickles.is_pickled(base):
        base = pickles.unpickle(base, into.parent / "base" / base.name)
    merged = adapters.merge(adapter, base, into)
    return Opened(merged, f"an adapter ({adapter.kind}), merged into {base.name}")


def _base(origin: Origin, adapter: adapters.Adapter) -> Path:
    if origin.base is None and not adapter.base:
        raise UnsupportedCheckpoint(f"{adapter.folder} is an adapter that names no base; name it with --base DIR")
    named = origin.base or adapter.local_base or Path(adapter.base)
    try:
        return readable_folder(_located(named, origin))
    except UnsupportedCheckpoint as error:
        raise UnsupportedCheckpoint(
            f"{adapter.folder} is an adapter, and its base {str(named)!r} cannot be had ({error}); "
            "name the model that it was trained on with --base DIR"
        ) from error


def _located(place: Path, origin: Origin) -> Path:
    """The folder itself, or the hub's under that name where no folder can be meant."""
    if place.exists() or place.is_absolute() or len(place.parts) != 2 or Path(place.parts[0]).exists():
        return place
    return hub.download(place.as_posix(), allow_pickle=origin.allow_pickle)


def _folder_in(scratch: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".edgelm-source-", dir=scratch)
    except OSError as error:
        raise UnsupportedCheckpoint(f"{scratch}: the checkpoint cannot be prepared there ({error})") from error
