"""Checkpoints that several tests read; none of them may change one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

# Everything here needs the extra `export`; a machine with the runtime alone still runs the other tests.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny products on one thread: handing them out to several costs a hundred times their own time."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT classifier."""
    from tests.export.tiny import save_bert

    return save_bert(tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-2 with prompts for summary and description."""
    from tests.export.tiny import save_gpt2

    return save_gpt2(tmp_path_factory.mktemp("checkpoints") / "gpt2")
