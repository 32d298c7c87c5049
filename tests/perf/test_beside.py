"""What the comparisons share: processes that fail say why, a peer that crashes is built again, rounds go in turns."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from perf.beside import page
from perf.beside import peers as peers_module
from perf.beside.harness import Bench, Row
from perf.beside.peers import Failed
from perf.decode.peers import Peer, peers
from perf.decode.protocol import Measured, Plan

PLAN = Plan(2, {}, [[1]], 4)


def test_a_process_that_fails_says_why_and_whether_it_crashed() -> None:
    with pytest.raises(Failed, match="exit code 3: no such model") as failed:
        peers_module.call(
            [sys.executable, "-c", "import sys; print('no such model', file=sys.stderr); sys.exit(3)"], 60
        )
    assert not failed.value.crashed
    with pytest.raises(Failed, match="signal 11") as failed:
        peers_module.call([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], 60)
    assert failed.value.crashed
    with pytest.raises(Failed, match="no end after"):
        peers_module.call([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)


def test_a_peer_that_crashes_is_built_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Sequence[str]] = []

    def call(command: Sequence[str], limit_s: float, extra: Any = None) -> str:
        calls.append(command)
        if "pip" in command:
            assert extra == {"CMAKE_ARGS": "-DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF"}
            return ""
        if len(calls) < crashes:
            raise Failed("signal 4: ", crashed=True)
        return json.dumps(asdict(Measured()))

    monkeypatch.setattr(peers_module, "call", call)
    for crashes in (2, 9):
        calls.clear()
        peer: Peer = next(peer for peer in peers() if peer.name == "llama_cpp")
        peer._python = "python"
        if crashes == 9:
            with pytest.raises(Failed, match="signal 4"):
                peer.measure(tmp_path, PLAN, tmp_path / "plan.json")
        else:
            assert peer.measure(tmp_path, PLAN, tmp_path / "plan.json") == Measured()
        assert len(calls) == 3
        assert calls[1][-1].startswith("llama-cpp-python==")
        assert "crashed on this machine and was built again" in peer.notes[0]


def test_rounds_go_forwards_and_backwards_and_one_that_fails_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def measure(peer: Peer, folder: Path, plan: Plan, scratch: Path) -> Measured:
        asked.append(folder.name)
        if folder.name == "b" and len(asked) > 3:
            raise Failed("exit code 1: it broke")
        return Measured(load_s=len(asked))

    monkeypatch.setattr(Peer, "measure", measure)
    bench = Bench(tmp_path, False, 2, peers())
    rows: list[Row[Peer, Plan, Measured]] = [Row(peers()[0], "int8", Path(name), 1, PLAN) for name in "abc"]
    came = bench.rounds(rows, 3, lambda: asked.append("first"))
    assert " ".join(asked) == "first a b c first c b a first a c"
    assert [row.folder.name for row in came] == ["a", "c"]
    assert bench.failures == ["b: exit code 1: it broke"]


def test_a_table_leaves_out_what_a_line_does_not_have() -> None:
    assert page.rows([{"engine": "a", "ms": 1.234}, {"engine": "b"}], ("engine", "ms")).splitlines()[2:] == [
        "| a | 1.23 |", "| b |  |"
    ]  # fmt: skip
