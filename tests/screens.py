"""TensorBoard's pages of a run, each opened until it shows what it has: for tests, and for the pictures of the README.

    python tests/screens.py RUN DIR

opens a run, of which all is shown (--summaries=all), in a headless Chromium at 1280x800, and writes
tensorboard_scalars.png, tensorboard_graph.png and tensorboard_images.png, each under 200 KB, into DIR. Those in docs/ are of

    tfxfer train --weights=checkpoints/digits_autoencoder --logdir=runs/shown --epochs=20 --summaries=all \\
        --unfreeze=10:conv2.*=0.1 --dropout=0.5 --summary_steps=20
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from browsing import Browser, board, chromium, wait

MOST_BYTES = 200_000
# Series and points of a line chart, as the chart itself has them.
_CHARTS = """
return arguments[0].filter(e => e._chart).map(e => Object.fromEntries(
  e._chart.seriesNames.map((name, k) => [name, e._chart.datasets[k].data().map(one => [one.step, one.scalar])])))
"""


def open_page(browser: Browser, url: str, name: str, **size: Any) -> Browser:
    """Open one of TensorBoard's pages, as `scalars`."""
    browser.driver.switch_to.default_content()
    return browser.open(f"{url}#{name}", **size)


def charts(browser: Browser) -> list[dict[str, list[list[float]]]]:
    """Return what the line charts that are open show: points by the name of the line."""
    return browser.run(_CHARTS, browser.find("vz-line-chart2"))


def scalars(browser: Browser, url: str, page: str = "scalars", **size: Any) -> Browser:
    """Open a page of line charts."""
    shown = open_page(browser, url, page, **size)
    wait(lambda: any(any(chart.values()) for chart in charts(shown)), f"lines on the page {page}")
    return shown


def images(browser: Browser, url: str, **size: Any) -> Browser:
    """Open the page of images, all groups of which are open."""
    shown = open_page(browser, url, "images", **size)
    wait(lambda: shown.find("tf-image-loader"), "images")
    wait(
        lambda: shown.run(
            "return arguments[0].length && arguments[0].every(e => e.complete && e.naturalWidth)", pictures(shown)
        ),
        "images to be loaded",
    )
    return shown


def pictures(browser: Browser) -> list[Any]:
    """Return the images of the page of images."""
    return browser.find("img[src*=individualImage]")


def graph(browser: Browser, url: str, *opened: str, **size: Any) -> Browser:
    """Open the graph, and boxes in it by name, from the outside in."""
    shown = open_page(browser, url, "graphs", **size)
    wait(lambda: nodes(shown), "nodes of the graph")
    for name in opened:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(shown.driver).double_click(nodes(shown)[name]).perform()
        wait(lambda name=name: any(other.startswith(f"{name}/") for other in nodes(shown)), f"what is in {name}")
    return shown


def nodes(browser: Browser) -> dict[str, Any]:
    """Return the nodes of the graph that are shown, by name."""
    return {node.get_attribute("data-name"): node for node in browser.find("g.node")}


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
    """Open the page of texts, and all groups of it."""
    shown = open_page(browser, url, "text", **size)
    wait(lambda: shown.find("td"), "tables")
    for group in shown.find("tf-category-paginated-view button.heading"):
        if group.get_attribute("open-button") is None and not group.get_attribute("aria-expanded"):
            continue
    return shown


# --- pictures for the README ---


def keep(pixels: Any, path: Path) -> None:
    """Write a screenshot as a PNG of 256 colours; fail if it is too large."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    data = file.getvalue()
    assert len(data) < MOST_BYTES, f"{path} would have {len(data):,} bytes"
    path.write_bytes(data)


def main(run: str, folder: str) -> None:
    size = {"width": 1280, "height": 800}
    with board(Path(run)) as url, tempfile.TemporaryDirectory() as kept, chromium(Path(kept)) as browser:
        for name, shown in (
            ("scalars", lambda: scalars(browser, url, "custom_scalars", **size)),
            ("graph", lambda: graph(browser, url, **size)),
            ("images", lambda: images(browser, url, **size)),
        ):
            page = shown()
            page.driver.implicitly_wait(0)
            import time

            time.sleep(2)  # for what moves to come to rest
            keep(page.screenshot(name), Path(folder, f"tensorboard_{name}.png"))
            assert page.errors() == []


if __name__ == "__main__":
    main(*sys.argv[1:])
