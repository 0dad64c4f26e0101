"""What is routed as one model no parser of PyPI reads as another, nor of PHP and Ruby where they are installed.

`make differential` asks parsers of other languages too.
"""

import asyncio

import pytest

from tests.differential import differ
from tests.differential.children import LANGUAGES, Case, Child, Language, UnavailableError, built
from tests.differential.generator import FORM, JSON, MULTIPART, NAMING_PATH, PLAIN_PATH, Request, requests

PYTHON = [language for language in LANGUAGES if language.name == "python"]
REQUESTS = 1500

PART = b'--XyZ\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
TYPE = MULTIPART + b"; boundary=XyZ"

# Each was routed as A once, and read as B: by what, and what it reads.
READ_IN_TWO_WAYS = {
    "a type behind a comma": (
        FORM + b"; x=a,application/json",
        b'{"model":"A","x":"&model=B&y="}',
        "starlette form()",
        "B",
    ),
    "a charset of JSON": (JSON + b"; charset=utf-7", b'{"model":"A","+AG0-odel":"B"}', "aiohttp json()", "B"),
    "a charset in pieces": (
        JSON + b"; charset*0=utf-; charset*1=7",
        b'{"model":"A","+AG0-odel":"B"}',
        "aiohttp json()",
        "B",
    ),
    "a part's charset within quotes": (
        TYPE,
        PART.replace(b"\r\n\r\n", b'\r\nContent-Type: text/plain; x=";charset=utf-7;y="\r\n\r\n') % (b"model", b"+AEI-")
        + b"--XyZ--",
        "aiohttp post()",
        "B",
    ),
    "a part's charset in pieces": (
        TYPE,
        PART.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset*0=iso-8859; charset*1=-1\r\n\r\n")
        % (b"model", b"\xc3\xa9")
        + b"--XyZ--",
        "werkzeug form",
        "\u00c3\u00a9",
    ),
    "a blank that is not ASCII's before JSON": (
        FORM,
        b'\xc2\xa0{"model":"B","x":"&model=A&y="}',
        "json.loads, stripped",
        "B",
    ),
    "Latin-1": (FORM, b"model=\xc3\xa9", "starlette form()", "\u00c3\u00a9"),
    "a boundary that begins with a blank": (
        MULTIPART + b'; boundary=" XyZ"',
        b"-- XyZ"
        + PART[5:] % (b"x", PART % (b"model", b"B") + b"--XyZ--")
        + b"-- XyZ"
        + PART[5:] % (b"model", b"A")
        + b"-- XyZ--\r\n",
        "aiohttp post()",
        "B",
    ),
    "a boundary within quotes": (
        MULTIPART + b'; x="; boundary=XyZ"; boundary=Y',
        b"--Y"
        + PART[5:] % (b"x", PART % (b"model", b"B") + b"--XyZ--")
        + b"--Y"
        + PART[5:] % (b"model", b"A")
        + b"--Y--\r\n",
        "aiohttp post()",
        "B",
    ),
    "a slash before a name": (TYPE, PART % (b"/model", b"B") + b"--XyZ--", "aiohttp post()", "B"),
    "a part's own charset": (
        TYPE,
        PART.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n") % (b"model", b"\xc3\xa9")
        + b"--XyZ--",
        "werkzeug form",
        "\u00c3\u00a9",
    ),
}


def within(boundary: bytes) -> bytes:
    """Return a body that names A, and a part of which is a multipart body that names B."""
    inner = PART % (b"model", b"B") + b"--XyZ--"
    parts = [b"--%b" % boundary + PART[5:] % field for field in ((b"x", inner), (b"model", b"A"))]
    return b"".join(parts) + b"--%b--\r\n" % boundary


def beside(before: bytes) -> bytes:
    """Return a body that names A, with B in a part whose header section begins with some fields."""
    return PART % (b"model", b"A") + PART.replace(b"Content", before + b"Content", 1) % (b"x", b"B") + b"--XyZ--"


FALSE = b'Content-Disposition: form-data; name="model"\r\n'

# The same, read by parsers that need not be built.
READ_BY_OTHERS = {
    "a parameter's value is boundary": (
        MULTIPART + b"; x=boundary; y=XyZ; boundary=other",
        within(b"other"),
        "php: $_POST",
    ),
    "a parameter begins as boundary": (MULTIPART + b"; boundaryx=XyZ; boundary=other", within(b"other"), "php: $_POST"),
    "a boundary in small letters behind another one": (
        MULTIPART + b"; Boundary=otherboundary; x=XyZ",
        within(b"otherboundary"),
        "php: $_POST",
    ),
    "a part's line of more than 5 KiB": (TYPE, beside(b"X: ".ljust(5 << 10, b"x") + FALSE), "php: $_POST"),
    "a part's field within another one": (TYPE, beside(b"X: " + FALSE), "ruby: rack POST"),
    "a part's field whose name ends as another one's": (TYPE, beside(b"X-" + FALSE), "ruby: rack POST"),
}


