"""A manifest as a page that a person reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgelm_runtime.manifest import Manifest
from edgelm_runtime.visible import visible

_WIDTH = 14


def describe(manifest: Manifest, path: Path) -> str:
    """Everything a person asks first: what it does, how large it is, how good, made from what, under which licence."""
    return "\n".join(visible(line) for line in _lines(manifest, path))


def _lines(manifest: Manifest, path: Path) -> Iterator[str]:
    yield f"{manifest.name} {manifest.version}"
    yield _row("folder", path)
    yield _row("serves", f"{', '.join(manifest.serves)} ({manifest.task}, {manifest.family})")
    yield _row("languages", ", ".join(manifest.languages))
    if manifest.labels:
        yield _row("labels", ", ".join(manifest.labels))
    if manifest.tags:
        yield _row("entities", ", ".join(dict.fromkeys(tag[2:] for tag in manifest.tags.values() if tag[2:])))
    if manifest.task == "token-classification":
        yield _row("aggregation", manifest.aggregation)
    yield _row("context", f"{manifest.tokenizer.max_tokens} tokens")
    for task, prompt in manifest.prompts.items():
        yield _row("prompt", f"{task}: {prompt}")
    if manifest.embedding is not None:
        for name, prompt in manifest.embedding.prompts.items():
            default = " (by default)" if name == manifest.embedding.default_prompt_name else ""
            yield _row("prompt", f"{name}{default}: {inline(prompt)}")
    if manifest.generation:
        yield _row("generation", inline(manifest.generation))
    yield _row("licence", manifest.licence)
    for variant in manifest.variants:
        needs = f", needs {' '.join(variant.requires)}" if variant.requires else ""
        yield _row("variant", f"{variant.name}: {variant.precision}, {megabytes(variant.size)}, runs on "
                              f"{' '.join(variant.providers)}{needs}")  # fmt: skip
    for name, entry in manifest.files.items():
        yield _row("file", f"{name}  {megabytes(entry.size)}  sha256 {entry.sha256[:12]}…")
    yield from _section("quality", manifest.quality)
    yield from _section("provenance", manifest.provenance)
    yield from _section("other fields", manifest.extra)


def _section(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    if values:
        yield title
    for name, value in values.items():
        yield "  " + _row(name, inline(value))


def _row(name: str, value: object) -> str:
    return f"  {name:<{_WIDTH}} {value}"


def inline(value: Any) -> str:
    """A JSON value on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inline(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(inline(part) for part in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def megabytes(size: int) -> str:
    """A size in bytes as megabytes of 10^6 bytes, in kB below one."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"
