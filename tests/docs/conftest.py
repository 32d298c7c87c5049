"""A folder in which the commands and the code of a page are run, as a reader would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgelm_runtime.bundle import default_bundles, open_bundle
from tests.docs.markdown import Block

# make and pip install from the network, git is for people, and the virtual environment is already there
NOT_RUN = re.compile(r"^(make|pip|git)\b")
RunBlock = Callable[[Block], str]

_WITH_TINY_BUNDLES = """\
import edgelm_runtime.bundle, edgelm_runtime.loader
from pathlib import Path
tiny = {{path.name: path for path in map(Path, {paths!r})}}
edgelm_runtime.bundle.default_bundles = edgelm_runtime.loader.default_bundles = lambda: tiny
"""


@pytest.fixture
def run_block(tmp_path: Path, tiny_classifier: Path, tiny_generator: Path) -> RunBlock:
    """Run a block of shell or of Python in one temporary folder; gives its stdout, and fails with its stderr.

    The command and the packages are those of this interpreter. Where the default bundles are not installed, the
    tiny ones answer in their place.
    """
    # one thread: torch's wait for each other for seconds on a machine that is busy with other tests
    environment = {**os.environ, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    served = {task for path in default_bundles().values() for task in open_bundle(path, verify="lazy").manifest.serves}
    shim = (
        ""
        if served >= {"sentiment", "summary", "description"}
        else _WITH_TINY_BUNDLES.format(paths=[str(tiny_classifier), str(tiny_generator)])
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    command = programs / "edgelm"
    command.write_text(f"#!{sys.executable}\n{shim}from edgelm.cli import main\nmain()\n", encoding="utf-8")
    command.chmod(0o755)
    environment["PATH"] = os.pathsep.join([str(programs), str(Path(sys.executable).parent), environment["PATH"]])
    folder = tmp_path / "reader"
    folder.mkdir()

    def run(block: Block) -> str:
        if block.kind == "python":
            call = [sys.executable, "-c", shim + block.text]
        else:
            lines = [line for line in block.text.splitlines() if not NOT_RUN.match(line)]
            call = [shutil.which("bash") or "bash", "-euo", "pipefail", "-c", "\n".join(lines)]
        done = subprocess.run(
            call, cwd=folder, env=environment, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"line {block.line}: exit code {done.returncode}\n{block.text}\n{done.stderr}"
        return done.stdout

    return run
