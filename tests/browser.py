"""Chromium without a window, driven over a pipe by its own protocol (CDP): what a person would see,
whatever the page logs, and every address that it asks for."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Tab:
    """A page in a browser. What it complained about is in ``troubles``, what it asked for in
    ``asked``."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._held = commands, answers, b""
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.troubles: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._commands, json.dumps(order).encode() + b"\0")
        while True:
            message = self._message(30.0)
            assert message is not None, f"{method} is not answered"
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]

    def _message(self, patience: float) -> dict[str, Any] | None:
        while b"\0" not in self._held:
            if not select.select([self._answers], [], [], patience)[0]:
                return None
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has gone"
            self._held += more
        one, _, self._held = self._held.partition(b"\0")
        message = json.loads(one)
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown":
                self.troubles.append(str(message["params"]["exceptionDetails"]))
            case "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["level"] in ("warning", "error"):
                    self.troubles.append(f"{entry['text']} {entry.get('url', '')}")
            case "Runtime.consoleAPICalled":
                self.troubles.append(str(message["params"]["args"]))
        return message

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The value of an expression on the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, patience: float = 30.0) -> Any:
        """Wait until an expression on the page is true, and return its value."""
        end = time.monotonic() + patience
        while not (found := self.js(expression)):
            assert time.monotonic() < end, f"it never came to be that {expression}; {self.troubles}"
            time.sleep(0.1)
        return found

    def picture(self, path: Path, *, whole: bool = True) -> None:
        made = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))


@contextmanager
def browser() -> Iterator[Tab]:
    """A fresh browser with one page."""
    assert CHROMIUM is not None
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        words = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            f"--user-data-dir={home}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', *words],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            tab = Tab(ours_out, ours_in)
            yield tab
        finally:
            os.close(ours_out)  # the end of its orders is the end of the browser
            os.close(ours_in)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
