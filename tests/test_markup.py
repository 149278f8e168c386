"""HTML from Python values: any text comes out as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.reports.pages import Parsed
from tfxfer.markup import Markup, escape, join, tag


@given(st.text())
def test_any_text_comes_out_as_it_went_in_and_makes_no_tag(text):
    parsed = Parsed(tag("p", text, title=text))
    assert [name for name, _ in parsed.tags] == ["p"]
    legal = str(escape(text))
    assert "".join(parsed.texts) == "".join(Parsed(legal).texts)
    legal.encode()  # no lone surrogate is left
    if text.isalnum() and text.isascii():
        assert ("".join(parsed.texts), parsed.all("p")[0]["title"]) == (text, text)


def test_what_html_cannot_hold_becomes_a_replacement_character():
    assert escape("a\x00b\udce9c\x85d\uffff") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert escape("tab\tline\n\N{SUNFLOWER}") == "tab\tline\n\N{SUNFLOWER}"


def test_markup_is_not_escaped_again_and_nothing_else_escapes_escaping():
    inner = tag("b", "<i>", hidden=True, title=None, open=False)
    assert inner == "<b hidden>&lt;i&gt;</b>"
    assert join([inner, (part for part in ("<", None, 1)), Markup("<br>")]) == f"{inner}&lt;1<br>"
    assert tag("img", alt="\"x\" 'y' <&>") == '<img alt="&quot;x&quot; &#x27;y&#x27; &lt;&amp;&gt;"/>'
