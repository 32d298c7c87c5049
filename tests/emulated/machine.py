"""Python on CPUs that are not here: qemu's user mode, one process a call; and bundles whose golden answers are ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelm_runtime.bundle import Bundle, open_bundle, write_bundle
from edgelm_runtime.loader import load

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "runtime" / "edgelm_runtime" / "bundles"
ARM64 = Path(os.environ.get("EDGELM_ARM64") or ROOT / ".perf" / "arm64")
# Verifies the bundle named last as a runtime that does not know that products saturate would.
UNPROTECTED = """
import sys
from pathlib import Path
from edgelm_runtime import session
from edgelm_runtime.verify import verify_bundle
session.products_saturate = lambda: False
verify_bundle(Path(sys.argv[1]))
"""
TEXTS = {  # by bundle and task
    "sentiment-zh": {
        "sentiment": ("物流很快，包装完好，穿着也很舒服，会再来买！", "屏幕有划痕，客服一直不回复，差评", "一般")
    },
    "sentiment-en": {"sentiment": ("The zip broke after two days.", "Soft, warm, and a great price!", "It is ok.")},
    "writer": {
        "summary": ("物流很快，质量也好", "I love this sweater! It is soft and warm."),
        "description": ("类型#裙*颜色#白色*风格#简约*裙型#百褶裙", "type#dress*color#white*style#simple"),
    },
}
NEW_TOKENS = 12


@dataclass(frozen=True)
class Machine:
    """A CPU: the command before a program's arguments, and the environment that its Python needs."""

    python: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with `arguments` on one core: threads that wait for each other cost an emulator most."""
        core = {min(os.sched_getaffinity(0))}
        return subprocess.run(
            [*self.python, *arguments], capture_output=True, encoding="utf-8", timeout=280,
            env={**os.environ, **self.environment}, preexec_fn=lambda: os.sched_setaffinity(0, core),
        )  # fmt: skip

    def verify(self, bundle: Path) -> dict[str, Any]:
        """What `edgelm verify --json` reports there; an answer that it refuses fails the test with its message."""
        done = self.run("-m", "edgelm", "verify", "--json", str(bundle))
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def x86(cpu: str) -> Machine:
    """An x86-64 CPU of qemu's list, with this very Python and its packages."""
    return Machine(
        ("qemu-x86_64", "-cpu", cpu, sys.executable), {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )


def with_our_answers(name: str, target: Path) -> Path:
    """A copy of a default bundle whose golden answers are those of this machine to TEXTS."""
    bundle = open_bundle(BUNDLES / name)
    golden: dict[str, list[dict[str, Any]]] = {}
    for task, texts in TEXTS[name].items():
        kind = "classification" if task == "sentiment" else "generation"
        golden.setdefault(kind, []).extend(answer(bundle, task, text) for text in texts)
    contents = {file: bundle.read(file) for file in bundle.manifest.files}
    contents["golden.json"] = json.dumps(golden).encode()
    return write_bundle(target / name, bundle.manifest, contents).path


def answer(bundle: Bundle, task: str, text: str) -> dict[str, Any]:
    """One golden answer as `edgelm export` writes it."""
    model = load(bundle.path, task=task, threads=1)
    if task == "sentiment":
        result = model(text)
        return {"text": text, "label": result.label, "scores": dict(result.scores)}
    ids = model.infer(model.tokenize(text), max_new_tokens=NEW_TOKENS, temperature=0.0)
    return {"task": task, "text": text, "answer": model.decode(ids), "ids": ids, "max_new_tokens": NEW_TOKENS}


def arm64(cpu: str) -> Machine:
    """An ARM64 CPU of qemu's list, with the Python that make_arm64.sh made; its files come before the host's."""
    packages = [ARM64 / "site", ROOT, ROOT / "runtime"]
    return Machine(
        ("qemu-aarch64", "-L", str(ARM64), "-cpu", cpu, str(ARM64 / "usr" / "bin" / "python3")),
        {"PYTHONPATH": os.pathsep.join(map(str, packages)), "PYTHONDONTWRITEBYTECODE": "1"},
    )
