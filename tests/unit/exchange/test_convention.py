import orjson
import pytest

from bbr import refusal
from bbr.exchange.convention import Convention, Ours, immediate
from bbr.headers import BASE_MODEL_HEADER, DESTINATION_HEADER, MODEL_HEADER
from bbr.models.registry import Registry
from bbr.models.routing import Rules
from bbr.reading.base import read_through
from bbr.reading.document import DocumentReading
from bbr.reading.head import Dialect
from bbr.reading.json_body import UNSETTLED
from bbr.refusal import Refusal
from bench.harness.messages import set_headers


@pytest.mark.interpreted("makes an object of an abstract class")
def test_a_convention_says_everything() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Convention()  # type: ignore[abstract]


def test_a_model_is_one_string() -> None:
    ours = Ours()
    assert ours.model_at_once(b'{"model":"x"}', 256) == "x"
    assert ours.model_at_once(b'{"model":7}', 256) is UNSETTLED
    assert type(ours.open_document(256, 0)) is DocumentReading
    for whole_bytes in (0, 11):
        with pytest.raises(Refusal, match="number"):
            read_through(ours.open_document(256, whole_bytes), b'{"model":7}')
    assert ours.route(Registry(), Rules(), "x").base_model == "x"


def test_what_a_client_may_not_say_is_removed_everywhere() -> None:
    ours = Ours()
    removed = [MODEL_HEADER, BASE_MODEL_HEADER, DESTINATION_HEADER]
    for common in (
        ours.unread_headers().response,
        ours.headers(None, None, 7).response,
        ours.body(None, None).response,
    ):
        assert list(common.header_mutation.remove_headers) == removed
        assert common.clear_route_cache
    assert list(ours.trailers().header_mutation.remove_headers) == removed


def test_a_route_is_the_same_at_the_headers_and_at_the_body() -> None:
    ours = Ours()
    common = ours.headers("m", "b", None).response
    assert set_headers(common.header_mutation) == {MODEL_HEADER: b"m", BASE_MODEL_HEADER: b"b"}
    assert common == ours.headers("m", "b", 7).response == ours.body("m", "b").response
    assert not ours.sends_length


def test_errors_are_those_of_the_clients_api() -> None:
    refused = refusal.no_room()
    errors = [Ours().error(refused, dialect) for dialect in Dialect]
    assert [orjson.loads(error.body).get("type") for error in errors] == [None, "error"]
    assert {error.details for error in errors} == {"bbr:no-room"}
    assert set_headers(errors[0].headers)["retry-after"] == b"1"


def test_an_answer_of_the_routers_own_is_json() -> None:
    answer = immediate(200, b"{}", "bbr:x")
    assert (answer.status.code, answer.body, answer.details) == (200, b"{}", "bbr:x")
    assert set_headers(answer.headers) == {"content-type": b"application/json"}
