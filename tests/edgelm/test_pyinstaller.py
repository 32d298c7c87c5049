"""What edgelm's hooks tell PyInstaller; tests/frozen freezes a program with them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from edgelm import commands
from edgelm._pyinstaller import get_hook_dirs
from edgelm_runtime.bundle import default_bundles
from edgelm_runtime.tasks import TASKS
from tests.conftest import ROOT

pytest.importorskip("PyInstaller", reason="needs the extra `dev`")


def hook(name: str) -> dict[str, Any]:
    (folder,) = get_hook_dirs()
    return runpy.run_path(str(Path(folder) / f"hook-{name}.py"))


def test_every_file_and_module_that_is_found_by_its_name_is_taken() -> None:
    told = hook("edgelm_runtime")
    files = {Path(path) for path, _ in told["datas"]}
    runtime = ROOT / "runtime" / "edgelm_runtime"
    assert {path / "model.onnx" for path in default_bundles().values()} <= files
    assert {path for path in (runtime / "data").rglob("*") if path.is_file()} <= files
    assert {f"edgelm_runtime.tasks.{task}" for task in TASKS} <= set(told["hiddenimports"])
    told = hook("edgelm.commands")
    folder = Path(next(iter(commands.__path__)))
    assert {f"edgelm.commands.{path.stem}" for path in folder.glob("[a-z]*.py")} <= set(told["hiddenimports"])
    assert ROOT / "edgelm" / "reports" / "page" / "page.html" in {Path(path) for path, _ in told["datas"]}
    told = hook("edgelm")
    assert any("edgelm" in target and "info" in target for _, target in told["datas"])
