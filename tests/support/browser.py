"""Pages in headless Chromium, over the DevTools protocol on a pair of pipes.

`python -m tests.support.browser PAGE FOLDER` writes screenshots of a page at three widths, light
and dark, and the printed page.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

WIDTHS = (360, 1024, 1920)
"""A phone, a small and a large screen, in CSS pixels."""

ANSWER_S = 120.0
"""Time for an answer on a machine that does other things too."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)

LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from file descriptor 3 and writes answers to 4."""


def chromium() -> str | None:
    """Return the program, or None if it is not installed."""
    return shutil.which("chromium")


class Browser:
    """A running Chromium with an empty profile."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._send = os.pipe()
        self._receive, answers = os.pipe()
        command = [sys.executable, "-c", LAUNCHER, str(commands), str(answers), program, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    @classmethod
    @contextmanager
    def running(cls, program: str) -> Iterator[Self]:
        """Yield a browser and end it."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = cls(program, Path(profile))
            try:
                yield browser
            finally:
                browser.close()

    def close(self) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(ANSWER_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._send)
            os.close(self._receive)

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events on the way are collected."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._send, data) :]
        while True:
            answer = self._next(method)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str, session: str) -> None:
        """Wait for an event that may have come already."""
        while not any(e.get("method") == method for e in self.of_session(session)):
            self.events.append(self._next(method))

    def of_session(self, session: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("sessionId") == session]

    def _next(self, waiting_for: str) -> dict[str, Any]:
        end = time.monotonic() + ANSWER_S
        while b"\0" not in self._rest:
            left_s = end - time.monotonic()
            ready, _, _ = select.select([self._receive], [], [], max(left_s, 0))
            assert ready, f"no answer from Chromium for {waiting_for} in {ANSWER_S:g} s"
            data = os.read(self._receive, 1 << 16)
            assert data, f"Chromium ended before {waiting_for}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)


class Page:
    """A page that was loaded at a width."""

    def __init__(
        self, browser: Browser, path: Path, width: int, *, scheme: str = "light", media: str = ""
    ) -> None:
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        self.call("Page.navigate", url=path.resolve().as_uri())
        browser.wait("Page.loadEventFired", self.session)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    @property
    def problems(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        self.evaluate("0")
        wrong: list[str] = []
        for event in self.browser.of_session(self.session):
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    wrong.append(str(params["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                    wrong.append(str(params["args"]))
                case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                    wrong.append(params["entry"]["text"])
        return wrong

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(image["data"]))

    def pdf(self, path: Path) -> None:
        """Write the printed page."""
        data = self.call("Page.printToPDF", printBackground=False)["data"]
        path.write_bytes(base64.b64decode(data))


def main(page: Path, folder: Path) -> None:
    program = chromium()
    assert program, "chromium is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    with Browser.running(program) as browser:
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                opened = Page(browser, page, width, scheme=scheme)
                opened.screenshot(folder / f"{scheme}-{width}.png")
        Page(browser, page, 1024, scheme="dark").pdf(folder / "printed.pdf")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
