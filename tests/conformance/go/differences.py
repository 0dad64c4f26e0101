"""Where ours with --compat answers otherwise than the Go routers: the only list of it, for tests and for the docs.

    python -m tests.conformance.go.differences [--check]

writes the list into docs/reference/go-router.md; with --check, says whether it is there as it should be. test_corpus.py
fails for each conversation that differs and is not listed, and for each that is listed and does not differ.
"""

import argparse
import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.go import replay
from tests.conformance.go.configurations import REFUSES, STARTS

PAGE: Final = Path(__file__).resolve().parents[3] / "docs/reference/go-router.md"
BEGIN: Final = "<!-- differences: made by `make reference` -->\n"
END: Final = "<!-- end of differences -->\n"
START_BEGIN: Final = "<!-- configurations: made by `make reference` -->\n"
START_END: Final = "<!-- end of configurations -->\n"
TABLE_BEGIN: Final = "<!-- tables: made by `make reference` -->\n"
TABLE_END: Final = "<!-- end of tables -->\n"

ALL: Final = tuple(target.name for target in replay.TARGETS)
GIE_STREAMING, GIE, IPP = ALL


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        what: the requests or events.
        theirs: what the Go routers do.
        ours: what ours does.
        why: our reason.
        outcomes: what becomes of the requests, theirs and ours (see `outcome`).
        names: patterns of the conversations' names.
        targets: the ways of running in which it shows.
    """

    what: str
    theirs: str
    ours: str
    why: str
    outcomes: tuple[set[str], set[str]]
    names: tuple[str, ...]
    targets: tuple[str, ...] = ALL

    def covers(self, target: str, name: str) -> bool:
        """Tell whether a conversation shows it."""
        return target in self.targets and any(fnmatch.fnmatchcase(name, each) for each in self.names)


ROUTED, PASSED, LOST = "routed", "passed", "lost"
REFUSED = "refused 400"

DIFFERENCES: Final = (
    Difference(
        "a body that is not JSON",
        "400 with the words of Go's `encoding/json`",
        "400 with the same beginning, our own words, and the byte offset",
        "another parser writes the message",
        ({REFUSED}, {REFUSED}),
        (
            *(
                f"*, broken: {name}"
                for name in (
                    "blanks alone",
                    "cut off*",
                    "a comma at the end",
                    "single quotes",
                    "no quotes",
                    "NaN",
                    "infinity",
                    "a comment",
                    "a byte order mark",
                    "bytes behind",
                    "two documents",
                    "two lines",
                    "a zero before",
                    "a plus sign",
                    "a point before",
                    "a point behind",
                    "an unknown escape",
                    "an escape that is cut",
                    "a control character*",
                    "UTF-16",
                    "NUL",
                    "a word",
                    "10,001 levels",
                    "100,000 brackets",
                )
            ),
            "*, model of another type: a number beyond a double",
            "*, events: two ends, broken",
            "*, events: more behind an error",
            "*, mode untold: a broken body",
            "buffered, events: half a body, and the end",
            "streamed, pieces: a fault behind a megabyte",
        ),
    ),
    Difference(
        "`model` twice, or a key such as `Model`",
        "routed by the last `model`; `Model` is ignored",
        "400",
        "a server that reads the other key would run a model that was not routed",
        ({ROUTED, PASSED}, {REFUSED}),
        (
            *(
                f"*, twice: {name}"
                for name in (
                    "two models",
                    "two equal models",
                    "the second escaped",
                    "the second null",
                    "the first no string",
                )
            ),
            "*, body: a key in other letters",
            "*, body: a key in capitals, beside model",
            "streamed, pieces: two models a megabyte apart",
        ),
    ),
    Difference(
        "an ASCII control character in the model's name",
        "routed; the header contains it",
        "400",
        "it could end the header, or break a line of a log",
        ({ROUTED}, {REFUSED}),
        tuple(
            f"*, name: {name}" for name in ("a tab behind", "a line's end behind", "a line's end within", "NUL", "DEL")
        ),
    ),
    Difference(
        "a model's name over `--max-model-length` (256 bytes)",
        "routed; a name has no limit",
        "400",
        "headers, logs and metrics stay small; the limit can be raised",
        ({ROUTED}, {REFUSED}),
        ("*, name: 257 bytes", "*, name: 10,000 bytes"),
    ),
    Difference(
        "bad UTF-8, and lone surrogates, anywhere in the body",
        "routed; in a name they become U+FFFD",
        "400",
        "servers read such a name in different ways",
        ({ROUTED}, {REFUSED}),
        (
            "*, broken: bad UTF-8*",
            "*, broken: an overlong form",
            "*, broken: a surrogate in UTF-8",
            "*, broken: a lone surrogate*",
            "*, name: a lone surrogate",
            "*, name: a lone low surrogate",
            "*, name: surrogates in the wrong order",
        ),
    ),
    Difference(
        "JSON nested deeper than 900 levels",
        "routed, up to 10,000 levels",
        "400",
        "a bound on what a request costs; parsers of model servers stop there too",
        ({ROUTED}, {REFUSED}),
        ("*, broken: 1,000 levels", "*, broken: 9,999 levels"),
    ),
    Difference(
        "an empty body with end_of_stream",
        "400",
        "passed without routing headers",
        "a request without a body is not broken",
        ({REFUSED}, {PASSED}),
        ("*, broken: empty", "*, events: no body, but its end"),
    ),
    Difference(
        "JSON that is not an object: an array, a string, a number, a boolean",
        "400",
        "passed without routing headers",
        "it is valid JSON that names no model; some APIs take lists",
        ({REFUSED}, {PASSED}),
        (
            "*, broken: a list",
            "*, broken: an empty list",
            "*, broken: a string",
            "*, broken: a number",
            "*, broken: true",
        ),
    ),
    Difference(
        "bodies of other content types: audio, bytes",
        "400, as broken JSON",
        "passed without routing headers",
        "uploads go through the same gateway",
        ({REFUSED}, {PASSED}),
        ("*, kind: audio", "*, kind: bytes"),
    ),
    Difference(
        "JSON with the content type text/plain",
        "routed; the Content-Type is ignored",
        "passed without routing headers, unless it is short and has a Content-Length",
        "text may be an upload of any size; JSON that browsers send as text is short",
        ({ROUTED}, {PASSED}),
        ("*, kind: text",),
    ),
    Difference(
        "forms, multipart bodies, and JSON in gzip, deflate, br or zstd",
        "400, as broken JSON",
        "routed",
        "clients send them",
        ({REFUSED}, {ROUTED}),
        ("*, kind: a form", "*, kind: multipart", "*, kind: gzip", "*, kind: deflate", "*, kind: zstd"),
    ),
    Difference(
        "another charset than UTF-8, an unknown Content-Encoding, or plain JSON with one",
        "routed; both headers are ignored",
        "415, or 400 if the body can be read in two ways",
        "a server that obeys the header reads another body",
        ({ROUTED}, {"refused 415", REFUSED}),
        ("*, kind: JSON in Latin-1", "*, kind: an unknown encoding", "*, kind: gzip that is none"),
    ),
    Difference(
        "`/v1/realtime?model=...`",
        "passed without routing headers",
        "routed by the URL (`--query-model-path=none` turns it off)",
        "such a request has no body",
        ({PASSED}, {ROUTED}),
        ("*, kind: a realtime path",),
    ),
    Difference(
        "a client's own routing headers that already have the right values",
        "not set again",
        "set",
        "the effect is the same",
        ({PASSED}, {ROUTED}),
        ("*, kind: the same values already",),
    ),
    Difference(
        "request headers that the gateway does not send (request_header_mode SKIP), or sends after the body",
        "routed by the body",
        "500 with a message that says what is misconfigured; routed if buffered and its mode is unknown (old Envoys)",
        "without headers the router knows neither Content-Type nor encoding nor path",
        ({ROUTED, PASSED}, {"refused 500"}),
        (
            "*, events: no request headers",
            "*, events: no request headers, no model",
            "*, events: headers after the body",
            "streamed, mode untold: no request headers",
        ),
    ),
    Difference(
        "in full duplex, a body that trailers end",
        "lost: only the trailers are answered",
        "routed, without a Content-Length",
        "HTTP allows it",
        ({LOST}, {ROUTED, PASSED}),
        ("streamed, events: trailers end the body*", "streamed, events: trailers and no body"),
    ),
    Difference(
        "a message of more than 4 MiB (a buffered body)",
        "the stream ends with RESOURCE_EXHAUSTED",
        "routed, up to `--max-body-bytes`",
        "long prompts with images can be that long",
        ({"ended RESOURCE_EXHAUSTED"}, {ROUTED}),
        ("*, events: 5 MiB in one message",),
    ),
    Difference(
        "the pieces in which a streamed body goes back",
        "62,000 bytes each, joined and cut again",
        "as they came, cut at 62,000 bytes",
        "the bytes are the same, and need not be copied",
        ({ROUTED}, {ROUTED}),
        ("streamed, pieces: 1 MiB in pieces, model last", "streamed, pieces: 5 MiB in pieces, model first"),
    ),
    Difference(
        "v1.5.0: a response in full duplex",
        "held until its end; a response that trailers end is lost",
        "each message is answered at once",
        "event streams are not delayed",
        ({ROUTED, PASSED}, {ROUTED, PASSED}),
        (
            "streamed, events: a GET and an event stream",
            "streamed, events: request and event stream",
            "streamed, events: request and a response with trailers",
            "streamed, events: request and a response's headers",
        ),
        (GIE_STREAMING,),
    ),
    Difference(
        "v0.1.0: a response",
        "its headers are held until the first piece of its body; pieces go back whole",
        "its headers are answered at once; pieces are cut at 62,000 bytes",
        "Envoy accepts both",
        ({ROUTED}, {ROUTED}),
        (
            "streamed, events: request and a response's headers",
            "streamed, events: a response of 70,000 bytes",
        ),
        (IPP,),
    ),
    Difference(
        "messages of a gateway after the request's end: a second end of stream, a body, headers, trailers",
        "handled again; the body is joined to the first one",
        "ignored, or the stream ends with FAILED_PRECONDITION",
        "the request has its answer already; Envoy may repeat the end of a large body (envoyproxy/envoy#46237)",
        ({ROUTED, REFUSED}, {ROUTED, PASSED, "ended FAILED_PRECONDITION"}),
        (
            "*, events: two ends",
            "*, events: two bodies",
            "*, events: headers twice",
            "*, events: headers that end the stream, and a body",
            "streamed, events: trailers behind the body's end",
            "buffered, events: the body's end alone",
        ),
    ),
    Difference(
        "the gateway closes its side before the request has ended",
        "status OK",
        "status CANCELLED",
        "so a request that was cut off looks different from one that ended",
        ({LOST, PASSED}, {"ended CANCELLED"}),
        (
            "*, events: headers, and the end",
            "streamed, events: half a body, and the end",
            "streamed, events: a whole body without its end",
            "*, events: nothing",
            "*, events: a response alone",
            "*, events: response headers alone",
        ),
    ),
    Difference(
        "a message without any known part; bytes that are not a message",
        "status UNKNOWN, and INTERNAL",
        "status UNIMPLEMENTED, and INVALID_ARGUMENT",
        "these are gRPC's codes for it",
        ({"ended UNKNOWN", "ended INTERNAL"}, {"ended UNIMPLEMENTED", "ended INVALID_ARGUMENT"}),
        ("*, events: an unknown message*", "*, events: bytes that are no message"),
    ),
)


@dataclass(frozen=True)
class StartDifference:
    """Configurations of the payload processor with which the one router starts and the other does not.

    Attributes:
        what: the configurations.
        ours: what ours does; theirs does the other.
        why: our reason.
        names: of the configurations (configurations.py).
    """

    what: str
    ours: str
    why: str
    names: tuple[str, ...]


START_DIFFERENCES: Final = (
    StartDifference(
        "a plugin of a type that IPP has and this router does not",
        REFUSES,
        "its work would be missing; if it protects a header, that is a security hole",
        ("a plugin of another type with a name",),
    ),
    StartDifference(
        "`body-field-to-header` with another `fieldName` than `model`, if it sets a routing header, or if the name has "
        "more than 64 characters or others than letters, digits, `-` and `_`",
        REFUSES,
        "a client could choose its route; no request has such a field",
        ("another field", "a field that is too long"),
    ),
    StartDifference(
        "a `headerName` that is not a valid header name, or is too long",
        REFUSES,
        "IPP sends it to the gateway as it is",
        ("a header that is none", "a header that is too long"),
    ),
    StartDifference(
        "a `profilePicker` that is not a picker or does not exist, and two profiles for the `single-profile-picker`",
        REFUSES,
        "IPP answers each request with 500, or ends with a panic at the first one",
        ("a plugin that picks", "a picker that is not there", "an unknown picker", "two profiles and a picker"),
    ),
    StartDifference(
        "a second document, merge keys (`<<`), a parameter in two spellings",
        REFUSES,
        "what is not read, or is read in two ways, may be what guards a header",
        ("two documents", "a merge key", "a parameter in two spellings"),
    ),
    StartDifference(
        "a plain number or truth where text is wanted",
        STARTS,
        "it is taken as it is written",
        ("a number for a name", "a truth for a header"),
    ),
)


@dataclass(frozen=True)
class TableDifference:
    """ConfigMaps after which the tables differ; so they do in both Go routers.

    Attributes:
        what: the changes.
        theirs: what the Go routers do.
        ours: what ours does.
        names: of the histories (histories.py).
    """

    what: str
    theirs: str
    ours: str
    names: tuple[str, ...]


TABLE_DIFFERENCES: Final = (
    TableDifference(
        "a ConfigMap is deleted",
        "its adapters and its base model stay known",
        "they are unknown from then on",
        ("deleted", "two of one base model, one deleted"),
    ),
    TableDifference(
        "`baseModel` changes in place",
        "the old base model stays known, and the new one does not become it; adapters follow",
        "the new one is known, and the old one is not",
        ("another base model",),
    ),
    TableDifference(
        "two ConfigMaps list one adapter",
        "the one that was read last has it",
        "the older one has it, and a warning names both",
        ("two of one adapter",),
    ),
    TableDifference(
        "the label of one of these two goes",
        "the adapter is unknown",
        "the other one has it",
        ("two of one adapter, the label of the later goes",),
    ),
)


def covering(target: str, name: str) -> list[Difference]:
    """Return the differences that a conversation shows."""
    return [each for each in DIFFERENCES if each.covers(target, name)]


def outcome(answers: Sequence[str]) -> str:
    """Return what answers make of a request, in a word or two; a response has no part in it."""
    *lines, end = answers
    for line in lines:
        if line.startswith("immediate "):
            return f"refused {line.split()[1]}"
    if end != "end OK":
        return f"ended {end.removeprefix('end ')}"
    if any("X-Gateway-" in line for line in lines):
        return ROUTED
    asked = [line for line in lines if line.startswith(("request_headers", "request_body"))]
    return PASSED if asked else LOST


def table() -> str:
    """Return the list as the docs have it."""
    answers = replay.recorded()
    total = sum(map(len, answers.values()))
    rows = []
    shown = 0
    for each in DIFFERENCES:
        number = sum(each.covers(target, name) for target, found in answers.items() for name in found)
        shown += number
        rows.append(f"| {each.what} | {each.theirs} | {each.ours} | {each.why} | {number} |")
    asked, same = len(replay.conversations()), total - shown
    words = sum(DIFFERENCES[0].covers(target, name) for target, found in answers.items() for name in found)
    head = [
        f"We played {asked} conversations of a gateway to GIE v1.5.0 (with and without `--streaming`), to IPP v0.1.0,",
        f"and to bbr with `--compat`. Of {total} answers {same} are the same, message by message. {words} more differ",
        "only in the words of an error. All differences:",
        "",
        "| request or event | Go routers (v1.5.0, v0.1.0) | bbr with `--compat` | why | answers |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def start_table() -> str:
    """Return the list of configurations as the docs have it."""
    found = replay.started()
    differ = sum(len(each.names) for each in START_DIFFERENCES)
    rows = []
    for each in START_DIFFERENCES:
        theirs = STARTS if each.ours == REFUSES else REFUSES
        rows.append(f"| {each.what} | {theirs} | {each.ours} | {each.why} |")
    head = [
        f"We started IPP v0.1.0 and bbr with {len(found)} configurations. With {len(found) - differ} both start or",
        "both refuse to start. The others:",
        "",
        "| configuration | IPP v0.1.0 | bbr | why |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def table_table() -> str:
    """Return the list of tables as the docs have it."""
    number = len(next(iter(replay.tables().values())))
    differ = sum(len(each.names) for each in TABLE_DIFFERENCES)
    rows = [f"| {each.what} | {each.theirs} | {each.ours} |" for each in TABLE_DIFFERENCES]
    head = [
        f"We played {number} histories of ConfigMaps (created, changed, deleted) to both Go routers and to bbr.",
        f"Then we asked each router for models. After {number - differ} histories they agree. The others:",
        "",
        "| change | Go routers (v1.5.0, v0.1.0) | bbr, with and without `--compat` |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def page() -> str:
    """Return the page as it should be."""
    text = PAGE.read_text("utf-8")
    parts = (
        (BEGIN, END, table()),
        (START_BEGIN, START_END, start_table()),
        (TABLE_BEGIN, TABLE_END, table_table()),
    )
    for begin, end, part in parts:
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.split(end)[1]}"
    return text


def main(words: list[str] | None = None) -> int:
    """Write the list, or compare it with the page and return 1 if they differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.go.differences", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is out of date")
    if not parser.parse_args(words).check:
        PAGE.write_text(page(), "utf-8")
    elif PAGE.read_text("utf-8") != page():
        print(f"{PAGE.name} does not list the differences as they are: run `make reference`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
