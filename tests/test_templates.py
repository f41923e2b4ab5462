import jinja2
import pytest

from gffnet.templates import fill

TABLE = {"title": "a < b & c", "headings": ["class", "IoU"], "rows": [["<script>", "1.0"]], "note": "", "numbers": True}


def page(**changes):
    return fill("evaluation", "scores.html.jinja", {"title": "x < y", "tables": [{**TABLE, "bar": None}], **changes})


def test_text_is_escaped():
    made = page()
    assert "x &lt; y" in made
    assert "&lt;script&gt;" in made
    assert "<script>" not in made


def test_a_variable_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="tables"):
        fill("evaluation", "scores.html.jinja", {"title": "x"})


def test_filters_are_there(monkeypatch):
    monkeypatch.setattr(jinja2, "PackageLoader", lambda *_: jinja2.DictLoader({"t": "{{ 2 | twice }} {{ '<' }}"}))
    assert fill("anywhere", "t", {}, {"twice": lambda x: 2 * x}) == "4 &lt;"
