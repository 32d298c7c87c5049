"""What a bundle says about its own quality, as tables that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgelm.manifest_text import inline
from edgelm_export.metrics import format_table
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.visible import visible

# Fields of `parity` in their order, and what they are; docs/fidelity.md says how each is made.
PARITY = {
    "inputs": "inputs",
    "agreement": "share with the same first choice as torch",
    "worst": "distance of probabilities, worst",
    "mean": "distance of probabilities, mean",
    "largest_error": "error of a logit, largest",
    "mean_error": "error of a logit, mean",
    "kl": "KL divergence in nats, mean",
    "largest_kl": "KL divergence in nats, largest",
    "stepwise": "distance token by token to at once, worst",
    "cached": "share of greedy tokens as without the cache",
    "worst_input": "worst input",
}
# The same of `text_parity`.
TEXTS = {
    "texts": "texts", "same": "with the answer of transformers", "answered_by": "answered there by",
    "left_out": "not compared, by the reason",
}  # fmt: skip
DIFFERENCE = ("metric", "rows", "before", "after", "difference", "interval", "p", "test")
_LONGEST = 60


def describe_quality(manifest: Manifest) -> str:
    """Parity, metrics, their differences with intervals, golden answers; other fields are shown as they are."""
    return "\n".join(visible(line) for part in _parts(manifest) for line in part.split("\n"))


def _parts(manifest: Manifest) -> Iterator[str]:
    quality = dict(manifest.quality)
    variants = quality.pop("variants", {})
    parities = {manifest.variants[0].name: quality.pop("parity", {}), **(variants if _is_table(variants) else {})}
    metrics, differences = quality.pop("metrics", {}), quality.pop("differences", [])
    yield f"{manifest.name} {manifest.version}"
    if any(parities.values()):
        yield "\nagainst the checkpoint in torch\n" + _columns(parities, PARITY)
    texts = quality.pop("text_parity", {})
    if isinstance(texts, Mapping) and texts:
        rows = [[meaning, _value(texts.get(name, ""))] for name, meaning in TEXTS.items()]
        yield "\nraw texts against transformers\n" + format_table(rows, ("", manifest.variants[0].name))
    if _is_table(metrics) and metrics:
        yield f"\nmetrics, in percent, on {inline(quality.pop('metrics_on', 'rows that are not named'))}\n" + _columns(
            metrics, {}
        )
    if isinstance(differences, list) and differences:
        rows = [[_value(one.get(name, "")) for name in DIFFERENCE] for one in differences if isinstance(one, Mapping)]
        yield "\nfrom the checkpoint to the bundle, with 95 % intervals\n" + format_table(rows, DIFFERENCE)
    goldens = ", ".join(dict.fromkeys(variant.goldens for variant in manifest.variants))
    rest = {"golden answers": f"{goldens}; edgelm verify replays them", **quality}
    yield "\n" + format_table([[name, _value(value)] for name, value in rest.items()], ("also", ""))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(column, Mapping) for column in value.values())


def _columns(columns: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """A row for each name that a column has, a column for each mapping."""
    columns = {name: column for name, column in columns.items() if isinstance(column, Mapping)}
    names = dict.fromkeys([*words, *(name for column in columns.values() for name in column)])
    rows = [
        [words.get(name, name), *(_value(column.get(name, "")) for column in columns.values())]
        for name in names
        if any(name in column for column in columns.values())
    ]
    return format_table(rows, ("", *columns))


def _value(value: object) -> str:
    """Four digits of a number; the beginning of a long text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, float) for one in value):
        return f"[{', '.join(f'{one:.4g}' for one in value)}]"
    text = " ".join(inline(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
