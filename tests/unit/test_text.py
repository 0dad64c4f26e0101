import json

import orjson
import pytest

from bbr.text import dumps, encodable, printable


@pytest.mark.parametrize(("text", "found"), [("é\n", "é\n"), ("a\udcffb", "a\\udcffb"), ("", "")])
def test_a_text(text, found):
    assert encodable(text) == found


@pytest.mark.parametrize(
    ("text", "found"), [("é x", "é x"), ("\x1b[31m\u202e\udcff", "\\x1b[31m\\u202e\\udcff"), ("", "")]
)
def test_a_text_for_a_terminal(text, found):
    assert printable(text) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": ["x\udcff", ("y", 1, None)]}, {"a": ["x\\udcff", ["y", 1, None]]}),
        ({"\udcff": 1 << 70, 3: True}, {"\\udcff": str(1 << 70), "3": True}),
        ([1, "é"], [1, "é"]),
    ],
)
def test_json(value, found):
    assert json.loads(dumps(value)) == json.loads(dumps(value, option=orjson.OPT_INDENT_2)) == found


def test_what_is_no_json_is_an_error_or_the_callers_business():
    with pytest.raises(TypeError):
        dumps({"x": object(), "y": "\udcff"})
    found = json.loads(dumps({"x": object(), "y": "\udcff"}, default=lambda _: "other"))
    assert found == {
        "x": "other",
        "y": "\\udcff",
    }
