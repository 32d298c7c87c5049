"""The recipe for gunicorn in docs/integration.md, served."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.markdown import blocks

pytest.importorskip("gunicorn", reason="needs the extra `dev`")


class Unix(http.client.HTTPConnection):
    """A connection to a socket in a folder: no port that something else may have."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


def ask(path: Path, text: str) -> str:
    connection = Unix(path)
    connection.request("POST", "/", text.encode("utf-8"))
    answer = connection.getresponse().read().decode("utf-8")
    connection.close()
    return answer


def test_gunicorn_with_preload_answers_and_ends(tmp_path: Path) -> None:
    (recipe,) = (one.text for one in blocks(ROOT / "docs" / "integration.md", "python") if "def app(" in one.text)
    (tmp_path / "reviews.py").write_text(recipe, "utf-8")
    path = tmp_path / "socket"
    call = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"unix:{path}", "reviews:app"]
    places = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": places, "HOME": str(tmp_path)}
    server = subprocess.Popen(call, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        until = time.monotonic() + 60
        while not path.exists() and time.monotonic() < until and server.poll() is None:
            time.sleep(0.05)
        answers = [ask(path, text) for text in ("很好，很喜欢！", "The zip broke after two days, terrible.") * 3]
        assert answers == ["positive", "negative"] * 3
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
    assert server.returncode == 0, said
    assert "signal" not in said.replace("Handling signal: term", ""), said
