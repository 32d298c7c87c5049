"""``edgelm export --precision auto`` as a user calls it: limits, interrupts, the progress bar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from tests.cli.conftest import Invoke, Start

pytest.importorskip("edgelm_export.pipeline", reason="needs the extra `export`")

from tests.export import tiny
from tests.export.rows import reviews, write_rows

SAVED = {"encoder": tiny.save_bert, "decoder": lambda folder: tiny.save_gpt2(folder, prompts={"summary": "{text}"})}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows for a classifier and for a writer at once."""
    return write_rows(tmp_path / "dev.jsonl", [{**row, "summary": row["text"]} for row in reviews(40)])


@pytest.mark.parametrize("kind", SAVED)
def test_limits_are_kept_or_refused_with_the_best_that_was_reached(
    invoke: Invoke, kind: str, tmp_path: Path, rows: Path
) -> None:
    checkpoint, out = SAVED[kind](tmp_path / "checkpoint"), tmp_path / "work" / "bundle"
    (checkpoint / "generation_config.json").write_text('{"max_new_tokens": 8}', "utf-8")
    auto = ("export", checkpoint, "--out", out, "--precision", "auto", "--eval", rows)

    refused = invoke(*auto, "--size-limit", "0.001")
    assert (refused.exit_code, list(out.parent.iterdir())) == (7, [out.parent / ".bundle.search.json"])
    assert "--size-limit 0.001 was not reached: of the bundles that answer like the checkpoint" in refused.stderr
    assert "the smallest has 0." in refused.stderr

    slow = invoke(*auto, "--latency-limit", "1e-6", "--best-effort", "--json")
    assert slow.exit_code == 0, slow.stderr
    found = _search(out)
    fastest = min(point["ms"] for point in found["points"])
    assert [point["ms"] for point in found["points"] if point["name"] == found["chosen"]] == [fastest]

    whole = next(point["bytes"] for point in found["points"] if point["name"] == "fp32")
    limit = 0.6 * whole / 1e6
    kept = invoke(*auto, "--size-limit", limit, "--latency-limit", "500", "--json", "--force")
    assert kept.exit_code == 0, kept.stderr
    report, found = json.loads(kept.stdout), _search(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    assert report["bundle_bytes"] <= size <= 1e6 * limit
    assert report["latency"]["token_ms" if kind == "decoder" else "answer_ms"] < 500
    points = {point["name"]: point for point in found["points"]}
    under = [point["drop"] for point in points.values() if point["bytes"] <= 1e6 * limit]
    assert points[found["chosen"]]["drop"] == min(under)
    assert size <= points[found["chosen"]]["bytes"]  # what the search counted with has room for all


def _search(bundle: Path) -> Any:
    return json.loads((bundle / "edgelm.json").read_text("utf-8"))["quality"]["search"]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX")
def test_an_interrupted_search_leaves_its_memory_and_goes_on_with_a_bar_on_a_terminal(
    start: Start, environment: dict[str, str], tmp_path: Path, rows: Path
) -> None:
    checkpoint, folder = tiny.save_bert(tmp_path / "checkpoint"), tmp_path / "work"
    memory = folder / ".bundle.search.json"
    command = ("export", checkpoint, "--out", folder / "bundle", "--precision", "auto", "--eval", rows)
    process = start(*command)
    end = monotonic() + 120
    while not (memory.exists() and json.loads(memory.read_text("utf-8"))["harms"]):
        assert process.poll() is None, process.communicate()
        assert monotonic() < end
        sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert b"%|" not in said  # no bar in a pipe
    assert list(folder.iterdir()) == [memory]
    before = json.loads(memory.read_text("utf-8"))

    shown = _on_a_terminal([*command, "--report", folder / "report"], environment)
    assert b"layers: 100%" in shown
    assert b"all int8-mixed" in shown
    trade = json.loads((folder / "report" / "trade.json").read_text("utf-8"))
    harms = {layer["name"]: layer["harms"] for layer in trade["layers"]}
    assert all(harms[name][used] == harm for name, found in before["harms"].items() for used, harm in found.items())
    assert not memory.exists()


def _on_a_terminal(arguments: list[object], environment: dict[str, str]) -> bytes:
    """What the command shows on stderr where that is a terminal; it has to succeed."""
    import termios  # is POSIX as well

    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, "-m", "edgelm", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how the other end of a pseudo-terminal says that it is closed
            while piece := os.read(screen, 4096):
                shown += piece
    os.close(screen)
    assert process.returncode == 0, shown
    return shown
