"""What holds for the repository as a whole: import rules, sizes, the public surface, the pins."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "edgelm": ROOT / "edgelm",
    "edgelm_export": ROOT / "export" / "edgelm_export",
    "edgelm_runtime": ROOT / "runtime" / "edgelm_runtime",
}
ONLY_IN = {
    "onnxruntime": {
        "edgelm_runtime/ort.py",
        "edgelm_export/quantize/calibration.py",
        "edgelm_export/quantize/int4_hqq.py",
    },
    "click": {"edgelm/"},
    "tqdm": {"edgelm_export/"},
}
MAX_FILE_BYTES = 5_000_000
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
PUBLIC = {
    "BundleError",
    "BundleNotFound",
    "BundleRejected",
    "Cancelled",
    "DeadlineExceeded",
    "DeviceError",
    "EdgeLMError",
    "ExportError",
    "InputError",
    "MissingExtra",
    "ParityError",
    "SentimentResult",
    "TextResult",
    "UnsupportedCheckpoint",
    "__version__",
    "load",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the three packages as ("edgelm_runtime/session.py", path)."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            yield f"{package}/{path.relative_to(folder).as_posix()}", path


def parsed() -> Iterator[tuple[str, ast.Module]]:
    for name, path in modules():
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of all absolute imports, those inside functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def tracked_files() -> list[Path]:
    """Files that git has, or would take: what is ignored does not count."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize(("module", "homes"), ONLY_IN.items())
def test_a_dependency_is_imported_only_where_it_belongs(module: str, homes: set[str]) -> None:
    strangers = [name for name, tree in parsed() if module in imports(tree) and not name.startswith(tuple(homes))]
    assert strangers == []


def test_no_module_evaluates_text() -> None:
    calls = [
        f"{name}:{node.lineno}"
        for name, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    ]
    assert calls == []


def test_help_and_import_load_neither_torch_nor_onnxruntime() -> None:
    code = """
import sys
import edgelm
from edgelm.cli import cli
for args in (["--help"], ["run", "--help"], ["export", "--help"], ["finetune", "--help"]):
    try:
        cli.main(args, prog_name="edgelm")
    except SystemExit as end:
        assert end.code == 0, end.code
loaded = {"torch", "onnxruntime", "transformers", "tokenizers", "numpy"} & set(sys.modules)
assert not loaded, loaded
"""
    assert "Usage: edgelm run" in run_python(code)


def run_python(code: str) -> str:
    """Run code in a fresh interpreter that sees the packages as this one does; its stdout."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names_are_pinned() -> None:
    import edgelm

    assert set(edgelm.__all__) == PUBLIC
    assert list(edgelm.__all__) == sorted(edgelm.__all__)
    assert dir(edgelm) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(edgelm, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = edgelm.no_such_name


def test_the_page_of_the_command_line_is_current() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import generate_cli; print(generate_cli.render())"
    assert run_python(code).strip() == page.strip(), "run: make docs"


def test_no_file_is_large_except_bundles() -> None:
    bundles = PACKAGES["edgelm_runtime"] / "bundles"
    large = [
        path for path in tracked_files() if path.stat().st_size > MAX_FILE_BYTES and not path.is_relative_to(bundles)
    ]
    assert large == []


def test_files_and_functions_stay_readable() -> None:
    too_long = []
    for path in tracked_files():
        if path.suffix != ".py":
            continue
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MAX_FILE_LINES:
            too_long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            parameters = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
            if lines > MAX_FUNCTION_LINES or parameters > MAX_PARAMETERS:
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                too_long.append(f"{where}: {lines} lines, {parameters} parameters")
    assert too_long == []


def test_requirements_are_the_constraints_with_hashes() -> None:
    """What a till installs without a network: `make requirements` writes it."""
    text = (ROOT / "requirements.txt").read_text("utf-8").replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        pin, *hashes = line.split(" --hash=")
        name, _, version = pin.partition(";")[0].strip().partition("==")
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one.strip()) for one in hashes), name
        found[name.lower().replace("_", "-")] = version
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    elsewhere = {"colorama", "httpx2-jsfetch"}  # of Windows and of browsers
    assert {name: pinned.get(name) for name in found.keys() - elsewhere} == {
        name: found[name] for name in found.keys() - elsewhere
    }
    assert {"click", "numpy", "onnxruntime", "tokenizers"} <= found.keys()


def test_constraints_pin_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["export"], *extras["report"], *extras["otel"], *extras["dev"]]
    pinned = dict(
        line.split("==", 1) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line
    )
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pinned.values())
    names = {re.split(r"[<>=!~ \[]", requirement, maxsplit=1)[0] for requirement in declared}
    assert names <= set(pinned), names - set(pinned)
    assert pinned["torch"] == "2.13.0"


def test_the_runtime_is_declared_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]}
    assert names == {"click", "numpy", "onnxruntime", "tokenizers"}
