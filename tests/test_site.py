"""The documentation site: built once, strictly; what is in it, what it loads, and how it looks in a browser."""

from __future__ import annotations

import fcntl
import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tfxfer
from tests.browsing import Browser, file_url, wait
from tfxfer.plots import palette
from tfxfer.tools import _flags, _main

ROOT = Path(__file__).resolve().parent.parent
TOOLS = sorted(_main.tools())
# What the theme's script would load only for what no page has: diagrams, a repository, a browser of 2019.
NEVER_LOADED = {
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js",
    "https://unpkg.com/resize-observer-polyfill",
    "https://api.github.com/repos/",
    "https://api.github.com/users/",
}


def build(out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out), *flags]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The built site. Of several workers one builds it, and the others wait."""
    top = tmp_path_factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top
    with (top / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (top / "site.built").exists():
            done = build(top / "site")
            assert done.returncode == 0, done.stderr[-5000:]
            (top / "site.built").write_text(done.stderr)
    return top / "site"


class Page(HTMLParser):
    """What a page holds: ids, text, and what a browser loads for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self._texts: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.text = "".join(self._texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids.add(values.get("id", ""))
        loads = values.get("src", ""), values.get("srcset", ""), values.get("style", ""), values.get("data", "")
        self.loads += [*loads, values["href"]] if tag == "link" and "href" in values else loads

    def handle_data(self, data: str) -> None:
        self._texts.append(data)


@functools.cache
def parsed(path: Path) -> Page:
    return Page(path)


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def reference(site: Path) -> list[Page]:
    return [parsed(path) for path in sorted((site / "reference").glob("*.html"))]


# --- what is in it ---


def test_the_site_has_every_page_of_its_navigation(site):
    # What is linked from the sidebar of the first page, the pages of the reference included.
    links = re.findall(r'<a href="([^"#:]+\.html)" class="md-nav__link', (site / "index.html").read_text())
    assert {"start.html", "guide/restore.html", "recipes.html", "reference/train.html", "changelog.html"} <= set(links)
    assert [link for link in links if not (site / link).is_file()] == []


def test_every_public_name_is_in_the_reference_as_users_write_it(site):
    names = set(tfxfer._HOMES)
    assert {f"tfxfer.{name}" for name in names} <= set().union(*(page.ids for page in reference(site)))
    text = " ".join(page.text for page in reference(site))
    assert {name for name in names if not re.search(rf"\btx\.{name}\b", text)} == set()


def test_examples_and_parameters_are_shown(site):
    page = parsed(site / "reference" / "train.html")
    for shown in ("Examples:", ">>> ", "Parameters:", "Raises:", "validation_steps"):
        assert shown in page.text, shown


def test_a_network_of_a_family_is_a_function_of_its_own(site):
    page = parsed(site / "reference" / "models.html")
    assert {"tfxfer.models.vgg.vgg16", "tfxfer.models.vgg.vgg19_bn", "tfxfer.models.resnet.resnet50"} <= page.ids
    assert "dict[str, Tensor] – Endpoints: input" in " ".join(page.text.split())  # noqa: RUF001
    assert "16 convolutions and 3 fully connected layers" in page.text


@pytest.mark.parametrize("tool", TOOLS)
def test_every_flag_of_a_tool_is_on_its_page_with_purpose_and_default(site, tool):
    page = parsed(site / "reference" / "tools" / f"{tool}.html")
    words = " ".join(page.text.split())
    values = importlib.import_module(f"tfxfer.tools.{tool}").define_flags()
    for flag in (values[name] for name in values):
        assert f"--{flag.name}" in page.ids
        purpose = _flags.purpose(flag).replace("`", "")
        assert f"{_flags.usage(flag)} {purpose} Default: {_flags.shown(flag.default)}" in words


def test_the_included_documents_are_pages(site):
    assert "These benchmarks measure tfxfer side by side" in parsed(site / "benchmarks.html").text
    assert tfxfer.__version__ in parsed(site / "changelog.html").text


# --- what it loads ---


def test_nothing_is_loaded_from_another_host(site):
    for path in pages(site):
        page = parsed(path)
        assert [url for url in page.loads if re.search(r"(?:^|[\s(,'\"])(?:https?:)?//", url)] == [], path
        assert "mermaid" not in page.text, path
    for path in sorted(site.rglob("*.css")):
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^)]*", path.read_text("utf-8")) == [], path
    scripts = " ".join(path.read_text("utf-8") for path in sorted(site.rglob("*.js")) if path.name != "search_index.js")
    assert set(re.findall(r"""["'`](https?://(?!www\.w3\.org)[^"'`$]+)["'`$]""", scripts)) <= NEVER_LOADED


def test_no_font_is_loaded(site):
    styles = " ".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert "@font-face" not in styles
    assert [path.name for path in site.rglob("*") if path.suffix in (".woff", ".woff2", ".ttf")] == []


def test_the_colours_are_those_of_the_report():
    style = (ROOT / "docs" / "assets" / "site.css").read_text()
    assert set(re.findall(r"#[0-9a-f]{6}\b", style)) <= {*palette.LIGHT.values(), *palette.DARK.values()}


# --- how it is built ---


