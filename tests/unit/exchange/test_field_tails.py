import pytest

from bbr.exchange.convention import overwriting
from bbr.exchange.field_tails import FieldTails
from bbr.exchange.replies import Replies
from bbr.pb.ext_proc_pb2 import HeaderValueOption
from bench.harness.messages import parse, set_headers

HEADERS = FieldTails(["X-User", "x-session"], overwriting, in_body=False)
IN_BODY = FieldTails(["X-User", "x-session"], overwriting, in_body=True)
ROUTED = Replies().route(("m", "b", None))
BODY = Replies().decided_body(("m", "b", None), "routed")


@pytest.mark.parametrize("size", [1, 2, 100, 110, 127, 128, 300, 4096])
def test_what_stands_behind_an_answer_is_merged_into_it(size: int) -> None:
    value = b"v" * size
    for _ in range(2):  # built, and found again
        told = parse(HEADERS.behind(ROUTED, [value, None])).request_headers.response
        assert set_headers(told.header_mutation)["X-User"] == value
        assert set_headers(told.header_mutation)["X-Gateway-Model-Name"] == b"m"
        assert "x-session" in told.header_mutation.remove_headers
        assert told.clear_route_cache
        told = parse(IN_BODY.behind(BODY, [None, value])).request_body.response
        assert set_headers(told.header_mutation)["x-session"] == value
        assert "x-user" in told.header_mutation.remove_headers
        assert told.header_mutation.set_headers[-1].append_action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def test_values_that_look_like_what_is_around_them() -> None:
    for value in (b"X-User", b"x", b"\xc3\xa9", b"-", b"U"):
        told = parse(HEADERS.behind(ROUTED, [value, b"x-session"])).request_headers.response
        assert set_headers(told.header_mutation)["X-User"] == value
        assert set_headers(told.header_mutation)["x-session"] == b"x-session"


def test_more_lengths_than_are_remembered() -> None:
    tails = FieldTails(["x-user"], overwriting, in_body=False)
    for size in (*range(1, 1_100), 1):
        told = parse(tails.behind(ROUTED, [b"v" * size])).request_headers.response
        assert set_headers(told.header_mutation)["x-user"] == b"v" * size
        assert len(tails._begun[0]) <= 256
