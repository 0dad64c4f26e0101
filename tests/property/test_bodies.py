"""Readers of bodies: where a body is cut carries no meaning, nothing but a Refusal is raised, and no other parser that
takes a body reads another model out of it."""

import contextlib
import gzip
import random
import zlib
from urllib.parse import parse_qsl

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.reading.encodings import Limits
from bbr.reading.templates import parse_templates
from bbr.reading.uri import model_in_path, model_in_query
from bbr.reading.zstd import zstd
from bbr.refusal import Refusal
from tests.support import multiparts
from tests.support.bodies import cut, decode, outcome, read_form, read_multipart

CASES = 20_000

places = st.lists(st.integers(0, 1 << 20), max_size=8)
seeds = st.integers(0, 1 << 32)
parts = st.lists(st.sampled_from(multiparts.FRAGMENTS) | st.binary(max_size=5), max_size=10).map(b"".join)
multipart_bodies = parts | seeds.map(random.Random).map(multiparts.random_body)
FORM_FRAGMENTS = (
    b"&", b";", b"=", b"model", b"mode", b"%6dodel", b"m%6Fdel", b"model=a", b"&model=", b"[]", b"%5B", b"+", b"?",
    b"%20", b"%00", b"%", b"%C3%A9", b"\xff", b"x=1", b"a" * 300, b"%61" * 200,
)  # fmt: skip
forms = st.lists(st.sampled_from(FORM_FRAGMENTS) | st.binary(max_size=4), max_size=9).map(b"".join)
ENCODE = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda octets: brotli.compress(octets, quality=3),
    "zstd": zstd.compress,
}
codings = st.lists(st.sampled_from(sorted(ENCODE)), min_size=1, max_size=3)
contents = st.binary(max_size=300) | st.integers(0, 60_000).map(bytes) | st.sampled_from([b"ab" * 30_000, b'{"a":1}'])


@given(multipart_bodies, places)
def test_multipart_is_read_alike_however_it_is_cut(body: bytes, cuts: list[int]) -> None:
    whole = outcome(read_multipart, [body], b"XyZ", 20)
    assert outcome(read_multipart, cut(body, cuts), b"XyZ", 20) == whole
    assert outcome(read_multipart, cut(body, range(len(body))), b"XyZ", 20) == whole


@pytest.mark.parametrize("seed", [7578])
def test_no_other_parser_reads_another_model_from_multipart(seed: int) -> None:
    dice = random.Random(seed)
    taken = 0
    for _ in range(CASES):
        body = multiparts.random_body(dice)
        try:
            model = read_multipart([body], multiparts.BOUNDARY)
        except Refusal:
            continue
        taken += 1
        expected = [] if model is None else [model.encode()]
        for name, read in multiparts.FOREIGN.items():
            with contextlib.suppress(multiparts.UnreadableError):
                assert read(body) == expected, (name, body)
    assert taken > CASES / 50  # the bodies are not so far off that all are refused


@given(forms, places)
def test_forms_are_read_alike_however_they_are_cut(form: bytes, cuts: list[int]) -> None:
    whole = outcome(read_form, [form])
    assert outcome(read_form, cut(form, cuts)) == whole
    assert outcome(read_form, cut(form, range(len(form)))) == whole


@given(forms)
def test_no_other_parser_reads_another_model_from_a_form(form: bytes) -> None:
    kind, model = outcome(read_form, [form])
    if kind == "model":
        expected = [] if model is None else [model]
        # Python's own before 3.10, and others, separate at both; none is known that separates at semicolons alone.
        for text in (form, form.replace(b";", b"&")):
            pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
            assert [value.encode("latin-1").decode() for key, value in pairs if key == "model"] == expected


@given(contents, codings, places)
def test_what_was_encoded_is_decoded_however_it_is_cut(content: bytes, layers: list[str], cuts: list[int]) -> None:
    body = content
    for coding in layers:
        body = ENCODE[coding](body)
    if content:
        assert decode(cut(body, cuts), layers, Limits(max_ratio=1 << 20)) == content


@given(contents, codings, places, st.data())
def test_spoilt_encodings_are_decoded_or_refused(
    content: bytes, layers: list[str], cuts: list[int], data: st.DataObject
) -> None:
    body = bytearray(content)
    for coding in layers:
        body = bytearray(ENCODE[coding](bytes(body)))
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=4)):
        body[at] = data.draw(st.integers(0, 255))
    kind, whole = outcome(decode, [bytes(body)], layers)
    again, pieced = outcome(decode, cut(bytes(body), cuts), layers)
    assert (again, pieced if kind == "model" else None) == (kind, whole if kind == "model" else None)


@given(st.binary(max_size=200), codings, places)
def test_any_octets_as_an_encoding(body: bytes, layers: list[str], cuts: list[int]) -> None:
    kind, whole = outcome(decode, [body], layers)
    again, pieced = outcome(decode, cut(body, cuts), layers)
    assert (again, pieced if kind == "model" else None) == (kind, whole if kind == "model" else None)


TEMPLATES = parse_templates("/openai/deployments/{model}/** /**/models/{model}:* /model/{model}/invoke")
PATH_FRAGMENTS = (
    b"/", b"//", b"/.", b"/..", b"/%2e%2E", b"%2F", b"%5c", b"\\", b";x", b"#", b"?", b"?model=a", b"&model=b", b"%",
    b"%61", b"/openai/deployments/a/chat", b"/model/a/invoke", b"/models/a:b", b":", b"a", b"/model", b"/invoke",
)  # fmt: skip
paths = st.lists(st.sampled_from(PATH_FRAGMENTS) | st.binary(max_size=3), max_size=8).map(b"".join)


@given(paths)
def test_any_path(path: bytes) -> None:
    kind, model = outcome(model_in_path, path, TEMPLATES)
    assert kind == "refused" or model is None or isinstance(model.name, str)
    # What cannot be read in another way is the same with any more of it undone.
    if kind == "model" and model and b"?" not in path:
        assert outcome(model_in_path, path.replace(b"//", b"/"), TEMPLATES) == ("model", model)
    outcome(model_in_query, path)
