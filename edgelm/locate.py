"""From what a person types, a folder, a bundle's name or a task, to bundles."""

from __future__ import annotations

from pathlib import Path

from edgelm_runtime.bundle import default_bundles, open_bundle
from edgelm_runtime.errors import BundleNotFound, InputError
from edgelm_runtime.tasks import TASKS


def bundles_of(name: str) -> list[Path]:
    """The folders meant by a task, the name of a default bundle, or a path; a task wins over
    a folder of that name, which is written "./NAME".

    Raises:
        BundleNotFound: none of the three; the default bundles are named.
    """
    shipped = default_bundles()
    if name in TASKS:
        found = [path for path in shipped.values() if name in open_bundle(path, verify="lazy").manifest.serves]
        if not found:
            raise BundleNotFound(
                f"no default bundle ({', '.join(shipped) or 'none is installed'}) serves {name}; give the folder of one"
            )
    elif name in shipped:
        found = [shipped[name]]
    else:
        found = [Path(name)] if Path(name).exists() else []
    if not found:
        raise BundleNotFound(
            f"no bundle {name!r}; give a folder, a task ({', '.join(TASKS)}), "
            f"or a default bundle ({', '.join(shipped) or 'none is installed'})"
        )
    return found


def folder_of(name: str) -> Path:
    """The one folder meant by `name`, like `bundles_of`.

    Raises:
        BundleNotFound: there is none.
        InputError: a task that several default bundles serve.
    """
    found = bundles_of(name)
    if len(found) > 1:
        raise InputError(f"{name!r} stands for {', '.join(path.name for path in found)}; name one of them")
    return found[0]
