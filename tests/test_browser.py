"""The page of a run in a real browser: at the widths of a phone and a desk, light and dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import browsing, made_runs
from tests.browsing import Browser, file_url, is_blank, wait
from tests.plots.test_palette import contrast
from tests.reports import test_suspects
from tests.statistics import test_calibration, test_folds, test_learning_curve
from tests.test_notebook import evaluation
from tfxfer import files, notebook, reports
from tfxfer.data_checks import record as suspects
from tfxfer.statistics import calibration, folds, learning_curve

SIZES = {"phone": (360, 740), "desk": (1280, 900)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Pages of runs with strange names of classes, a picture gone, with 2 and 1,000 classes, and with all parts."""
    top = tmp_path_factory.mktemp("pages")
    classes = {"names": made_runs.NASTY, "two": ("cat", "dog"), "many": [f"class number {n}" for n in range(1000)]}
    runs = {name: made_runs.make(top / name, found) for name, found in classes.items()}
    min((runs["names"] / "mistakes").iterdir()).unlink()
    runs["whole"] = made_runs.make(top / "fold-2", made_runs.NASTY)
    files.write_json(runs["whole"] / folds.FILE, test_folds.FOLDS.to_json())
    files.write_json(runs["whole"] / suspects.FILE, test_suspects.value())
    (runs["whole"] / calibration.FILE).write_bytes(calibration.to_bytes(test_calibration.made()))
    (runs["whole"] / learning_curve.FILE).write_bytes(learning_curve.to_bytes(test_learning_curve.made()))
    return {name: reports.report(run, command="tfxfer train --logdir=runs/again").write() for name, run in runs.items()}


def luminance(pixels: np.ndarray) -> float:
    return float(pixels.mean())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_the_page_is_readable_at_any_width_and_in_both_lights(browser: Browser, pages, size, dark):
    width, height = SIZES[size]
    shown = browser.open(file_url(pages["names"]), width=width, height=height, dark=dark)
    assert shown.overflow() == 0
    seen = shown.screenshot(f"report_{size}_{'dark' if dark else 'light'}", whole=True)
    assert seen.shape[1] == width
    assert not is_blank(seen)
    assert (luminance(seen) < 100) == dark
    assert shown.errors() == []


@pytest.mark.parametrize("name", ["two", "many", "whole"])
@pytest.mark.parametrize("width", [360, 1280, *(pytest.param(width, marks=pytest.mark.slow) for width in (320, 768))])
def test_no_page_is_wider_than_the_screen(browser: Browser, pages, name, width):
    shown = browser.open(file_url(pages[name]), width=width, height=740)
    shown.screenshot(f"report_{name}_{width}", whole=True)
    assert shown.overflow() == 0
    # With all that can be opened, too.
    shown.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert shown.overflow() == 0
    assert shown.errors() == []


def test_every_picture_is_drawn_and_says_what_it_is(browser: Browser, pages):
    shown = browser.open(file_url(pages["names"]))
    images = shown.find("img")
    assert len(images) == 5
    for image in images:
        assert image.get_property("naturalWidth") > 0
        assert image.get_attribute("alt")
        assert not is_blank(shown.pixels(image))
    charts = shown.find("svg[role=img]")
    assert len(charts) == 3
    for chart in charts:
        assert "by epoch" in chart.get_attribute("aria-label")
        assert not is_blank(shown.pixels(chart))
    [missing] = shown.find(".missing")
    assert missing.get_attribute("aria-label").startswith("Missing picture: ")


def test_names_are_text_and_no_script_of_theirs_has_run(browser: Browser, pages):
    shown = browser.open(file_url(pages["names"]))
    assert shown.run("return document.title").startswith("names: test accuracy 0.7")
    assert shown.find("script") == []
    names = shown.texts(".matrix tbody th")
    assert names == [name.replace("\x00", "\ufffd").replace("\udce9", "\ufffd") for name in made_runs.NASTY]


