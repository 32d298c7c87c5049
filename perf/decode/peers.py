"""The engines that are compared: their environments, their conversions, and a process for each measurement."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perf.bench import ROOT
from perf.decode.protocol import Measured, Plan

REQUIREMENTS = Path(__file__).parent / "peers"
INSTALL_S, WORK_S = 3600, 1200
LAST_LINES = 4


class Failed(Exception):
    """An engine could not be installed, converted for, or run; the message is the end of what it said."""

    def __init__(self, message: str, *, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


@dataclass
class Peer:
    """One engine: `name` is its module in engines/ and its file in peers/; a file that is missing means: here.

    `unwanted` is a package that comes along and breaks the others. `safer` is an environment to build it again with
    where it crashed; what was done is in `notes`.
    """

    name: str
    title: str
    precisions: tuple[str, ...]
    module: str
    model_types: tuple[str, ...] = ("gpt2", "llama")
    lookup: bool = False
    unwanted: str = ""
    safer: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def install(self, environments: Path) -> None:
        """Make the environment, once. Raises Failed."""
        requirements = REQUIREMENTS / f"{self.name}.txt"
        if not requirements.is_file():
            self._python = sys.executable
            return
        folder = environments / self.name
        self._python = str(folder / "bin" / "python")
        stamp, wanted = folder / "installed", hashlib.sha256(requirements.read_bytes()).hexdigest()
        if stamp.is_file() and stamp.read_text("utf-8") == wanted:
            return
        shutil.rmtree(folder, ignore_errors=True)
        _call([sys.executable, "-m", "venv", str(folder)], INSTALL_S)
        self._pip("install", "-r", str(requirements))
        if self.unwanted:
            self._pip("uninstall", "--yes", self.unwanted)
        stamp.write_text(wanted, "utf-8")

    def use_here(self) -> None:
        """Run in this environment: for a smoke run, which installs nothing. Raises Failed where that cannot be."""
        if importlib.util.find_spec(self.module) is None:
            raise Failed(f"{self.module} is not installed here, and a smoke run installs nothing")
        self._python = sys.executable

    def convert(self, checkpoint: Path, folder: Path, precision: str) -> None:
        """Make the model, once. Raises Failed."""
        if folder.is_dir():
            return
        scratch = folder.with_name(f"converting-{folder.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        self._work("convert", str(checkpoint), str(scratch), precision)
        scratch.rename(folder)

    def measure(self, folder: Path, plan: Plan, scratch: Path) -> Measured:
        """Measure in a process of its own. Raises Failed."""
        scratch.write_text(json.dumps(asdict(plan)), "utf-8")
        said = self._work("measure", str(folder), str(scratch))
        return Measured(**json.loads(said.splitlines()[-1]))

    def versions(self) -> dict[str, str]:
        """The packages that its file names, with the versions that are installed."""
        requirements = REQUIREMENTS / f"{self.name}.txt"
        if not requirements.is_file():
            return {}
        lines = requirements.read_text("utf-8").split()
        return dict(line.split("==") for line in lines if "==" in line)

    def _work(self, *arguments: str) -> str:
        command = [self._python, "-m", f"perf.decode.engines.{self.name}", *arguments]
        try:
            return _call(command, WORK_S)
        except Failed as failed:
            if not (failed.crashed and self._rebuild()):
                raise
        return _call(command, WORK_S)

    def _pip(self, *arguments: str, extra: Mapping[str, str] | None = None) -> None:
        command = [self._python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        _call(command, INSTALL_S, extra)

    def _rebuild(self) -> bool:
        """Build again with the safer settings, once; whether that was done."""
        if not self.safer or self.notes:
            return False
        settings = " ".join(f"{name}={value}" for name, value in self.safer.items())
        self.notes.append(f"{self.title} crashed on this machine and was built again with {settings}")
        name, version = next(pin for pin in self.versions().items() if pin[0].startswith(self.name.replace("_", "-")))
        anew = ("--no-cache-dir", "--force-reinstall", "--no-deps", "--no-binary", name)
        self._pip("install", *anew, f"{name}=={version}", extra=self.safer)
        return True


def peers() -> list[Peer]:
    """edgelm first, then its peers."""
    no_amx = {"CMAKE_ARGS": "-DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF"}
    return [
        Peer("edgelm", "edgelm", ("fp32", "int8", "int4"), "edgelm", lookup=True),
        Peer("llama_cpp", "llama.cpp", ("fp32", "int8", "int4"), "llama_cpp", safer=no_amx),
        # optimum-intel asks for torchvision; that of PyPI is built for CUDA and does not load beside torch for CPUs.
        Peer(
            "openvino",
            "OpenVINO GenAI",
            ("fp32", "int8", "int4"),
            "openvino_genai",
            lookup=True,
            unwanted="torchvision",
        ),
        Peer("onnxruntime_genai", "onnxruntime-genai", ("fp32", "int8", "int4"), "onnxruntime_genai", ("llama",)),
        Peer("optimum_onnx", "optimum-onnx", ("fp32", "int8"), "optimum.onnxruntime"),
        Peer("ctranslate2", "CTranslate2", ("fp32", "int8"), "ctranslate2"),
        Peer("transformers", "transformers", ("fp32", "bf16"), "transformers"),
    ]


def _call(command: Sequence[str], limit_s: float, extra: Mapping[str, str] | None = None) -> str:
    """What a command says on stdout. Raises Failed with the end of what it said on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**environment, **(extra or {})}, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", errors="replace", timeout=limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end after {limit_s:.0f} s") from error
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        text = " | ".join(said[-LAST_LINES:])
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise Failed(f"{how}: {text}", crashed=done.returncode < 0)
    return done.stdout


def size_of(folder: Path) -> int:
    """Bytes of a model's files, what a device has to hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
