import pytest

from bbr.reading.undecoded import Undecoded
from tests.support.readings import cuts

LONG = b"x" * 300


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"model":"B"}', True),
        (b'\x0c\x16\x03{"model":"B"}', True),
        (b'\xc2\xa0/* */{"x":1,"MoDeL":"B"}', True),
        (b'{"\\u006do\\u0064\\u0065l":"B"}', True),
        (b'{"\\u006D\\u006F\\u0044\\u0065\\u006C":"B"}', True),
        (b"{'\\x6dod\\el':'B'}", True),
        (b"{'mo\\\ndel':'B'}", True),
        (b"{'mo\\\r\ndel':'B'}", True),
        (b"{'mo\\\xe2\x80\xa8del':'B'}", True),
        ('{"model":"B"}'.encode("utf-16-le"), True),
        (b"{" + LONG + b'"model":"B"}', True),
        (b'\x1f\x8b\x08{"model":"B"}', False),
        (b"\x1b{\0\0D\x91\x39\x95mode", False),
        (b'["model"]', False),
        (b"", False),
    ],
)
def test_names_model(body: bytes, names: bool) -> None:
    for pieces in cuts(body):
        looked = Undecoded()
        assert any(looked.names_model(piece) for piece in pieces) is names
