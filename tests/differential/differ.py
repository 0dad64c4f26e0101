"""Asks the router and foreign parsers for the models of the same requests: none may be routed as A and read as B.

    python -m tests.differential.differ --count 100000 --seed 1

A parser that reads no model from a routed request, or does not take it, reads no other one: that is no misreading.
Which request is routed is decided by a whole Exchange, in two ways that have to agree: short bodies whole, and all
bodies as they come. One that is not routed is looked at again with a default model.
"""

import argparse
import asyncio
import contextlib
import gzip
import itertools
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import brotli

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Rules
from bbr.reading.templates import parse_templates
from bbr.reading.zstd import zstd
from bench.harness.conversation import said
from bench.harness.messages import request_body, request_headers
from tests.differential.children import LANGUAGES, Case, Child, Language, UnavailableError
from tests.differential.generator import Request, requests, shown

# Requests that are made, judged and asked about at once.
CHUNK: Final = 1000
EXAMPLES: Final = 3
DEFAULT_MODEL: Final = "A"

# What parsers read of a `model` that names none: where there is a default, a request with one is routed as that.
NO_NAMES: Final = (None, "", {"other": "null"})


class Misreading(NamedTuple):
    """A request that a parser reads as another model than it is routed as."""

    parser: str
    routed: str
    read: object
    request: Request


def is_excused(parser: str, routed: str) -> bool:
    """Tell whether docs/reference/requests.md lists that a parser reads another name.

    Escapes in a form are UTF-8 (WHATWG's URL standard). A server that takes them for Latin-1 reads another name that is
    not ASCII; of one that is ASCII both read the same.
    """
    return "Latin-1" in parser and not routed.isascii()


