"""A real browser for tests: headless Chromium by selenium, local servers, screenshots that are kept.

    def test_the_page_shows_what_it_should(browser, tmp_path):
        page = browser.open(file_url(tmp_path / "report.html"), width=360, height=740, dark=True)
        assert page.overflow() == 0
        page.screenshot("report_phone_dark")
        assert page.errors() == []

Where Chromium, its driver or selenium is missing the tests skip and say which. Every wait is bounded, and browser and
servers are ended whatever happens. Screenshots go to $TFXFER_ARTEFACTS, or else to the test's own folder.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

SECONDS = 60  # the longest that anything is waited for
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def why_not() -> str:
    """Say what is missing for a browser; nothing if all is there."""
    missing = [] if any(map(shutil.which, CHROMIUM)) else ["chromium"]
    missing += [] if shutil.which("chromedriver") else ["chromedriver"]
    missing += [] if importlib.util.find_spec("selenium") else ["selenium"]
    return f"no browser: {', '.join(missing)} is not installed" if missing else ""


def file_url(path: Path) -> str:
    return path.resolve().as_uri()


def wait(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Call until the result counts as true, and return it; fail with `what` was waited for."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)
    return found


class Browser:
    """One Chromium; `open` shows a page in it.

    Attributes:
      driver: selenium's, for what is not here.
    """

    def __init__(self, profile: Path, artefacts: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(next(filter(None, map(shutil.which, CHROMIUM))))
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # The path of the driver is given, so that selenium never looks for one elsewhere; a session of its own, so that
        # all it starts can be ended with it; and no proxy, which would not know this machine.
        service = Service(shutil.which("chromedriver"), popen_kw={"start_new_session": True})
        with mock.patch.dict(os.environ, {"no_proxy": "localhost,127.0.0.1"}):
            self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(SECONDS)
        self.driver.set_script_timeout(SECONDS)
        self.artefacts = artefacts

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, scale: float = 1) -> Browser:
        """Show a page, in a viewport of this size in CSS pixels; what the console says from here on is this page's."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(url)
        return self

    def errors(self) -> list[str]:
        """Return what the console has called an error since the page was opened, or since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> list[Any]:
        """Return all elements that a CSS selector matches, those in shadow trees too."""
        return self.run(_FIND, selector)

    def texts(self, selector: str) -> list[str]:
        """Return the text of each element that a CSS selector matches, those in shadow trees too."""
        return self.run(f"return (function(){{{_FIND}}})(arguments[0]).map(e => e.textContent.trim())", selector)

    def overflow(self) -> int:
        """Return how many pixels the page is wider than the viewport."""
        return self.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth")

    def screenshot(self, name: str, *, whole: bool = False) -> np.ndarray:
        """Keep a screenshot as `name`.png and return it, uint8 [height, width, 3].

        Args:
          name: of the file.
          whole: the whole page, not only what is in the viewport.
        """
        options: dict[str, Any] = {"captureBeyondViewport": whole}
        if whole:
            size = self._command("Page.getLayoutMetrics", {})["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self._capture(options)
        self.artefacts.mkdir(parents=True, exist_ok=True)
        (self.artefacts / f"{name}.png").write_bytes(data)
        return _decoded(data)

    def pixels(self, element: Any) -> np.ndarray:
        """Return an element as it is drawn, as far as the viewport has room for it, uint8 [height, width, 3]."""
        left, top, right, bottom = self.run(_PLACE, element)
        seen = _decoded(self._capture({}))
        return seen[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)]

    def _capture(self, options: dict[str, Any]) -> bytes:
        return base64.b64decode(self._command("Page.captureScreenshot", {"format": "png", **options})["data"])

    def _command(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def quit(self) -> None:
        """End the browser and its driver, by force if they do not end by themselves."""
        group = self.driver.service.process.pid
        alarm = _after(SECONDS / 2, lambda: _kill(group))
        with contextlib.suppress(Exception):
            self.driver.quit()
        alarm.cancel()
        _kill(group)


_FIND = """
const found = [];
(function search(root) {
  found.push(...root.querySelectorAll(arguments[1]));
  for (const element of root.querySelectorAll('*'))
    if (element.shadowRoot) search(element.shadowRoot, arguments[1]);
})(document, arguments[0]);
return found;
"""


_PLACE = """
arguments[0].scrollIntoView({behavior: 'instant', block: 'center'});
const place = arguments[0].getBoundingClientRect(), scale = window.devicePixelRatio;
return [place.left, place.top, place.right, place.bottom].map(side => side * scale);
"""


def _decoded(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def is_blank(pixels: np.ndarray) -> bool:
    """Say whether a picture has next to no contrast."""
    return float(pixels.astype(np.float64).std()) < 2


def processes() -> dict[int, str]:
    """Return the command line of each process by its id; a zombie has none."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if line := path.read_bytes():
                found[int(path.parent.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def running(text: str) -> list[str]:
    """Return the command lines of processes that hold a text."""
    return [line for line in processes().values() if text in line]


@contextlib.contextmanager
def chromium(artefacts: Path) -> Iterator[Browser]:
    """Open a browser, and end it."""
    with tempfile.TemporaryDirectory(prefix="tfxfer_browser_", ignore_cleanup_errors=True) as profile:
        opened = Browser(Path(profile), artefacts)
        try:
            yield opened
        finally:
            opened.quit()


@pytest.fixture(scope="module")
def one_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a module."""
    if reason := why_not():
        pytest.skip(reason)
    with chromium(tmp_path_factory.mktemp("artefacts")) as opened:
        yield opened


@pytest.fixture
def browser(one_chromium: Browser, tmp_path: Path) -> Browser:
    """A browser whose screenshots go to $TFXFER_ARTEFACTS, or else to the test's own folder."""
    one_chromium.artefacts = Path(os.environ.get("TFXFER_ARTEFACTS") or tmp_path / "artefacts")
    return one_chromium


# --- TensorBoard ---


@contextlib.contextmanager
def board(logdir: Path, *flags: str) -> Iterator[str]:
    """Start `tfxfer board` on a run directory, yield TensorBoard's address, and stop it."""
    command = [str(Path(sys.executable).with_name("tfxfer")), "board", str(logdir), *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield address(process)
    finally:
        stop(process)


def address(process: subprocess.Popen[str]) -> str:
    """Return the address that `tfxfer board` prints once it answers."""
    said: list[str] = []
    alarm = _after(SECONDS, lambda: _kill(process.pid))
    try:
        for line in process.stdout:
            said.append(line)
            if "http://" in line:
                return "http://" + line.split("http://")[1].split()[0]
    finally:
        alarm.cancel()
    raise AssertionError(f"tfxfer board gave no address in {SECONDS} s:\n{''.join(said)}")


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    """Ask a process to stop, wait for it, and end whatever is left of its group; return its exit status."""
    try:
        process.send_signal(number)
        return process.wait(SECONDS / 2)
    finally:
        _kill(process.pid)
        process.wait()
        process.stdout.close()


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _after(seconds: float, call: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer
