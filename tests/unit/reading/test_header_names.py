import pytest

from bbr.pb.ext_proc_pb2 import HeaderValue
from bbr.reading.head import read_head
from bbr.reading.header_names import BEGINNING_BYTES, NO_NAMES, GuardedNames
from bench.harness.messages import header_map

NAMES = GuardedNames(["X-Gateway-Model-Name", "x-y", "secret"])


@pytest.mark.parametrize(
    "key",
    ["x_gateway_model_name", "x-gateway_model-name", "x.gateway.model.name", "x~gateway!model|name", "X_Y", "x_y"],
)
def test_other_spellings(key: str) -> None:
    assert NAMES.is_other_spelling(key)
    assert HeaderValue(key=key.lower()).SerializeToString()[:BEGINNING_BYTES] in NAMES.beginnings
    assert read_head(header_map([(key.lower(), "a")]), NAMES).other_spellings == (key.lower(),)


@pytest.mark.parametrize(
    "key",
    ["x-gateway-model-name", "X-Gateway-Model-Name", "x-gateway-model-name2", "xgatewaymodelname", "x-z", "secret", ""],
)
def test_other_names(key: str) -> None:
    assert not NAMES.is_other_spelling(key)
    assert read_head(header_map([(key, "a")]), NAMES).other_spellings == ()


def test_each_is_told_once() -> None:
    headers = header_map([("x_y", "a"), ("x_y", "b"), ("x-y", "c"), ("x.y", "d"), ("content-type", "text/plain")])
    assert NAMES.other_spellings(headers) == read_head(headers, NAMES).other_spellings == ("x_y", "x.y")
    assert NO_NAMES.other_spellings(headers) == read_head(headers).other_spellings == ()
