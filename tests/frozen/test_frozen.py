"""A till's program and the command, frozen by PyInstaller with edgelm's own hooks, run from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgelm
from edgelm._pyinstaller import get_hook_dirs

pytest.importorskip("PyInstaller", reason="needs the extra `dev`")

PROGRAM = """
import sys

import edgelm

if __name__ == "__main__":
    if sys.argv[1:2] == ["edgelm"]:
        from edgelm.cli import main

        del sys.argv[1]
        main()
    else:
        text = "物流很快，包装完好，穿着也很舒服，会再来买！"
        print(edgelm.__version__, edgelm.load("sentiment")(text).label)
        writer = edgelm.load("description")
        print(writer({"类型": "裙", "颜色": "白色"}, max_new_tokens=8).bundle)
"""
# What a till does not have, and this environment does.
ABSENT = ("IPython", "matplotlib", "onnx", "pytest", "scipy", "sklearn", "sympy", "torch", "transformers")


@pytest.fixture(scope="module")
def till(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The frozen program; edgelm's hooks are named where it was installed before they were there."""
    if not pytestconfig.getoption("--frozen"):
        pytest.skip("a freeze takes half a minute: make test-frozen")
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "till.py").write_text(PROGRAM, "utf-8")
    call = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", "till.py"]
    call += [f"--additional-hooks-dir={path}" for path in get_hook_dirs()]
    call += [f"--exclude-module={name}" for name in ABSENT]
    packages = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(call, cwd=folder, env=packages, capture_output=True, encoding="utf-8", timeout=280)
    assert done.returncode == 0, done.stderr
    return folder / "dist" / "till" / "till"


def run(program: Path, folder: Path, *arguments: str) -> str:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=bare, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_answers(till: Path, tmp_path: Path) -> None:
    assert run(till, tmp_path).splitlines() == [f"{edgelm.__version__} positive", "writer"]


def test_a_bundle_from_elsewhere_is_tried_and_answers(till: Path, tmp_path: Path, tiny_classifier: Path) -> None:
    said = run(till, tmp_path, "edgelm", "run", "sentiment", "good", "--bundle", str(tiny_classifier))
    assert said.startswith("positive")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--help",), "profile"),
        (("--version",), edgelm.__version__),
        (("devices",), "8-bit products"),
        (("verify", "sentiment-zh"), "golden answers"),
        (("inspect", "writer"), "description"),
    ],
)
def test_the_command_is_whole(till: Path, tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in run(till, tmp_path, "edgelm", *arguments)
