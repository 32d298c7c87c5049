"""edgelm: small int8 language models that answer on a CPU without torch.

    import edgelm

    model = edgelm.load("sentiment")
    model("物流很快，质量也好").label

Every name is loaded at its first use, so that importing edgelm, or asking the command for help, stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgelm_runtime.errors import (
        BundleError,
        BundleNotFound,
        BundleRejected,
        Cancelled,
        DeadlineExceeded,
        DeviceError,
        EdgeLMError,
        ExportError,
        InputError,
        MissingExtra,
        ParityError,
        UnsupportedCheckpoint,
    )
    from edgelm_runtime.loader import load
    from edgelm_runtime.results import SentimentResult, TextResult

    __version__: str

__all__ = [
    "BundleError",
    "BundleNotFound",
    "BundleRejected",
    "Cancelled",
    "DeadlineExceeded",
    "DeviceError",
    "EdgeLMError",
    "ExportError",
    "InputError",
    "MissingExtra",
    "ParityError",
    "SentimentResult",
    "TextResult",
    "UnsupportedCheckpoint",
    "__version__",
    "load",
]

_HOMES = {
    "SentimentResult": "edgelm_runtime.results",
    "TextResult": "edgelm_runtime.results",
    "load": "edgelm_runtime.loader",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("edgelm")
    return getattr(importlib.import_module(_HOMES.get(name, "edgelm_runtime.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
