"""TensorBoard's pages of a run, each opened until it shows what it has: for tests, and for the pictures of the README.

    python -m tests.screens RUN DIR

opens a run of which all is shown in a headless Chromium, 1280 pixels wide, and writes tensorboard_scalars.png,
tensorboard_graph.png and tensorboard_images.png, each under 200 KB, into DIR. Those in docs/ are of

    tfxfer train --weights=checkpoints/digits_autoencoder --logdir=runs/shown --epochs=20 --summaries=all \\
        --unfreeze=10:conv2.*=0.1 --dropout=0.5 --summary_steps=20
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.browsing import Browser, board, chromium, wait

MOST_BYTES = 200_000
# Steps and values by the name of the line, as each chart itself has them.
_CHARTS = """
return arguments[0].filter(e => e._chart && e._chart.seriesNames).map(e => Object.fromEntries(e._chart.seriesNames.map(
  (name, k) => [name, e._chart.datasets[k].data().map(one => [one.step, one.scalar])])))
"""


def open_page(browser: Browser, url: str, name: str, **size: Any) -> Browser:
    """Open one of TensorBoard's pages."""
    browser.driver.switch_to.default_content()
    return browser.open(f"{url}#{name}", **size)


def at_rest(browser: Browser, seconds: float = 1.0) -> None:
    """Wait until the page looks the same for a while."""
    last: list[Any] = [None, time.monotonic()]

    def same() -> bool:
        seen = browser.driver.get_screenshot_as_png()
        if seen != last[0]:
            last[:] = seen, time.monotonic()
        return time.monotonic() - last[1] > seconds

    wait(same, "the page to come to rest")


def open_groups(browser: Browser) -> None:
    """Open all groups of a page."""
    for group in browser.find("tf-category-paginated-view"):
        if not browser.run("return arguments[0].opened", group):
            browser.run("arguments[0].shadowRoot.querySelector('button.heading').click()", group)


def charts(browser: Browser) -> list[dict[str, list[list[float]]]]:
    """Return what the line charts of a page show: points by the name of the run, or as the page calls the line."""
    found = browser.run(_CHARTS, browser.find("vz-line-chart2"))
    # On the page of scalars a line is called `["_default","train"]`.
    return [{re.sub(r'^\["_default","(.*)"\]$', r"\1", name): points for name, points in one.items()} for one in found]


def scalars(browser: Browser, url: str, page: str = "scalars", **size: Any) -> Browser:
    """Open a page of line charts, and all of its groups."""
    shown = open_page(browser, url, page, **size)
    wait(lambda: shown.find("tf-category-paginated-view"), "groups of charts")
    open_groups(shown)
    wait(lambda: charts(shown) and all(any(chart.values()) for chart in charts(shown)), f"lines on the page {page}")
    return shown


def images(browser: Browser, url: str, **size: Any) -> Browser:
    """Open the page of images, and all of its groups."""
    shown = open_page(browser, url, "images", **size)
    wait(lambda: shown.find("tf-category-paginated-view"), "groups of images")
    open_groups(shown)
    loaded = "return arguments[0].length && arguments[0].every(e => e.complete && e.naturalWidth)"
    wait(lambda: shown.run(loaded, pictures(shown)), "images")
    return shown


def pictures(browser: Browser) -> list[Any]:
    """Return the images on the page of images."""
    return browser.find("img[src*=individualImage]")


def graph(browser: Browser, url: str, *opened: str, **size: Any) -> Browser:
    """Open the graph, and boxes in it by name, from the outside in."""
    from selenium.webdriver.common.action_chains import ActionChains

    shown = open_page(browser, url, "graphs", **size)
    wait(lambda: nodes(shown), "nodes of the graph")
    for name in opened:
        at_rest(shown)
        ActionChains(shown.driver).double_click(nodes(shown)[name]).perform()
        wait(lambda name=name: any(other.startswith(f"{name}/") for other in nodes(shown)), f"what is in {name}")
    return shown


def nodes(browser: Browser) -> dict[str, Any]:
    """Return the nodes of the graph that are shown, by name."""
    return {node.get_attribute("data-name"): node for node in browser.find("g.node")}


def choose(browser: Browser, name: str) -> None:
    """Choose one of the graph's options, as `device` for the colour, by its name."""
    wanted = "return arguments[0].filter(e => e.name === arguments[1])"  # a property, and no attribute
    [option] = wait(lambda: browser.run(wanted, browser.find("paper-radio-button"), name), f"the option {name}")
    browser.run("arguments[0].click()", option)


def projector(browser: Browser, url: str, **size: Any) -> Browser:
    """Open the embedding projector, and go into its frames."""
    shown = open_page(browser, url, "projector", **size)
    for _ in range(2):
        wait(lambda: shown.find("iframe"), "the projector's frame")
        shown.driver.switch_to.frame(shown.find("iframe")[0])
    wait(lambda: any(text.isdecimal() and int(text) > 0 for text in shown.texts(".numDataPoints")), "points")
    return shown


def hparams(browser: Browser, url: str, **size: Any) -> Browser:
    """Open the table of hyperparameters."""
    shown = open_page(browser, url, "hparams", **size)
    wait(lambda: "Trial ID" in shown.texts("vaadin-grid-cell-content"), "the table of hyperparameters")
    return shown


def texts(browser: Browser, url: str, **size: Any) -> Browser:
    """Open the page of texts, and all of its groups."""
    shown = open_page(browser, url, "text", **size)
    wait(lambda: shown.find("tf-category-paginated-view"), "groups of texts")
    open_groups(shown)
    wait(lambda: shown.find("td"), "texts")
    at_rest(shown)
    return shown


# --- pictures for the README ---


def keep(pixels: np.ndarray, path: Path) -> None:
    """Write a screenshot as a PNG of 256 colours; refuse one that is too large."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    data = file.getvalue()
    if len(data) >= MOST_BYTES:
        raise SystemExit(f"{path} would have {len(data):,} bytes, more than {MOST_BYTES:,}")
    path.write_bytes(data)


def main(run: str, folder: str) -> None:
    with board(Path(run)) as url, tempfile.TemporaryDirectory() as kept, chromium(Path(kept)) as browser:

        def take(name: str, opened: Callable[[], Browser]) -> None:
            page = opened()
            if name == "graph":
                choose(page, "device")
            # The path of the run is that of whoever takes the picture.
            for element in page.find("#data-location"):
                page.run("arguments[0].textContent = ''", element)
            at_rest(page)
            if errors := page.errors():
                raise SystemExit("\n".join(errors))
            keep(page.screenshot(name), Path(folder, f"tensorboard_{name}.png"))

        take("scalars", lambda: scalars(browser, url, "custom_scalars", width=1280, height=820))
        take("graph", lambda: graph(browser, url, width=1280, height=800))
        take("images", lambda: images(browser, url, width=1280, height=1080))


if __name__ == "__main__":
    main(*sys.argv[1:])
