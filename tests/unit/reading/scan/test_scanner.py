import tracemalloc

import pytest

from bbr.reading import one_pass
from bbr.reading.scan.grammar import MAX_DEPTH, MAX_NUMBER_BYTES, MAX_TRAILING_BLANKS
from bbr.reading.scan.scanner import BUDGET, Scanner
from bbr.refusal import Refusal
from tests.corpus.nasty_bodies import BODIES, Nasty
from tests.support.scanning import MOST_HELD, Verdict, by_octet, check_difference, read, scan

# In two pieces, so that what is unfinished in the first one is seen with the second one's beginning.
VALID = [
    (b'{"model":"a"}', "a"),
    (b' {\n"x" : [ ] , "model"\t:\r"a" } ', "a"),
    (b'{"\\u006d\\u006F\\u0064\\u0065\\u006c":"\\u0061"}', "a"),
    (b'{"model":"\\ud83e\\udd99"}', "\N{LLAMA}"),
    (b'{"model":"a\\"b\\\\c\\/"}', 'a"b\\c/'),
    ('{"é":"é","model":"模型","":"\N{LLAMA}"}'.encode(), "模型"),
    (b'{"x":{"model":1,"model":2},"model":"a","y":[{"model":3}]}', "a"),
    (b'{"mode":1,"models":2,"Modell":3,"\\"model":4,"\\u006dode":5,"model ":6}', None),
    (b'{"x":{"model":"a"}}', None),
    (b'[{"model":"a"},{"model":"b"}]', None),
    (b'{"x":[1e300,-1e300 , 1E+308,2e-999,0e999,12345678901234567890123,1],"model":"a"}', "a"),
    (b'{"x":1e300,"y":-0.5e-3,"z":123456789012345678901e5,"model":"a"}', "a"),
    (b'{"x":[true,false,null,[],{},"",[1],{"a":1},[[[1]]],{"a":{"b":{"c":{}}}}],"model":"a"}', "a"),
    (b'[[[[[1]]],[[[[2,{"a":[{"b":[]}]}]]]],3],{"":{"":{"":{"":{}}}}}]', None),
    (b'{"a":[[[[1]]]],"model":"m","b":{"c":{"d":{"e":1}}},"f":2}', "m"),
    (b'{"a":[[[[["]"]],"}"]],"["],"model":"m"}', "m"),
    (b"[[[[[1],2],3],[4]],5]", None),
    (b'{"a":{"b":{"c":{"d":1},"e":[2]},"f":3},"g":4}', None),
    (b'["\\u00e9\\n\\ud800\\udc00",{"x":"\\u0022"}]', None),
    (b"0", None),
    (b"-1.5e3", None),
    (b" true ", None),
    (b'"model"', None),
    (b"null", None),
    (b"{}", None),
    (b"", None),
    (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
    (b'{"x":' * (MAX_DEPTH - 1) + b'[1,"a"]' + b"}" * (MAX_DEPTH - 1), None),
    (b"[" * (MAX_DEPTH - 2) + b"[[1],[2]],[3]" + b"]" * (MAX_DEPTH - 2), None),
    (b"[" * (MAX_DEPTH - 3) + b"[[1]],[[2]],[" + b"]" * (MAX_DEPTH - 2), None),
    (b'{"model":1,"model":2,"x":[[[[1]]]],"model":3,"y":[[[[{"model":1}]]]]}'.replace(b'"model"', b'"mode"'), None),
    (b"[" * (MAX_DEPTH - 5) + b"[[[[[1]]]]],[[[[[2]]]]]" + b"]" * (MAX_DEPTH - 5), None),
]

FAULTS = [
    # what, reason, byte offset, part of the sentence
    (b"{", "invalid-json", 1, "end of data"),
    (b'{"model":"a"', "invalid-json", 12, "end of data"),
    (b'{"model":"a', "invalid-json", 11, "end of data"),
    (b'{"mod', "invalid-json", 5, "end of data"),
    (b'{"model"', "invalid-json", 8, "end of data"),
    (b"[1", "invalid-json", 2, "end of data"),
    (b"-", "invalid-json", 1, "end of data"),
    (b"[1.", "invalid-json", 3, "end of data"),
    (b"1e+", "invalid-json", 3, "end of data"),
    (b"tru", "invalid-json", 3, "end of data"),
    (b'["\\', "invalid-json", 3, "end of data"),
    (b'["\\ud83e', "invalid-json", 8, "end of data"),
    (b" \n", "invalid-json", 0, "end of data"),
    (b"{'a':1}", "invalid-json", 1, "string key"),
    (b'{"a" 1}', "invalid-json", 5, "':' after key"),
    (b'{"model" 1}', "invalid-json", 9, "':' after key"),
    (b'{"a":}', "invalid-json", 5, "a JSON value"),
    (b'{"a":1,"b": }', "invalid-json", 12, "a JSON value"),
    (b'{"a":[[[[1]]]],"b":}', "invalid-json", 19, "a JSON value"),
    (b'{"a":1 "b":2}', "invalid-json", 7, "',' or '}'"),
    (b'{"a":1]', "invalid-json", 6, "',' or '}'"),
    (b"[1 2]", "invalid-json", 3, "',' or ']'"),
    (b"[[[[[1]]}]]", "invalid-json", 8, "',' or ']'"),
    (b'[[[[[1]],"a":[2]}]]', "invalid-json", 12, "',' or ']'"),
    (b'{"a":{"b":{"c":{"d":1}}},2}', "invalid-json", 25, "string key"),
    (b'[[[[[1]]]],"a":1]', "invalid-json", 14, "',' or ']'"),
    (b"[,1]", "invalid-json", 1, "a JSON value"),
    (b"[+1]", "invalid-json", 1, "a JSON value"),
    (b"]", "invalid-json", 0, "a JSON value"),
    (b"[01]", "invalid-json", 1, "leading zero"),
    (b"[-00]", "invalid-json", 2, "leading zero"),
    (b"[-x]", "invalid-json", 2, "after sign"),
    (b"[1.x]", "invalid-json", 3, "decimal point"),
    (b"[1ex]", "invalid-json", 3, "exponent"),
    (b"[1E+x]", "invalid-json", 4, "exponent"),
    (b"[1e5.5]", "invalid-json", 4, "',' or ']'"),
    (b"[1.5.5]", "invalid-json", 4, "',' or ']'"),
    (b"[1e5e5]", "invalid-json", 4, "',' or ']'"),
    (b"[trux]", "invalid-json", 1, "'true'"),
    (b'["\x01"]', "invalid-json", 2, "control character"),
    (b'{"a\n":1}', "invalid-json", 3, "control character"),
    (b'["\\x"]', "invalid-json", 2, "escape"),
    (b'["\\u12g4"]', "invalid-json", 2, "escape"),
    (b'["\\ud83e\\uZZ"]', "invalid-json", 2, "escape"),
    (b'{"mod\\y":1}', "invalid-json", 5, "escape"),
    (b'["\\ud83ex"]', "lone-surrogate", 2, "surrogate"),
    (b'["\\ud83e\\n"]', "lone-surrogate", 2, "surrogate"),
    (b'["\\ud83e\\u0041"]', "lone-surrogate", 2, "surrogate"),
    (b'["\\udd99"]', "lone-surrogate", 2, "surrogate"),
    (b'{"\\udd99":1}', "lone-surrogate", 2, "surrogate"),
    (b"[NaN]", "non-finite-number", 1, "finite"),
    (b"[-Infinity]", "non-finite-number", 2, "finite"),
    (b"{NaN:1}", "non-finite-number", 1, "finite"),
    (b"[Nan]", "invalid-json", 1, "a JSON value"),
    (b"[N", "invalid-json", 1, "a JSON value"),
    (b"[Na\xff", "invalid-json", 1, "a JSON value"),
    (b"[[]0,1,2,3,4,5,6,7,8,9,10,11,12,13]", "invalid-json", 3, "expected ',' or ']'"),
    (b'{"":{}0,"a":1,"b":2,"c":3,"d":4,"e":5}', "invalid-json", 6, "expected ',' or '}'"),
    (b"[1,2,1e999,3]", "non-finite-number", 5, "finite"),
    (b"[1e300, -1e999,3]", "non-finite-number", 8, "finite"),
    (b'{"x":1e999}', "non-finite-number", 5, "finite"),
    (b"9" * 400, "non-finite-number", 0, "finite"),
    (b"{}x", "trailing-bytes", 2, "follows"),
    (b"{} {}", "trailing-bytes", 3, "follows"),
    (b'{"a":[[[[1]]]]}}', "trailing-bytes", 15, "follows"),
    (b"[[[[[1]]]]],", "trailing-bytes", 11, "follows"),
    (b"truefalse", "trailing-bytes", 4, "follows"),
    (b'{"x":"\xff"}', "invalid-utf8", 6, "UTF-8"),
    (b'{"x":"\xed\xa0\x80"}', "invalid-utf8", 6, "UTF-8"),
    (b'{"\xc0\xaf":1}', "invalid-utf8", 2, "UTF-8"),
    (b"{}\xff", "invalid-utf8", 2, "UTF-8"),
    (b'{"x":"\xe6\xa8', "invalid-utf8", 6, "UTF-8"),
    (b"{}\xe6", "invalid-utf8", 2, "UTF-8"),
    (b"{\xc3\xa9}", "invalid-json", 1, "string key"),
    (b'\xef\xbb\xbf{"model":"a"}', "byte-order-mark", 0, "byte order mark"),
    (b"\xef\xbb", "invalid-utf8", 0, "UTF-8"),
]

MODELS = [
    (b'{"model":null,"x":1}', "model-not-string", 9, "null"),
    (b'{"model":true}', "model-not-string", 9, "a boolean"),
    (b'{"model":-1.5}', "model-not-string", 9, "a number"),
    (b'{"model": ["a"]}', "model-not-string", 10, "an array"),
    (b'{"model":{"model":"a"}}', "model-not-string", 9, "an object"),
    (b'{"model":""}', "model-empty", 9, "empty"),
    (b'{"model":"a\\n"}', "model-illegal", 9, "control"),
    (b'{"model":"%s"}' % (b"x" * 257), "model-too-long", 9, "257"),
    (b'{"model":"%s"}' % ("é".encode() * 200), "model-too-long", 9, "400"),
    (b'{"model":"a","model":"b"}', "model-duplicate", 13, "twice"),
    (b'{"model":1,"\\u006dodel":2,"model":3}', "model-duplicate", 11, "twice"),
    (b'{"model":{"model":1},"x":[[[[1]]]],"model":"b"}', "model-duplicate", 35, "twice"),
    (b'{"model":"a","x":{"y":{"z":{"model":{}}}},"model":"b"}', "model-duplicate", 42, "twice"),
]

# The differences that the module names: what the whole gets, and what a scanner says of it.
DIFFERENCES = [
    (b'{"model":"a",}\xff', Verdict(reason="invalid-utf8", offset=14), Verdict(reason="invalid-json", offset=13)),
    (b"\x1f\x8b\x08", Verdict(reason="invalid-utf8", offset=1), Verdict(reason="invalid-json", offset=0)),
    (b"[1 ,\n]", Verdict(reason="invalid-json", offset=3), Verdict(reason="invalid-json", offset=5)),
    (b'["\\udd99', Verdict(reason="invalid-json", offset=8), Verdict(reason="lone-surrogate", offset=2)),
    (b'["\\ud83e\\u0', Verdict(reason="invalid-json", offset=2), Verdict(reason="invalid-json", offset=11)),
    (b"[" * 901 + b"]" * 901, Verdict(), Verdict(reason="too-deep", offset=900)),
    (b'{"x":' * 901 + b"1" + b"}" * 901, Verdict(), Verdict(reason="too-deep", offset=4500)),
    (b"[" * 899 + b"[[1]]" + b"]" * 899, Verdict(), Verdict(reason="too-deep", offset=900)),
    (b"[" * 898 + b"[[[[1]]]],1" + b"]" * 898, Verdict(), Verdict(reason="too-deep", offset=900)),
    (b"[" * 885 + b"x", Verdict(reason="too-deep", offset=517), Verdict(reason="invalid-json", offset=885)),
    (b"[" * 2000, Verdict(reason="too-deep", offset=1025), Verdict(reason="too-deep", offset=900)),
    (b"[0.%s1]" % (b"0" * 2048), Verdict(), Verdict(reason="invalid-json", offset=1)),
    (b"{}" + b" " * (MAX_TRAILING_BLANKS + 1), Verdict(), Verdict(reason="trailing-blanks")),
]


def halves(body: bytes) -> list[list[bytes]]:
    return [[body[:at], body[at:]] for at in range(min(len(body), 60) + 1)]


@pytest.mark.parametrize(("body", "model"), VALID)
def test_documents(body: bytes, model: str | None) -> None:
    for pieces in [[body], by_octet(body), *halves(body)]:
        assert scan(pieces) == Verdict(model) == read(body)


@pytest.mark.parametrize(("body", "reason", "offset", "why"), FAULTS + MODELS)
def test_faults(body: bytes, reason: str, offset: int, why: str) -> None:
    for pieces in [[body], by_octet(body), *halves(body)]:
        found = scan(pieces)
        assert (found.model, found.reason, found.offset) == (None, reason, offset)
        assert why in found.message
    check_difference(body, found)


@pytest.mark.parametrize(("body", "whole", "in_pieces"), DIFFERENCES, ids=lambda each: str(each)[:40])
def test_differences(body: bytes, whole: Verdict, in_pieces: Verdict) -> None:
    assert read(body)._replace(message="") == whole
    for pieces in [[body], by_octet(body)]:
        assert scan(pieces)._replace(message="") == in_pieces


@pytest.mark.parametrize("nasty", BODIES, ids=lambda nasty: nasty.id)
def test_the_corpus(nasty: Nasty) -> None:
    check(nasty)


def check(nasty: Nasty) -> None:
    found = scan([nasty.body])
    check_difference(nasty.body, found)
    if nasty.id != "gzip":  # one of the differences: the second octet is no UTF-8, but the first one is no JSON
        assert nasty.verdict == (f"bbr:{found.reason}" if found.reason else found.model)
    for size in (1, 9, 1000) if len(nasty.body) < 10_000 else (1000,):
        pieces = [nasty.body[at : at + size] for at in range(0, len(nasty.body), size)]
        assert scan(pieces) == found


def test_model_is_told_when_it_is_known() -> None:
    scanner = Scanner()
    scanner.scan(b'{"x":1,"model":"a')
    assert scanner.model is None
    scanner.scan(b'"')
    assert scanner.model == "a"
    scanner.scan(b',"y":"' + b"x" * 10_000)
    assert (scanner.model, scanner.closing) == ("a", None)
    scanner.scan(b'","model":')
    assert isinstance(scanner.model, Refusal)
    assert scanner.model.reason == "model-duplicate"
    scanner.scan(b'"b"}')
    with pytest.raises(Refusal) as caught:
        scanner.finish()
    assert caught.value is scanner.model


def test_fault_of_the_document_goes_before_the_model() -> None:
    assert scan([b'{"model":1,"model":"b",}']).reason == "invalid-json"


@pytest.mark.parametrize(
    ("body", "closing"),
    [(b'{"a":{}} ', 7), (b"[[[[[1]]]]]", 10), (b'"ab" ', 3), (b"12 ", 1), (b" true", 4), (b'{"a":[[[[{}]]]]} \n', 15)],
)
def test_closing_is_the_offset_of_the_last_octet(body: bytes, closing: int) -> None:
    for pieces in [[body], by_octet(body)]:
        scanner = Scanner()
        for piece in pieces:
            scanner.scan(piece)
        assert scanner.closing == closing


def test_number_alone_closes_with_the_body() -> None:
    scanner = Scanner()
    scanner.scan(b"12")
    assert scanner.closing is None
    assert scanner.finish() is None
    assert scanner.closing == 1


def test_blanks_after_the_document_are_counted_over_pieces() -> None:
    blanks = [b" \n"] * (MAX_TRAILING_BLANKS // 2)
    assert scan([b'{"model":"a"}', *blanks]) == Verdict("a")
    found = scan([b'{"model":"a"}', *blanks, b" "])
    assert found.reason == "trailing-blanks"
    assert str(MAX_TRAILING_BLANKS) in found.message


@pytest.mark.parametrize("end", [b"", b'"}'])
def test_endless_model_is_refused_while_it_comes(end: bytes) -> None:
    scanner = Scanner(max_model_bytes=100)
    scanner.scan(b'{"model":"' + b"\\u00e9" * 100)
    assert scanner.model is None
    scanner.scan(b"x")
    assert isinstance(scanner.model, Refusal)
    assert (scanner.model.reason, scanner.held_bytes) == ("model-too-long", 1)
    scanner.scan(b"x" * 1000 + end)
    with pytest.raises(Refusal, match="more than 100 bytes" if end else "unexpected end"):
        scanner.finish()


def test_length_of_a_model_is_that_of_its_text() -> None:
    scanner = Scanner(max_model_bytes=2)
    scanner.scan(b'{"model":"\\u00e9"}')
    assert scanner.finish() == "é"


def test_refusal_is_final() -> None:
    scanner = Scanner()
    with pytest.raises(Refusal) as first:
        scanner.scan(b"{]")
    with pytest.raises(Refusal) as second:
        scanner.scan(b"}")
    with pytest.raises(Refusal) as third:
        scanner.finish()
    assert first.value is second.value is third.value


def test_refusal_at_the_end_is_final() -> None:
    scanner = Scanner()
    scanner.scan(b"{")
    with pytest.raises(Refusal) as first:
        scanner.finish()
    with pytest.raises(Refusal) as second:
        scanner.finish()
    assert first.value is second.value


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        # Plain text costs a quarter at least, and 32 KiB may be in excess.
        (b"x", BUDGET // 10 * 4 + (32 << 10)),
        # Other text's octets cost 3 at least, and one slice may be in excess.
        *(
            (unit, BUDGET // 10 // 3 + (8 << 10))
            for unit in (b"\\n", "模".encode(), b'",{},"', b'",[[[[1]]]],"', b'",1e300,"')
        ),
    ],
    ids=["x", "n", "utf8", "{}", "[[", "1e"],
)
def test_calls_are_bounded_by_their_budget(unit: bytes, most: int) -> None:
    body = b'["' + unit * (400_000 // len(unit)) + b'"]'
    scanner = Scanner()
    position, calls = 0, 0
    while position < len(body):
        before, position = position, scanner.scan(body, position, BUDGET // 10)
        assert 0 < position - before <= most
        assert scanner.held_bytes < 100
        calls += 1
    assert scanner.finish() is None
    assert calls >= 400_000 // most


@pytest.mark.parametrize("fault", [b"!", b"]]]", b"1}"], ids=repr)
@pytest.mark.parametrize(
    "unit", [b"1,", b"[],", b"{},", b"[", b"[1],", b'{"":1},', b"1e9,", b'{"":', b'"\\n",'], ids=repr
)
@pytest.mark.parametrize("size", [4 << 10, 64 << 10])
def test_what_stands_before_a_fault_is_not_looked_at_token_by_token(unit: bytes, fault: bytes, size: int) -> None:
    body = (b'{"x":[' + unit * (size // len(unit)))[: size - 4] + fault
    scanner = Scanner()
    position = calls = 0
    with pytest.raises(Refusal):  # noqa: PT012
        while not (position == len(body) and scanner.finish()):
            position = scanner.scan(body, position)
            calls += 1
    # A body of the first size is read without a pause. It took 321 calls of a document that is too deep.
    assert calls <= 6 + size // (8 << 10) * 4


@pytest.mark.parametrize(
    "inside",
    [b'"%s"' % (b"x" * 30_000), b'{"%s":1}' % (b"k" * 30_000), b" " * 30_000 + b"1", b'"%s"' % ("é".encode() * 15_000)],
    ids=["string", "key", "blanks", "utf8"],
)
def test_little_is_held(inside: bytes) -> None:
    scanner = Scanner()
    for octet in by_octet(b'{"x":%s,"model":"a"}' % inside):
        scanner.scan(octet)
        assert scanner.held_bytes < 50
    assert scanner.finish() == "a"


def test_unfinished_number_is_held_up_to_its_limit() -> None:
    scanner = Scanner()
    scanner.scan(b"[0.")
    for _ in range(MAX_NUMBER_BYTES - 2):
        scanner.scan(b"1")
    assert MAX_NUMBER_BYTES <= scanner.held_bytes <= MOST_HELD
    with pytest.raises(Refusal, match=f"more than {MAX_NUMBER_BYTES} bytes at byte 1"):
        scanner.scan(b"1")


def test_long_numbers_within_the_limit() -> None:
    longest = b"0." + b"1" * (MAX_NUMBER_BYTES - 2)
    assert scan([b"[%s , %s]" % (longest, longest)]) == Verdict()
    assert scan([b'{"x":%s}' % longest]) == Verdict()
    assert scan([b"[1e300%s,1e300]" % (b" " * 3000)]) == Verdict()


def test_long_piece_is_not_copied() -> None:
    piece = b'{"x":[' + b'"' + b"x" * 5000 + b'",' + b"1," * (1 << 19)
    scanner = Scanner()
    tracemalloc.start()
    position = 0
    while position < len(piece):
        position = scanner.scan(piece, position)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 10 < len(piece)


SHORT = b'{"role":"user","content":"a\\n \\"b\\""}'
LONG = b'{"role": "user", "content": "%b"}' % (b'He said: \\"so\\"\\n' * 2_600)


@pytest.mark.skipif(not one_pass.AVAILABLE, reason="simdjson has no wheels for this Python")
@pytest.mark.parametrize(
    ("turns", "is_passed"),
    [
        (b",".join([SHORT] * 2_000), True),  # behind an object
        (b",".join([b'{"role":"user","content":[%b]}' % SHORT] * 1_000), True),
        (b", ".join([LONG] * 4), True),  # inside of a string, at a place where another one was
        (b",".join([b'{"n":"%b \\n"}' % (b"1" * one_pass.LONG_DIGITS)] * 2_000), False),  # simdjson would take long
        (b'"a",' * 20_000 + b"1", False),  # with nowhere to cut
        (b"0", False),
    ],
)
def test_much_of_a_conversation_is_passed_over_at_once(turns: bytes, is_passed: bool) -> None:
    body = b'{"model":"a","messages":[%b]}' % turns
    ends = [], []
    for leap_from, places in zip((0, len(body)), ends, strict=True):
        scanner = Scanner(leap_from=leap_from)
        at = 0
        while at < len(body):
            at = scanner.scan(body, at, 1)
            places.append(at)
        assert (scanner.finish(), scanner.closing) == ("a", len(body) - 1)
    assert (len(ends[0]) < len(ends[1])) is is_passed
