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
from typing import Any, ClassVar, Generic, TypeVar

from perf.bench import ROOT

INSTALL_S, WORK_S = 3600, 1200
LAST_LINES = 4

M = TypeVar("M")


class Failed(Exception):
    """An engine could not be installed, converted for, or run; the message is the end of what it said."""

    def __init__(self, message: str, *, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


@dataclass
class Peer(Generic[M]):
    """One engine: `name` is its module in engines/ and its file in peers/; a file that is missing means: here.

    `module` is what a smoke run looks for. `unwanted` is a package that comes along and breaks the others. `safer` is
    an environment to build it again with where it crashed; what was done is in `notes`.
    """

    home: ClassVar[str]  # the package below perf that has engines/ and peers/
    result: ClassVar[type[Any]]  # the dataclass M that its processes print

    name: str
    title: str
    precisions: tuple[str, ...]
    module: str
    unwanted: str = ""
    safer: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def requirements(self) -> Path:
        """Its file in peers/."""
        return ROOT / "perf" / self.home / "peers" / f"{self.name}.txt"

    def install(self, environments: Path) -> None:
        """Make the environment, once. Raises Failed."""
        if not self.requirements.is_file():
            self._python = sys.executable
            return
        folder = environments / self.name
        self._python = str(folder / "bin" / "python")
        stamp, wanted = folder / "installed", hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        if stamp.is_file() and stamp.read_text("utf-8") == wanted:
            return
        shutil.rmtree(folder, ignore_errors=True)
        call([sys.executable, "-m", "venv", str(folder)], INSTALL_S)
        self._pip("install", "-r", str(self.requirements))
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

    def measure(self, folder: Path, plan: Any, scratch: Path) -> M:
        """Measure in a process of its own. Raises Failed."""
        scratch.write_text(json.dumps(asdict(plan)), "utf-8")
        said = self._work("measure", str(folder), str(scratch))
        measured: M = self.result(**json.loads(said.splitlines()[-1]))
        return measured

    def versions(self) -> dict[str, str]:
        """The packages that its file names, with the versions that are installed."""
        if not self.requirements.is_file():
            return {}
        lines = self.requirements.read_text("utf-8").split()
        return dict(line.split("==") for line in lines if "==" in line)

    def _work(self, *arguments: str) -> str:
        command = [self._python, "-m", f"perf.{self.home}.engines.{self.name}", *arguments]
        try:
            return call(command, WORK_S)
        except Failed as failed:
            if not (failed.crashed and self._rebuild()):
                raise
        return call(command, WORK_S)

    def _pip(self, *arguments: str, extra: Mapping[str, str] | None = None) -> None:
        command = [self._python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        call(command, INSTALL_S, extra)

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


def call(command: Sequence[str], limit_s: float, extra: Mapping[str, str] | None = None) -> str:
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
