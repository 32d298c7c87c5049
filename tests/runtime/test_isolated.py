"""What verifies a bundle in a process of its own says, and what is said where that process dies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime import child
from edgelm_runtime.errors import BundleNotFound, BundleRejected, DeviceError, InputError
from edgelm_runtime.isolated import verify_isolated
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.verify import verify_bundle


def test_the_report_is_that_of_this_process(tiny_classifier: Path) -> None:
    found, expected = verify_isolated(tiny_classifier).to_dict(), verify_bundle(tiny_classifier).to_dict()
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}


def test_errors_are_those_of_this_process(tmp_path: Path, tiny_classifier: Path) -> None:
    with pytest.raises(BundleNotFound, match="there is no bundle at"):
        verify_isolated(tmp_path / "nowhere")
    with pytest.raises(DeviceError, match="no variant 'other'"):
        verify_isolated(tiny_classifier, LoadOptions(variant="other"))
    shutil.copytree(tiny_classifier, tmp_path / "bundle")
    (tmp_path / "bundle" / "golden.json").write_bytes(b"{}")
    with pytest.raises(BundleRejected, match=r"golden\.json does not match") as caught:
        verify_isolated(tmp_path / "bundle")
    assert caught.value.what == "golden.json"


@pytest.mark.parametrize(
    ("code", "how"), [("import os; os.abort()", r"signal 6 \(SIGABRT\)"), ("import os; os._exit(9)", "exit code 9")]
)
def test_a_process_that_dies_is_a_bundle_that_is_refused(
    tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch, code: str, how: str
) -> None:
    started = child.subprocess.run

    def dying(command: list[str], **options: Any) -> Any:
        return started([*command[:2], code, *command[3:]], **options)

    monkeypatch.setattr(child.subprocess, "run", dying)
    with pytest.raises(BundleRejected, match=f"the process that verified it ended with {how}; do not use the bundle"):
        verify_isolated(tiny_classifier)


def test_a_program_that_is_no_python_says_so(tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child.sys, "frozen", True, raising=False)
    with pytest.raises(InputError, match="is no Python that could be started again"):
        verify_isolated(tiny_classifier)
