"""The runtime on ARM64, emulated, with onnxruntime's own ARM64 wheel: the same answers as here."""

from __future__ import annotations

from pathlib import Path
from shutil import which

import pytest

from tests.emulated.machine import ARM64, BUNDLES, arm64, with_our_answers

pytestmark = pytest.mark.skipif(
    which("qemu-aarch64") is None or not ARM64.exists(),
    reason="needs qemu-aarch64 (apt-get install qemu-user) and what tests/emulated/make_arm64.sh makes",
)

CPUS = (
    "cortex-a72",  # no dot products, as in a Raspberry Pi 4
    "neoverse-n1",  # dot products
    "max,sme=off",  # i8mm and SVE; qemu 7.2 computes SME's products wrongly
)
NAMES = ("sentiment-zh", "sentiment-en", "writer")


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", NAMES)
def test_the_answers_of_this_machine_are_given_there(cpu: str, name: str, tmp_path: Path) -> None:
    assert arm64(cpu).verify(with_our_answers(name, tmp_path))["golden"] >= 3


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", NAMES)
def test_golden_answers_are_given_there(cpu: str, name: str) -> None:
    assert arm64(cpu).verify(BUNDLES / name)["golden"] >= 7
