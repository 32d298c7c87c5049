"""``edgelm export`` and ``edgelm finetune``: their options are those of the functions that they call."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from edgelm.commands import export, finetune
from edgelm_runtime.errors import InputError
from tests.cli.conftest import Invoke

finetuning = pytest.importorskip("edgelm_export.finetune", reason="needs the extra `export`")
pipeline = pytest.importorskip("edgelm_export.pipeline", reason="needs the extra `export`")


@dataclass(frozen=True)
class Report:
    """What both functions return, as far as the command knows."""

    options: Any

    def table(self) -> str:
        return "a table"

    def to_dict(self) -> dict[str, Any]:
        return {"out": str(self.options.out), "质量": 1}


def test_every_option_of_finetune_is_a_field_with_the_same_default() -> None:
    declared = {field.name: field.default for field in fields(finetuning.FinetuneOptions)}
    for parameter in finetune.command.params:
        if parameter.name == "json":
            continue
        assert parameter.name in declared
        default = declared[str(parameter.name)]
        if default is not MISSING and default not in (None, False):
            assert parameter.default == default, parameter.name


def test_every_option_of_export_is_a_field() -> None:
    declared = {field.name for part in (pipeline.ExportOptions, pipeline.Goal) for field in fields(part)}
    offered = {parameter.name for parameter in export.command.params} - {"json", "prompt"}
    assert offered <= declared
    precision = next(parameter for parameter in export.command.params if parameter.name == "precision")
    assert set(precision.type.choices) == {*pipeline.ENCODER_SCHEMES, "auto"}  # type: ignore[attr-defined]


def test_finetune_passes_its_options_whole(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(finetuning, "finetune", lambda options: seen.append(options) or Report(options))
    arguments = ("--base", "tiny", "--data", "a.jsonl", "--data", "b.csv", "--out", "folder", "--seed", "3", "--resume")
    result = invoke("finetune", "summary,description", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a table\n", "")
    assert seen[0].task == "summary,description"
    assert seen[0].data == (Path("a.jsonl"), Path("b.csv"))
    assert (seen[0].base, seen[0].out, seen[0].seed, seen[0].resume) == ("tiny", Path("folder"), 3, True)
    assert seen[0].progress is False  # no bar where there is no terminal


def test_export_passes_its_options_whole(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(pipeline, "export", lambda options: seen.append(options) or Report(options))
    arguments = ["--precision", "fp32", "--eval", "dev.jsonl", "--prompt", "summary={text}\\nTL;DR:", "--recipe", "one"]
    result = invoke("export", "gpt2", "--out", "folder", *arguments, "--recipe", "two", "--language", "en", "--json")
    assert json.loads(result.stdout) == {"out": "folder", "质量": 1}
    assert "质量" in result.stdout
    options = seen[0]
    assert (options.checkpoint, options.precision, options.eval_file) == (Path("gpt2"), "fp32", Path("dev.jsonl"))
    assert (options.prompts, options.recipe) == ({"summary": "{text}\nTL;DR:"}, ("one", "two"))
    assert (options.languages, options.licence, options.force) == (("en",), "", False)


def test_their_errors_have_their_exit_codes(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = invoke("export", tmp_path, "--out", tmp_path / "bundle")
    assert (result.exit_code, result.stdout) == (7, "")
    assert invoke("export", tmp_path, "--out", tmp_path / "bundle", "--prompt", "no template").exit_code == 5

    def refuse(_: object) -> None:
        raise InputError("no row for summary")

    monkeypatch.setattr(finetuning, "finetune", refuse)
    result = invoke("finetune", "summary", "--base", "tiny", "--data", "a.jsonl", "--out", "folder")
    assert (result.exit_code, result.stderr) == (5, "edgelm: error: no row for summary\n")
    assert invoke("finetune", "summary").exit_code == 2


def test_a_bug_is_not_taken_for_a_missing_extra(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_: object) -> None:
        raise ModuleNotFoundError("No module named 'edgelm_export.typo'", name="edgelm_export.typo")

    monkeypatch.setattr(pipeline, "export", break_down)
    result = invoke("export", "x", "--out", "y")
    assert (result.exit_code, "unexpected ModuleNotFoundError" in result.stderr) == (1, True)
