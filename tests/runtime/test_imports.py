"""The runtime imports with everything heavy blocked, and imports nothing before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgelm_runtime

DATA = Path(__file__).parents[1] / "data"
BLOCKED = ("torch", "transformers", "optimum", "onnx", "onnx_ir", "safetensors", "click", "sklearn", "tqdm")
PREPARE = f"""
import sys
sys.path[:0] = {sys.path!r}
for name in {BLOCKED!r}:
    sys.modules[name] = None
"""
EVERY_MODULE = """
import importlib, pkgutil, edgelm_runtime
for module in pkgutil.walk_packages(edgelm_runtime.__path__, "edgelm_runtime."):
    importlib.import_module(module.name)
    print(module.name)
"""
ANSWER = f"""
import edgelm_runtime
print(edgelm_runtime.load({str(DATA / "tiny-classifier")!r}, threads=1)("the parcel is good").label)
"""
LIGHT = """
import edgelm_runtime, sys
print([name for name in ("onnxruntime", "tokenizers", "numpy", "tempfile", "shutil") if name in sys.modules])
"""


def in_subprocess(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_every_module_imports_with_the_heavy_packages_blocked() -> None:
    imported = set(in_subprocess(EVERY_MODULE).split())
    folder = Path(edgelm_runtime.__file__).parent
    files = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py") if path.name != "__init__.py"]
    assert imported >= {".".join(("edgelm_runtime", *path.parts)) for path in files}


def test_an_answer_needs_none_of_them_either() -> None:
    assert in_subprocess(ANSWER) == "positive\n"


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert in_subprocess(LIGHT) == "[]\n"


def test_only_ort_imports_onnxruntime_and_only_guarded_imports_tokenizers() -> None:
    folder = Path(edgelm_runtime.__file__).parent
    for module, owner in (("onnxruntime", "ort.py"), ("tokenizers", "guarded.py")):
        users = [path.name for path in folder.rglob("*.py") if _imports(path.read_text(encoding="utf-8"), module)]
        assert users == [owner]


def _imports(source: str, module: str) -> bool:
    return any(line.split()[:2] in (["import", module], ["from", module]) for line in source.splitlines())


@pytest.mark.parametrize("word", ["socket", "pickle", "urllib", "http"])
def test_the_runtime_has_no_network_and_no_pickle(word: str) -> None:
    folder = Path(edgelm_runtime.__file__).parent
    assert not [path for path in folder.rglob("*.py") if _imports(path.read_text(encoding="utf-8"), word)]
