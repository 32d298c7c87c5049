"""A real, headless Chromium: its DevTools protocol over a pipe (chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "google-chrome", "chrome", "chromium-browser")  # the last is on Ubuntu often a stub of snap
_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)  # fmt: skip


def program() -> str | None:
    """The browser of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page of it. `events` are the notifications that came, in order."""

    def __init__(self, to: int, source: int) -> None:
        self._to, self._from = os.fdopen(to, "wb", buffering=0), os.fdopen(source, "rb")
        self._number = 0
        self._session: str | None = None
        self.events: list[Mapping[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """What a command of the protocol returns. Raises RuntimeError with its error."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        self._to.write(json.dumps(command).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _read(self) -> Mapping[str, Any]:
        data = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            data += byte
        message: Mapping[str, Any] = json.loads(data)
        if "method" in message:
            self.events.append(message)
        return message

    def show(self, path: Path, width: int, height: int = 1600, *, dark: bool = False) -> None:
        """Open a file in a window of this size, and wait until it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.scheme("dark" if dark else "light")
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def scheme(self, name: str) -> None:
        """light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def picture(self) -> bytes:
        """What the window shows, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in a folder; ended afterwards. Raises RuntimeError where there is none."""
    found = program()
    if found is None:
        raise RuntimeError(f"none of {', '.join(PROGRAMS)} is installed")
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    # the protocol's descriptors are 3 and 4, whatever numbers the pipes have here
    wrapped = ["bash", "-c", f'exec "$@" 3<&{command_read} 4>&{answer_write}', "browser"]
    process = subprocess.Popen(
        [*wrapped, found, *_SWITCHES, f"--user-data-dir={folder}"], pass_fds=(command_read, answer_write),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(command_read)
    os.close(answer_write)
    try:
        opened = Browser(command_write, answer_read)
        yield opened
        opened.call("Page.close")
    finally:
        process.terminate()
        process.wait(30)
