"""The seam where a missing optional dependency becomes one line that says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgelm_runtime.errors import MissingExtra

MODULES = {
    "export": {
        "accelerate", "huggingface_hub", "onnx", "onnx_ir", "optimum", "peft", "requests",
        "safetensors", "sentencepiece", "scipy", "sklearn", "torch", "tqdm", "transformers",
    },
    "otel": {"opentelemetry"},
    "report": {"jinja2", "matplotlib"},
}  # fmt: skip


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Translate a module of the extra `name` that is not installed.

    Raises:
        MissingExtra: with the command that installs it. Any other missing module is a bug and passes through.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in MODULES[name]:
            raise
        raise MissingExtra(
            f"{missing} is not installed, and this needs it; install with: pip install 'edgelm[{name}]'"
        ) from error
