"""docs/models.md is what the manifests of the default bundles say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgelm_runtime.bundle import default_bundles, open_bundle

ROOT = Path(__file__).parent.parent.parent
MOST_BYTES = 60_000_000


def test_the_page_is_current() -> None:
    run = subprocess.run(
        [sys.executable, "docs/generate_models.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, f"docs/models.md is not current: run docs/generate_models.py\n{run.stderr}"


def test_every_task_is_served_and_all_fit() -> None:
    manifests = [open_bundle(path).manifest for path in default_bundles().values()]
    served = {(task, language) for manifest in manifests for task in manifest.serves for language in manifest.languages}
    assert served >= {(task, language) for task in ("sentiment", "summary", "description") for language in ("zh", "en")}
    assert sum(entry.size for manifest in manifests for entry in manifest.files.values()) <= MOST_BYTES


def test_every_manifest_states_data_licence_recipe_and_metrics() -> None:
    for path in default_bundles().values():
        manifest = open_bundle(path).manifest
        assert manifest.licence
        assert manifest.provenance["training_data"]
        assert manifest.provenance["recipe"]
        assert set(manifest.quality["metrics"]) == {"torch", "fp32", "int8"}