@pytest.mark.parametrize(("content_type", "body", "parser"), READ_BY_OTHERS.values(), ids=READ_BY_OTHERS)
def test_what_parsers_of_other_languages_read_otherwise_is_not_routed(
    content_type: bytes, body: bytes, parser: str
) -> None:
    (language,) = (each for each in LANGUAGES if each.name == parser.partition(":")[0])
    case: Case = (b"POST", content_type, PLAIN_PATH, body)
    try:
        names, answers = asyncio.run(asked(language, [case]))
    except UnavailableError as missing:
        pytest.skip(str(missing))
    assert dict(zip(names, answers[0], strict=True))[parser] == "B"
    assert differ.routed_as(Request((content_type,), (), PLAIN_PATH, body)) is None


async def asked(language: Language, cases: list[Case]) -> tuple[list[str], list[list[object]]]:
    child = await Child.start(language)
    try:
        return child.names, await child.ask(cases)
    finally:
        await child.close()


@pytest.fixture(scope="module")
def parsed() -> dict[Case, dict[str, object]]:
    """Return what each parser reads of each of these; one process is asked, since it imports all parsers."""
    cases: list[Case] = [
        (b"POST", content_type, PLAIN_PATH, body) for content_type, body, *_ in READ_IN_TWO_WAYS.values()
    ]
    names, answers = asyncio.run(asked(PYTHON[0], cases))
    return {case: dict(zip(names, each, strict=True)) for case, each in zip(cases, answers, strict=True)}


@pytest.mark.parametrize(("content_type", "body", "parser", "read"), READ_IN_TWO_WAYS.values(), ids=READ_IN_TWO_WAYS)
def test_what_some_read_otherwise_is_not_routed(
    parsed: dict[Case, dict[str, object]], content_type: bytes, body: bytes, parser: str, read: str
) -> None:
    # So the parsers are really asked, and the harness would see it.
    assert parsed[b"POST", content_type, PLAIN_PATH, body][f"python: {parser}"] == read
    assert differ.routed_as(Request((content_type,), (), PLAIN_PATH, body)) is None


def test_no_request_is_read_in_two_ways() -> None:
    tally = asyncio.run(differ.run(1, REQUESTS, PYTHON))
    assert not tally.misread, differ.report(tally)
    assert tally.requests == REQUESTS
    assert tally.routed > REQUESTS / 8
    assert all(
        tally.read[f"python: {parser}"] > 10 for parser in ("starlette form()", "json.loads", "django POST", "email")
    )


def test_a_misreading_is_told() -> None:
    tally = differ.Tally()
    request = Request((JSON,), (), PLAIN_PATH, b"{}")
    for read in (None, "A", "B", {"other": "x"}):
        tally.add("python: x", "A", read, request)
    tally.add("node: qs, Latin-1", "caf\u00e9", "caf\u00c3\u00a9", request)
    tally.unavailable["cpp"] = "g++ is not installed"
    assert (tally.read["python: x"], tally.misread["python: x"], tally.misread["node: qs, Latin-1"]) == (3, 2, 0)
    told = differ.report(tally)
    assert "python: x: routed as 'A', read as 'B'" in told
    assert "cpp was not asked: g++ is not installed" in told


def test_one_seed_makes_the_same_requests() -> None:
    made = list(requests(7, 300))
    assert made == list(requests(7, 300)) != list(requests(8, 300))
    assert {request.path.partition(b"?")[0] for request in made} > {PLAIN_PATH, NAMING_PATH}
    assert {b"POST", b"PUT", b"PATCH", b"DELETE", b"GET", b"QUERY"} <= {request.method for request in made}
    assert len({request.path for request in made}) > 5
    assert len({request.content_encodings for request in made}) > 10
    assert len({request.content_types for request in made}) > 50


def test_servers_may_decode_a_body_and_take_any_field() -> None:
    made = Request((b"a", b"b"), (b"deflate",), PLAIN_PATH, b"x\x9c\x03\x00\x00\x00\x00\x01")
    expected: set[Case] = {
        (b"POST", content_type, PLAIN_PATH, body)
        for content_type in (b"a", b"b", b"a, b", b"a,b")
        for body in (made.body, b"")
    }  # fmt: skip
    assert set(differ.readings(made)) == expected
    assert list(differ.readings(Request((), (), PLAIN_PATH, b"x", b"PUT"))) == [(b"PUT", None, PLAIN_PATH, b"x")]


def test_a_language_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="no-such-command is not installed"):
        built(PYTHON[0]._replace(needs=["no-such-command"], files=["x"]))
