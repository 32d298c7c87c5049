"""What `edgelm tune` found for a bundle on this machine: written by that command alone, and never trusted blindly."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .bundle import Bundle
from .machine import cpu_name, isa_flags, usable_cores
from .ort import onnxruntime

FORMAT = 1
HOME_VARIABLE = "EDGELM_HOME"
_MAX_BYTES = 100_000
_EVERYONE_READS, _EVERYONE_ENTERS = 0o644, 0o755


@dataclass(frozen=True)
class Choice:
    """The fastest way to run a bundle that answered as its goldens say."""

    variant: str
    device: str
    threads: int


@dataclass(frozen=True)
class Recalled:
    """What is remembered; None with the reason in `notes` where there is something that does not count."""

    choice: Choice | None = None
    notes: tuple[str, ...] = ()


def home() -> Path:
    """The folder of the memory: $EDGELM_HOME, or the user's cache folder."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base or "~").expanduser() / "edgelm"


def file_for(bundle: Bundle) -> Path:
    """Where the memory of a bundle is: named after its manifest, which names every byte of it."""
    return home() / f"{bundle.sha256[:32]}.json"


def circumstances() -> dict[str, Any]:
    """What a choice holds for: this CPU, its flags, the cores that may be used, and this onnxruntime."""
    return {
        "cpu": cpu_name(),
        "isa": list(isa_flags()),
        "cores": usable_cores(),
        "onnxruntime": onnxruntime().__version__,
    }


def recall(bundle: Bundle) -> Recalled:
    """The choice for this bundle under these circumstances; a damaged or stale memory is ignored, and that is said."""
    try:
        path = file_for(bundle)
        data = _read(path)
    except (FileNotFoundError, RuntimeError):  # RuntimeError: there is no home folder
        return Recalled()
    except OSError as error:
        return Recalled(notes=(f"the memory of edgelm tune cannot be read: ignored ({path}: {error.strerror})",))
    try:
        known = json.loads(data.decode("utf-8"))
        found, choice = known["circumstances"], known["choice"]
        remembered = Choice(choice["variant"], choice["device"], choice["threads"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Recalled(notes=(f"the memory of edgelm tune is damaged: ignored ({path})",))
    if known.get("format") != FORMAT or not _sound(remembered):
        return Recalled(notes=(f"the memory of edgelm tune is damaged: ignored ({path})",))
    now = circumstances()
    changed = [name for name, value in now.items() if found.get(name) != value] if isinstance(found, dict) else ["all"]
    if changed:
        return Recalled(notes=(f"what edgelm tune found is stale ({', '.join(changed)} changed): ignored; tune again",))
    return Recalled(remembered)


def remember(bundle: Bundle, choice: Choice, measured: list[Mapping[str, Any]]) -> Path:
    """Write the choice, atomically, for every user of this machine: who tunes is rarely who answers.

    Raises OSError where the folder cannot be written, RuntimeError where there is no home folder.
    """
    path = file_for(bundle)
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(_EVERYONE_ENTERS)
    content = {
        "format": FORMAT,
        "bundle": bundle.manifest.name,
        "circumstances": circumstances(),
        "choice": asdict(choice),
        "measured": measured,
    }
    handle, name = tempfile.mkstemp(prefix=".tune-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, ensure_ascii=False, indent=2)
        Path(name).chmod(_EVERYONE_READS)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _read(path: Path) -> bytes:
    """The beginning of a plain file; a pipe or a device that lies there is never waited for. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return opened.read(_MAX_BYTES + 1)


def _sound(choice: Choice) -> bool:
    texts = isinstance(choice.variant, str) and isinstance(choice.device, str)
    return texts and type(choice.threads) is int and 1 <= choice.threads <= usable_cores()
