"""A bundle whose names and labels would steer a terminal: no command prints them as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke

EVIL = "\x1b]0;owned\x07\x9b2J\nedgelm: error: forged\r\u202egnp.exe"
SEEN = "\\x1b]0;owned\\x07\\x9b2J\\nedgelm: error: forged\\r\\u202egnp.exe"
NAME = "name\x9b2J\u202egnp"


@pytest.fixture
def evil(copied_classifier: Path) -> Path:
    """The tiny classifier, with such texts wherever its manifest takes them and every hash right."""
    golden = copied_classifier / "golden.json"
    golden.write_text(golden.read_text("utf-8").replace('"positive"', json.dumps(f"good{EVIL}")), "utf-8")
    path = copied_classifier / "edgelm.json"
    manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
    manifest["files"]["golden.json"] = {
        "size": golden.stat().st_size,
        "sha256": hashlib.sha256(golden.read_bytes()).hexdigest(),
    }
    manifest |= {
        "languages": ["en", f"zh{EVIL}"],
        "labels": [f"bad{EVIL}", f"good{EVIL}"], "serves": ["sentiment", f"other{EVIL}"],
        "quality": {f"q{EVIL}": EVIL, "metrics": {f"m{EVIL}": {f"accuracy{EVIL}": 1.0}}}, "provenance": {EVIL: [EVIL]},
        f"extra{EVIL}": EVIL,
    }  # fmt: skip
    path.write_text(json.dumps(manifest), "utf-8")
    return copied_classifier


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "sentiment", "good", "--bundle", "{}"],
        ["run", "sentiment", "很好", "--bundle", "{}"],
        ["run", "summary", "good", "--bundle", "{}"],
        ["run", "sentiment", "good", "--bundle", "{}", "--use-variant", EVIL],
        ["inspect", "{}"],
        ["inspect", "{}", "--quality"],
        ["inspect", "{}", "--placement"],
        ["verify", "{}"],
        ["tune", "{}"],
        ["profile", "{}", "--seconds", "1", "--scenario", "offline"],
        ["compare", "{}", "{}", "--eval", "rows.csv"],
    ],
)
def test_no_command_lets_a_bundle_steer_the_terminal(
    invoke: Invoke, evil: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(evil.parent)
    rows = Path("rows.csv")
    rows.write_text("text,label\ngood,nothing\nbad,other\n", "utf-8")
    result = invoke(*(argument.replace("{}", str(evil)) for argument in arguments))
    shown = result.stdout + result.stderr
    assert not set("\x1b\x07\x9b\r\u202e") & set(shown)
    assert not any(line.startswith("edgelm: error: forged") for line in shown.splitlines())
    tells = arguments[0] in ("run", "inspect", "compare") and not {"--placement", "summary"} & {*arguments}
    assert ("\\x9b2J" in shown) is tells


def test_json_stays_data(invoke: Invoke, evil: Path) -> None:
    answer = json.loads(invoke("run", "sentiment", "good", "--bundle", evil, "--json").stdout)
    assert answer["label"] == f"good{EVIL}"
    assert json.loads(invoke("inspect", evil, "--json").stdout)["serves"][1] == f"other{EVIL}"


def test_labels_stay_one_a_line(invoke: Invoke, evil: Path) -> None:
    result = invoke("run", "sentiment", "--bundle", evil, stdin="good\nbad\n")
    assert result.exit_code == 0, result.stderr
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [f"good{SEEN}", f"bad{SEEN}"]


def test_a_name_that_would_steer_is_refused_and_shown(invoke: Invoke, evil: Path) -> None:
    path = evil / "edgelm.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "name": NAME}), "utf-8")
    result = invoke("inspect", evil)
    assert (result.exit_code, set("\x9b\u202e") & set(result.stderr)) == (3, set())
    assert "name must be text on one line" in result.stderr
