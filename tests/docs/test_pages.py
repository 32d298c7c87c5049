"""What holds for every page: links lead somewhere, numbers and names are those of the code, Python runs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from edgelm_runtime import fields as manifest_fields
from edgelm_runtime import manifest
from edgelm_runtime.manifest import FileEntry, Manifest, TokenizerSpec, Variant
from tests.docs.conftest import RunBlock
from tests.docs.markdown import blocks, links

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FORMAT = ROOT / "docs" / "bundle-format.md"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    broken = [target for target in links(page) if not (page.parent / target).exists()]
    assert broken == []


def test_the_format_page_has_every_field() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([a-z_0-9]+)` \|", text, re.MULTILINE))
    for part in (Manifest, TokenizerSpec, Variant, FileEntry):
        missing = {field.name.replace("eos_ids", "eos_id") for field in fields(part)} - {"extra"} - described
        assert missing == set(), part


def test_the_format_page_has_the_limits_of_the_code() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    assert f"# Bundle format {manifest.FORMAT}\n" in text
    assert f"{manifest.MAX_MANIFEST_BYTES:,} bytes" in text
    assert f"{manifest_fields._MAX_DEPTH} levels" in text
    assert f"1 to {manifest._MAX_CONTEXT:,}" in text
    assert all(f"`{task}`" in text for task in manifest.TASK_NAMES)


def test_the_runtime_has_nothing_that_loads_code_from_a_bundle() -> None:
    loaders = re.compile(r"\b(pickle|marshal|shelve|ctypes|runpy|register_custom_ops_library|allow_pickle)\b")
    modules = sorted((ROOT / "runtime").rglob("*.py"))
    # exchange.py calls the system's own library, to swap two folders in one step
    found = {path.name for path in modules if loaders.search(path.read_text(encoding="utf-8"))}
    assert found == {"exchange.py"}
    assert len(modules) > 10


def test_the_python_of_the_integration_page_runs(run_block: RunBlock) -> None:
    printed = [run_block(block) for block in blocks(ROOT / "docs" / "integration.md", "python")]
    assert len(printed) >= 3


def test_decisions_are_numbered_and_have_their_parts() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    for number, path in enumerate(decisions, start=1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        for part in ("Accepted", "## Context", "## Decision", "## Consequences"):
            assert part in text, path.name