class Tally:
    """What came of a run.

    Attributes:
        requests: how many were made.
        routed: how many of them were routed.
        read: of those, how many each parser read a model from.
        misread: of those, how many each parser read another one from.
        examples: some of these.
        unavailable: languages whose parsers were not asked, and why.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.routed = 0
        self.read: Counter[str] = Counter()
        self.misread: Counter[str] = Counter()
        self.examples: dict[str, list[Misreading]] = defaultdict(list)
        self.unavailable: dict[str, str] = {}

    def add(self, parser: str, routed: str, read: object, request: Request) -> None:
        """Take note of what a parser reads of a routed request."""
        if read in NO_NAMES:
            return
        self.read[parser] += 1
        if read != routed and not is_excused(parser, routed):
            self.misread[parser] += 1
            if len(self.examples[parser]) < EXAMPLES:
                self.examples[parser].append(Misreading(parser, routed, read, request))


def policy(threshold_bytes: int, rules: Rules) -> Policy:
    """Return what an operator has decided who has a template of paths, and reads longer bodies as they come."""
    templates = parse_templates("/model/{model}/invoke")
    return Policy(Replies(), path_templates=templates, stream_threshold_bytes=threshold_bytes, rules=rules)


# Where a request needs a model of its own; and where one without gets the default.
RULES: Final = (Rules(), Rules(missing_model=MissingModel.DEFAULT, default_model=DEFAULT_MODEL))
POLICIES: Final = [tuple(policy(threshold, rules) for threshold in (1, 1 << 20)) for rules in RULES]


def routed_as(request: Request) -> str | None:
    """Return the model that a request is routed as, or None if it is refused, or passes without one.

    Raises:
        AssertionError: it depends on whether the body is read whole.
    """
    for policies in POLICIES:
        first, second = (_routed_as(request, each) for each in policies)
        assert first == second, f"routed as {first!r} and as {second!r}: {shown(request)}"
        if first is not None:
            return first
    return None


def _routed_as(request: Request, policy: Policy) -> str | None:
    fields: list[tuple[str, str | bytes]] = [(":method", request.method), (":path", request.path)]
    fields += [("content-type", each) for each in request.content_types]
    fields += [("content-encoding", each) for each in request.content_encodings]
    talk = Exchange(policy, Registry())
    said(talk, request_headers(fields, mode=BodyMode.FULL_DUPLEX_STREAMED))
    said(talk, request_body(request.body, end_of_stream=True))
    return talk.verdict.model or DEFAULT_MODEL if talk.verdict.outcome is Outcome.ROUTED else None


def readings(request: Request) -> Iterator[Case]:
    """Give what servers may hand to their parsers of a request: of several fields one or all, a body decoded or not."""
    types: Sequence[bytes | None] = request.content_types or (None,)
    if len(request.content_types) > 1:
        types = [*request.content_types, b", ".join(request.content_types), b",".join(request.content_types)]
    bodies = {request.body, *decoded(request)}
    for content_type, body in itertools.product(types, sorted(bodies)):
        yield request.method, content_type, request.path, body


def decoded(request: Request) -> Iterator[bytes]:
    """Give what a body may be decoded to: all codings undone, or only some, as by a server that looks at one field."""
    codings = [
        each.strip(b" \t").lower().removeprefix(b"x-")
        for field in request.content_encodings
        for each in field.split(b",")
    ]
    bodies = {request.body}
    for coding in reversed(codings):
        found = {made for body in bodies for made in undone(coding, body)}
        yield from found
        bodies = found or bodies
    for coding in {*codings[:-1]}:
        yield from undone(coding, request.body)


def undone(coding: bytes, body: bytes) -> Iterator[bytes]:
    """Give what decoders make of a body: of all of its members, of the first, with what follows or without."""
    for decode in DECODERS.get(coding, ()):
        with contextlib.suppress(Exception):  # whoever can't decode it reads no model
            yield decode(body)


def _inflated(bits: int) -> Callable[[bytes], bytes]:
    return lambda body: zlib.decompressobj(bits).decompress(body)


def _first_frame(body: bytes) -> bytes:
    return zstd.ZstdDecompressor().decompress(body)


def _behind_skipped(body: bytes) -> bytes:
    """Decode as who knows no skippable frames but passes over one at the beginning."""
    return _first_frame(body[8 + int.from_bytes(body[4:8], "little") :])


DECODERS: Final[dict[bytes, tuple[Callable[[bytes], bytes], ...]]] = {
    b"gzip": (gzip.decompress, _inflated(16 + zlib.MAX_WBITS)),
    b"deflate": (
        _inflated(zlib.MAX_WBITS),
        _inflated(-zlib.MAX_WBITS),
        lambda body: _inflated(-zlib.MAX_WBITS)(body[2:]),
    ),
    b"br": (brotli.decompress, lambda body: brotli.Decompressor().process(body)),
    b"zstd": (zstd.decompress, _first_frame, _behind_skipped),
}


async def run(seed: int, count: int, languages: Sequence[Language] = LANGUAGES) -> Tally:
    """Make so many requests and ask all parsers that there are."""
    tally = Tally()
    children = []
    for language in languages:
        try:
            children.append(await Child.start(language))
        except UnavailableError as error:
            tally.unavailable[language.name] = str(error)
    made = requests(seed, count)
    try:
        while chunk := list(itertools.islice(made, CHUNK)):
            tally.requests += len(chunk)
            judged = [(request, model) for request in chunk if (model := routed_as(request)) is not None]
            tally.routed += len(judged)
            await ask(children, judged, tally)
    finally:
        for child in children:
            await child.close()
    return tally


async def ask(children: Sequence[Child], judged: Sequence[tuple[Request, str]], tally: Tally) -> None:
    """Ask all parsers about routed requests."""
    cases = [(request, model, case) for request, model in judged for case in readings(request)]
    answers = await asyncio.gather(*(child.ask([case for _, _, case in cases]) for child in children))
    for child, found in zip(children, answers, strict=True):
        for (request, model, _), all_read in zip(cases, found, strict=True):
            for parser, read in zip(child.names, all_read, strict=True):
                tally.add(parser, model, read, request)


def report(tally: Tally) -> str:
    """Return what came of a run, for people."""
    lines = [f"{tally.requests} requests, {tally.routed} of them routed."]
    lines += [f"{name} was not asked: {why}" for name, why in tally.unavailable.items()]
    width = max(map(len, tally.read), default=0)
    lines += [
        f"  {parser:{width}}  read {tally.read[parser]:7}  misread {tally.misread[parser]}" for parser in tally.read
    ]
    for parser, examples in tally.examples.items():
        lines += [
            f"{parser}: routed as {each.routed!r}, read as {each.read!r}: {shown(each.request)}" for each in examples
        ]
    return "\n".join(lines)


def main() -> int:
    """Run it and return the exit status: 0 if no request was read in two ways."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="requests to make")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same requests")
    parser.add_argument("--languages", default="", help="only these, with commas between")
    options = parser.parse_args()
    wanted = options.languages.split(",") if options.languages else [language.name for language in LANGUAGES]
    languages = [language for language in LANGUAGES if language.name in wanted]
    tally = asyncio.run(run(options.seed, options.count, languages))
    print(f"seed {options.seed}: {report(tally)}")
    return 1 if tally.misread else 0


if __name__ == "__main__":
    sys.exit(main())
