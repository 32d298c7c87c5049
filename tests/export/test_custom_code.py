"""Code that a checkpoint brings along is never run, and nobody is asked whether it should be."""

from __future__ import annotations

import ast
import builtins
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgelm.cli import cli
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.doctor import diagnose
from edgelm_export.finetune.base import load_base
from edgelm_runtime.errors import UnsupportedCheckpoint
from tests.export.tiny import edit_config

ROOT = Path(__file__).parents[2]
LOADERS = ("from_pretrained", "from_config")
CODE = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForSequenceClassification"), "evil.Evil")


def _calls(path: Path) -> Iterator[ast.Call]:
    """The calls that load something by what a folder says; peft's is given its model, and loads tensors alone."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOADERS:
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id == "PeftModel"):
                yield node


def _refuses_code(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    value = given.get("trust_remote_code")
    return isinstance(value, ast.Constant) and value.value is False


def test_every_call_that_loads_a_folder_refuses_its_code() -> None:
    paths = [path for part in ("export", "edgelm", "perf", "recipes") for path in (ROOT / part).rglob("*.py")]
    calls = {(path.relative_to(ROOT), call.lineno): call for path in paths for call in _calls(path)}
    assert len(calls) > 10
    assert [place for place, call in calls.items() if not _refuses_code(call)] == []


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier with code beside it that would leave a file; a question to the user would be answered with yes."""
    folder = Path(shutil.copytree(bert_folder, tmp_path / "checkpoint"))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    path = folder / "tokenizer_config.json"
    tokenizer = {**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    path.write_text(json.dumps({**tokenizer, "tokenizer_class": "EvilTokenizer"}))
    monkeypatch.setattr(builtins, "input", lambda *asked: pytest.fail(f"asked {asked}"))
    return edit_config(folder, auto_map=CODE)


def _adapter(folder: Path) -> Path:
    adapter = folder.parent / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": str(folder)}
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 4, "target_modules": ["query"]}))
    (adapter / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    return adapter


def _merge(folder: Path) -> None:
    with opened(Origin(_adapter(folder)), folder.parent):
        pass


WAYS: dict[str, Callable[[Path], Any]] = {
    "doctor": lambda folder: diagnose(Origin(folder), "classify"),
    "export": lambda folder: load_checkpoint(folder, "text-classification"),
    "finetune": lambda folder: load_base(str(folder), "sequence-classification", [], ["a", "b"], None),
    "adapter": _merge,
}


# A class that transformers has, one that it has without this head, and one that nobody knows.
@pytest.mark.parametrize("model_type", ["bert", "dpr", "evil"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_it_is_not_run_and_nobody_is_asked(folder: Path, way: Callable[[Path], Any], model_type: str) -> None:
    edit_config(folder, model_type=model_type)
    said = ""
    try:
        way(folder)
    except UnsupportedCheckpoint as error:
        said = str(error)
    assert "trust_remote_code" not in said  # which no option of ours gives
    assert not (folder.parent / "ran").exists()


def test_the_code_is_noted(folder: Path) -> None:
    (config,) = [finding for finding in diagnose(Origin(folder)).findings if finding.check == "config"]
    assert (config.state, "auto_map names evil.Evil, which is not run" in config.text) == ("note", True)


def test_the_command_leaves_its_output_alone(folder: Path) -> None:
    edit_config(folder, model_type="dpr")
    done = CliRunner().invoke(cli, ["doctor", str(folder), "--json"], input="y\n")
    assert json.loads(done.stdout)["exportable"] is False
    assert not (folder.parent / "ran").exists()
