import pytest

from bbr.admin import forms
from tests.support.status_page import FORMED, HOSTILE


@pytest.mark.parametrize(("form", "value", "text"), FORMED)
def test_forms(form, value, text):
    assert forms.FORMS[form](value) == text


def test_every_form_is_tried():
    assert {form for form, _, _ in FORMED} == forms.FORMS.keys()


@pytest.mark.parametrize("text", HOSTILE)
def test_html_is_escaped(text):
    for html in (forms.value("text", text), forms.cell("name", text)):
        assert html.startswith("<bdi")
        assert html.replace("<wbr/>", "").count("<") == 2
        assert "'" not in html


def test_a_name_is_broken_behind_a_slash_or_a_hyphen():
    assert forms.cell("name", "a/b-c_d.e") == "<bdi>a/<wbr/>b-<wbr/>c_d.e</bdi>"
    assert forms.cell("name", "</b>") == "<bdi>&lt;/<wbr/>b&gt;</bdi>"
    assert forms.cell("text", "a/b-c") == "<bdi>a/b-c</bdi>"


@pytest.mark.parametrize(
    ("share", "level"),
    [(None, ""), (0.0, "ok"), (0.0099, "ok"), (0.01, "warn"), (0.049, "warn"), (0.05, "bad"), (1.0, "bad")],
)
def test_levels(share, level):
    assert forms.level(share) == level


def test_a_text_is_cut():
    assert forms.cut("abc", 3) == "abc"
    assert forms.cut("abcd", 3) == "ab…"
