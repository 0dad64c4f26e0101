"""Where an answer goes: to a stdout of any encoding, closed, or full."""

import orjson
import pytest

from bbr.commands import output


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "JSON"])
def test_what_nobody_could_see_is_spelled_out(capsys, as_json):
    text = orjson.dumps({"name": "a\u200b\ufeff\U000e0041é"}, option=orjson.OPT_INDENT_2).decode()
    output.write(text, as_json=as_json)
    out = capsys.readouterr().out
    beyond = "\\udb40\\udc41" if as_json else "\\U000e0041"
    assert out == '{\n  "name": "a\\u200b\\ufeff' + beyond + 'é"\n}'
    assert not as_json or orjson.loads(out) == orjson.loads(text)
