"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exact-products", action="store_true", help="run as on a CPU that clips 8-bit products: AVX2 without VNNI"
    )
    parser.addoption("--frozen", action="store_true", help="freeze a program with PyInstaller, and run it")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "trial: a tokenizer that is new is tried in a process of its own")
    # Two workers whose torch spins on every core wait for one another; programs that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if config.getoption("--exact-products"):
        os.environ["EDGELM_EXACT_PRODUCTS"] = "1"  # reaches the programs that tests start, too


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell lets its background jobs ignore SIGINT, and their children with them: tests that send it need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what `edgelm tune` remembers, in place of the developer's own."""
    folder = tmp_path_factory.mktemp("memory")
    monkeypatch.setenv("EDGELM_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def untried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process for every tokenizer of every test; those marked `trial` are about it."""
    if "trial" not in request.keywords:
        monkeypatch.setattr("edgelm_runtime.vetting.trial.is_tried", lambda data, file: False)


@pytest.fixture(scope="session")
def tiny_classifier() -> Path:
    """A real classifier bundle of a few kilobytes, made by tests/make_tiny.py."""
    return DATA / "tiny-classifier"


@pytest.fixture(scope="session")
def tiny_generator() -> Path:
    """A real generator of a few kilobytes with random weights, made by tests/make_tiny_generator.py."""
    return DATA / "tiny-generator"


@pytest.fixture
def copied_classifier(tmp_path: Path, tiny_classifier: Path) -> Path:
    """The same, as a copy that a test may damage."""
    return Path(shutil.copytree(tiny_classifier, tmp_path / "copied-classifier"))


# A busy machine may take its time over one example: a limit in milliseconds would make every test a timed one.
# CI looks at the same examples every time; everyone else at new ones.
settings.register_profile("edgelm", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("edgelm")