@pytest.fixture(scope="module")
def hooks():
    """The scripts of docs/hooks, by name, as MkDocs loads them."""
    folder = str(ROOT / "docs" / "hooks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(folder)


def test_a_public_name_without_a_page_is_missed(hooks):
    assert hooks("reference").missing([*tfxfer._HOMES, "tell"]) == ["tell"]
    assert hooks("reference").missing(tfxfer._HOMES) == []


def test_a_name_that_is_gone_or_has_no_docstring_is_missed(hooks, monkeypatch, tmp_path, caplog):
    griffe = importlib.import_module("griffe")
    monkeypatch.setattr(hooks("reference"), "NAMES", ("plan", "bare", "gone"))
    (tmp_path / "tfxfer").mkdir()
    (tmp_path / "tfxfer" / "__init__.py").write_text('def plan():\n    """Plan."""\ndef bare(): ...\n')
    extensions = griffe.load_extensions(hooks("docstrings").Docstrings)
    griffe.load("tfxfer", search_paths=[tmp_path], extensions=extensions, try_relative_path=False)
    assert [record.getMessage() for record in caplog.records if record.name == "mkdocs.plugins.tfxfer"] == [
        "tx.bare has no docstring",
        "docs/hooks/reference.py names tx.gone, which is not there",
    ]


def test_docstrings_are_read_as_they_are_meant(hooks):
    text = (
        "Do it.\n\nArgs:\n  a, b: sides,\n    in pixels.\n  c: one, two: 3.\n\n"
        "Returns:\n  Ends: all.\n\nExample:\n  >>> 1"
    )
    sides = "  a: sides,\n    in pixels.\n  b: sides,\n    in pixels."
    shown = text.replace("  a, b: sides,\n    in pixels.", sides).replace("Example:", "Examples:")
    assert hooks("docstrings").rewritten(text, "list[str]") == shown.replace("  Ends:", "  list[str]: Ends:")


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("changelog.md", "[recipes](docs/recipes.md#flowers)", "[recipes](recipes.md#flowers)"),
        ("changelog.md", "![run](docs/report.png)", "![run](report.png)"),
        ("benchmarks.md", "[changes](../CHANGELOG.md)", "[changes](changelog.md)"),
        ("benchmarks.md", "[how](../BUILD.md)", "how"),
        ("guide/train.md", "[numbers](../../benchmarks/README.md)", "[numbers](../benchmarks.md)"),
        ("guide/train.md", "[restore](restore.md)", "[restore](restore.md)"),
        ("guide/train.md", "[gone](../../gone.md)", "[gone](../../gone.md)"),
        ("recipes.md", "[MNIST](../README.md#on-mnist), [a](https://a.example/b)", "MNIST, [a](https://a.example/b)"),
    ],
)
def test_links_of_included_documents_lead_to_pages(hooks, monkeypatch, page, before, after):
    pages = hooks("pages")
    monkeypatch.setattr(pages._Links, "page", page)
    assert pages._Links().run([before]) == [after]


def test_a_flag_stays_on_one_line(hooks):
    shown = hooks("pages").on_page_content("<code>--seed</code> <code>a --b</code>")
    assert shown == '<code class="flag">--seed</code> <code>a --b</code>'


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("<code>tx.fit</code>", "tfxfer.fit"),
        ("<code>tfxfer.Plan.report()</code>", "tfxfer.Plan"),
        ("<code>tx.graph.layers</code>", "tfxfer.graph.layers.conv2d"),
        ("<code>RunError</code>", "tfxfer.errors.RunError"),
        ("<code>tfxfer train --epochs=2</code>", "tool-train"),
        ("<code>tx.plan(x, exclude=['a'])</code>", "tfxfer.plan"),
        *((f"<code>{text}</code>", "") for text in ("tx.nothing", "ValueError", "tfxfer paint", "fit")),
        *((f"<{tag}><code>tx.fit</code></{tag}>", "") for tag in ("h2", "a", "pre")),
    ],
)
def test_names_errors_and_commands_in_text_lead_to_the_reference(hooks, code, place):
    linked = f'<autoref identifier="{place}">{code}</autoref>' if place else code
    assert hooks("pages").on_page_content(code) == linked


# --- in a browser ---

SHOWN = {"home": "index.html", "guide": "guide/restore.html", "reference": "reference/train.html"}
WIDTHS = {"phone": 390, "desk": 1280}


def loaded(browser: Browser) -> list[str]:
    return browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)")


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("name", SHOWN)
def test_a_page_fits_the_screen_and_says_no_error(browser: Browser, site, name, size):
    page = browser.open(file_url(site / SHOWN[name]), width=WIDTHS[size])
    page.screenshot(f"site_{name}_{size}")
    assert page.overflow() == 0
    assert page.errors() == []
    assert [url for url in loaded(page) if not url.startswith("file:")] == []


def test_the_search_finds_a_word_from_the_folder(browser: Browser, site):
    page = browser.open(file_url(site / "guide" / "restore.html"))
    page.find(".md-search__input")[0].send_keys("precompute")
    results = wait(lambda: page.texts(".md-search-result__item a h1, .md-search-result__item a h2"), "results")
    page.screenshot("site_search")
    assert any("precompute" in result for result in results)
    links = [link.get_attribute("href") for link in page.find(".md-search-result__item a")]
    assert any("/reference/features.html" in link for link in links)
    assert page.errors() == []


def test_dark_follows_the_system_and_switches(browser: Browser, site):
    scheme = "return document.body.getAttribute('data-md-color-scheme')"
    page = browser.open(file_url(site / "index.html"), dark=True)
    page.run("localStorage.clear()")
    page = browser.open(file_url(site / "index.html"), dark=True)
    assert page.run(scheme) == "slate"
    dark = page.screenshot("site_dark")
    page.run("document.querySelector('label.md-header__button:not([hidden])[for^=__palette]').click()")
    wait(lambda: page.run(scheme) == "default", "light colours")
    assert page.screenshot("site_light").mean() > 2 * dark.mean()
    page.run("localStorage.clear()")