def test_even_a_script_that_got_in_would_not_run(browser: Browser, pages, tmp_path):
    text = pages["two"].read_text()
    changed = text.replace(
        "<main", "<script>document.title = 'taken'</script><img src='https://example.invalid/x'><main"
    )
    (tmp_path / "page.html").write_text(changed)
    shown = browser.open(file_url(tmp_path / "page.html"))
    assert shown.run("return document.title") != "taken"
    errors = shown.errors()
    assert len(errors) == 2
    assert all("Content Security Policy" in error for error in errors)


def test_numbers_stand_out_from_the_cell_that_they_stand_in(browser: Browser, pages):
    for dark in (False, True):
        shown = browser.open(file_url(pages["names"]), dark=dark)
        for cell in shown.find(".matrix td:not(.zero):not(:empty)"):
            ink, behind = (shown.run(f"return getComputedStyle(arguments[0]).{name}", cell)
                           for name in ("color", "backgroundColor"))  # fmt: skip
            if cell.text:
                assert contrast(parsed(shown, ink), parsed(shown, behind)) >= 3.9, (cell.text, ink, behind)


def parsed(shown: Browser, text: str) -> np.ndarray:
    """Return a colour of CSS as red, green and blue, by drawing it."""
    script = """
    const pen = document.createElement('canvas').getContext('2d');
    pen.fillStyle = arguments[0]; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)"""
    return np.array(shown.run(script, text.strip()))


# --- the harness itself ---


def test_a_browser_ends_with_all_that_it_started_even_if_a_test_fails(browser: Browser, tmp_path):
    profiles = []

    def fail() -> None:
        with browsing.chromium(tmp_path) as opened:
            profiles.append(opened.driver.capabilities["chrome"]["userDataDir"])
            assert browsing.running(profiles[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert browsing.running(profiles[0]) == []
    assert not Path(profiles[0]).exists()


def test_without_a_browser_tests_say_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browsing.why_not().startswith("no browser: chromium, chromedriver")


def test_waiting_is_bounded_and_says_for_what():
    with pytest.raises(AssertionError, match="waited 0 s in vain for rain"):
        wait(lambda: False, "rain", 0.2)
    assert wait(lambda: 3, "nothing") == 3


# --- in a notebook ---


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_tables_are_readable_in_a_notebook_and_the_page_is_a_frame_of_its_own(browser: Browser, tmp_path, dark):
    run = made_runs.make(tmp_path / "run", made_runs.NASTY)
    colours = "background:#111;color:#ddd" if dark else "background:#fff;color:#222"
    table = notebook.table(
        ["name", "n"], range(50), lambda number: [f"layer{number}/kernel " * 9, number], numbers=["n"]
    )
    shown = [evaluation(made_runs.NASTY)._repr_html_(), table, reports.report(run)._repr_html_()]
    page = tmp_path / "notebook.html"
    page.write_text(f"<!DOCTYPE html><meta charset=utf-8><body style='{colours}'>{''.join(shown)}", "utf-8", "replace")
    opened = browser.open(file_url(page), width=760, height=1400, dark=dark)
    assert opened.overflow() == 0
    [frame] = opened.find("iframe")
    opened.driver.execute_script("arguments[0].scrollIntoView({block: 'end'})", frame)
    opened.driver.switch_to.frame(frame)
    opened.driver.find_element("css selector", "nav a[href='#plan']").click()
    # The frame shows the section, and not another copy of the notebook.
    assert wait(lambda: opened.driver.execute_script("return window.scrollY") > 100, "the section")
    assert opened.driver.find_element("css selector", "h1").text == "run"
    opened.driver.switch_to.default_content()
    seen = opened.screenshot(f"notebook_{'dark' if dark else 'light'}")
    assert not is_blank(seen)
    assert (luminance(seen) < 100) == dark
    assert opened.errors() == []
