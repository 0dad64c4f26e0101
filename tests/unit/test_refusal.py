import inspect
import re

import pytest

from bbr import refusal
from bbr.refusal import MAX_ECHO_CHARACTERS, Refusal

EXAMPLES = [
    refusal.model_not_found("m"),
    refusal.model_missing(),
    refusal.default_model_unknown(),
    refusal.table_incomplete(),
    refusal.model_not_allowed("qwen"),
    refusal.model_not_string("null"),
    refusal.model_empty(),
    refusal.model_too_long(300, 256),
    refusal.model_illegal("it holds a control character"),
    refusal.model_duplicate(),
    refusal.model_spelling(),
    refusal.field_duplicate("user"),
    refusal.field_spelling("user"),
    refusal.field_type("user", "an array", wanted_object=False),
    refusal.field_too_long("user", 256),
    refusal.field_illegal("user", "it holds a control character"),
    refusal.invalid_json("invalid-json", "unexpected end of data", 7),
    refusal.trailing_blanks(65536),
    refusal.body_too_large(8),
    refusal.no_room(),
    refusal.body_cut_off(7),
    refusal.body_in_pieces(),
    refusal.body_mode_unknown(9),
    refusal.headers_not_sent(),
    refusal.body_timeout(60),
    refusal.body_too_slow(512),
    refusal.model_disagrees("URL path", "a", "request body", "b"),
    refusal.path_ambiguous("it holds an escaped slash"),
    refusal.model_in_list(),
    refusal.url_too_long("path", 4096),
    refusal.headers_stray(50),
    refusal.headers_too_many(1000),
    refusal.headers_too_large(1000),
    refusal.alias_not_replaced("gpt"),
    refusal.content_type_too_long(1024),
    refusal.content_type_ambiguous("it is JSON"),
    refusal.multipart_boundary("it has no parameter `boundary`"),
    refusal.multipart_invalid("a part has no Content-Disposition"),
    refusal.multipart_model("its part has a filename"),
    refusal.multipart_too_many("parts", 1000),
    refusal.multipart_cut_off(),
    refusal.form_model("form", "it is not UTF-8"),
    refusal.charset_unknown("utf-16"),
    refusal.encoding_unknown("compress", "gzip, br"),
    refusal.encoding_layers(4, 3, "gzip, br"),
    refusal.encoding_corrupt("gzip"),
    refusal.encoding_cut_off(),
    refusal.encoding_ambiguous(),
    refusal.encoding_members("zstd", 9),
    refusal.decoded_too_large(9),
    refusal.decoded_ratio(200),
]


@pytest.mark.interpreted("asks for the functions of a module")
def test_every_refusal_has_an_example_here() -> None:
    makers = [
        name
        for name, function in inspect.getmembers(refusal, inspect.isfunction)
        if inspect.signature(function).return_annotation is Refusal
    ]
    assert len(makers) == len(EXAMPLES)


def test_reasons_are_distinct_names() -> None:
    reasons = [example.reason for example in EXAMPLES]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", reason) for reason in reasons)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.reason)
def test_messages_are_sentences(example: Refusal) -> None:
    assert re.fullmatch(r"[A-Z`].*\.", example.message)
    assert 400 <= example.status < 600
    assert example.type == ("server_error" if example.status >= 500 else "invalid_request_error")
    assert str(example) == example.message


def test_echoed_names_are_cut() -> None:
    message = refusal.model_not_found("x" * 1000).message
    assert "x" * MAX_ECHO_CHARACTERS + "..." in message
    assert "x" * (MAX_ECHO_CHARACTERS + 1) not in message


def test_place_is_added_to_the_sentence() -> None:
    refused = refusal.model_empty().at(17)
    assert refused.message.endswith("(At byte 17 of the body.)")
    assert (refused.status, refused.reason, refused.param, refused.offset) == (400, "model-empty", "model", 17)
    assert refused.unnamed
    assert not refusal.model_empty("URL path").unnamed


def test_an_operator_reads_where_the_name_stands() -> None:
    too_long = refusal.model_too_long(9, 8)
    assert too_long.about("the alias") == "the alias is 9 bytes long in UTF-8; at most 8 are allowed"
    illegal = refusal.model_illegal("it has a control character")
    assert illegal.about("it") == "it cannot be used as a model name: it has a control character"


def test_a_length_that_nobody_counted_is_not_told() -> None:
    assert (
        refusal.model_too_long(None, 256).message
        == "`model` is more than 256 bytes long in UTF-8, the most that are allowed."
    )


@pytest.mark.parametrize("refused", [refusal.encoding_unknown("x", "gzip"), refusal.encoding_layers(4, 3, "gzip")])
def test_the_known_encodings_are_told_in_a_header(refused: Refusal) -> None:
    assert refused.headers == (("accept-encoding", b"gzip"),)
    assert refused.at(7).headers == refused.headers
