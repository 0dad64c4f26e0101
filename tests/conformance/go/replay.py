"""The corpus, put to the Go routers and to ours over gRPC, and what they answer in words.

    python -m tests.conformance.go.replay record

runs the Go routers, which `make go-parity` builds, and writes what they answer into recorded.json. To that the tests
hold ours wherever there is no Go. In what ours differs from them is told by differences.py.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bbr.config import loading, policies
from bbr.pb.ext_proc_pb2 import (
    CommonResponse,
    HeaderMutation,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from bbr.sources import configmap
from bbr.sources.objects import SourceObject
from bbr.sources.table import Table
from bench.harness import go_router
from bench.harness.background import Background
from bench.harness.fake_kubernetes import BBR, IPP
from bench.harness.grpc_client import PROCESS
from bench.harness.in_process_router import Router
from bench.harness.messages import parse
from tests.conformance.go import configurations
from tests.conformance.go.corpus import BUFFERED, DATA, FOO, STREAMED, Conversation, body, conversations, headers

RECORDED: Final = Path(__file__).with_name("recorded.json")
SECONDS: Final = 30.0

# Values longer than this are told by their length and digest.
_SHOWN_BYTES: Final = 100
_COMMENT: Final = (
    "What the Go routers answer to the conversations of corpus.py. Recorded from their own programs by "
    "`python -m tests.conformance.go.replay record`; they are built by `make go-parity`. "
    "Both are under the Apache License 2.0; the words of errors in JSON are those of Go (BSD-3-Clause)."
)


class Scrape(NamedTuple):
    """What a Go router tells of itself.

    Attributes:
        families: name -> type and labels, of what has a sample.
        counts: name and labels of a counter, and of a histogram's count -> how much it grew in counted conversations.
    """

    families: dict[str, list[str]]
    counts: dict[str, float]


class Target(NamedTuple):
    """One way in which a Go router runs, and ours beside it.

    Attributes:
        name: the key of its recorded answers.
        program: the Go router.
        mode: the body mode that it serves.
        compat: of ours.
        label: of its ConfigMaps.
    """

    name: str
    program: go_router.Program
    mode: int
    compat: str
    label: str

    @property
    def asked(self) -> list[Conversation]:
        """The conversations that it is asked."""
        return [each for each in conversations() if each.mode == self.mode]

    @property
    def counted(self) -> list[Conversation]:
        """Those after which its metrics are compared with ours."""
        return [each for each in self.asked if _COUNTED.fullmatch(each.name)]


TARGETS: Final = (
    Target("gie --streaming", go_router.GIE, STREAMED, "gie", BBR),
    Target("gie", go_router.GIE, BUFFERED, "gie", BBR),
    Target("ipp", go_router.IPP, STREAMED, "ipp", IPP),
)

# Conversations after which metrics are compared: the answers are the same, and so must the counts be.
_COUNTED: Final = re.compile(
    r"\w+, (body: (?!a key in).*|name: (empty|a blank)|mode untold: (a body|no model|a GET)|"
    r"events: (request and response|a GET and its response))"
)

# Of all conversations of a target: what came back, a line for each message, and how the stream ended.
Answers = dict[str, list[str]]


def ask(port: int, asked: Sequence[Conversation]) -> Answers:
    """Put conversations to a server, one after the other, and return what it answers, in words."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.stream_stream(PROCESS)
        return {each.name: _answers(call, each) for each in asked}


def _answers(call: grpc.StreamStreamMultiCallable, asked: Conversation) -> list[str]:
    sent = asked.sent
    found: list[ProcessingResponse] = []
    end = "OK"
    try:
        for reply in call(iter(sent), timeout=SECONDS):
            found.append(parse(reply))
    except grpc.RpcError as error:
        end = error.code().name
    return [*map(told, found), *_body_told(sent, found), f"end {end}"]


def _body_told(sent: Sequence[bytes], found: Sequence[ProcessingResponse]) -> Iterator[str]:
    """Give a line on the bytes that came back, where any did."""
    for kind in ("request_body", "response_body"):
        back = b"".join(
            getattr(each, kind).response.body_mutation.streamed_response.body
            for each in found
            if each.WhichOneof("response") == kind
        )
        if back:
            yield f"{kind} came back {'as it was' if back == _body(sent, kind) else 'ALTERED'}"


def _body(sent: Sequence[bytes], kind: str) -> bytes:
    requests = map(_parsed, sent)
    return b"".join(getattr(each, kind).body for each in requests if each is not None and each.HasField(kind))


def _parsed(message: bytes) -> ProcessingRequest | None:
    try:
        return ProcessingRequest.FromString(message)
    except DecodeError:
        return None


def told(answer: ProcessingResponse) -> str:
    """Return a message in words; headers in order of their names, since Go's maps have none."""
    kind = answer.WhichOneof("response") or "nothing"
    if kind == "immediate_response":
        return f"immediate {_immediate(answer.immediate_response)}"
    part = getattr(answer, kind, None)
    if kind.endswith("trailers"):
        return " ".join([kind, *_mutation(part.header_mutation)])
    if part is None or not part.HasField("response"):
        return kind
    return " ".join([kind, *_common(part.response)])


def _common(common: CommonResponse) -> Iterator[str]:
    if common.status:
        yield f"status={common.status}"
    if common.clear_route_cache:
        yield "clear"
    yield from _mutation(common.header_mutation)
    if common.HasField("body_mutation"):
        piece = common.body_mutation
        if piece.HasField("streamed_response"):
            yield f"streamed {len(piece.streamed_response.body)}"
            if piece.streamed_response.end_of_stream:
                yield "end"
        else:
            yield f"body {piece.WhichOneof('mutation')}"


def _mutation(mutation: HeaderMutation) -> Iterator[str]:
    for option in sorted(mutation.set_headers, key=lambda option: option.header.key):
        action = f" (append_action {option.append_action})" if option.append_action else ""
        text = f" (value {option.header.value!r})" if option.header.value else ""
        yield f"{option.header.key}={_shown(option.header.raw_value)}{action}{text}"
    yield from (f"-{name}" for name in sorted(mutation.remove_headers))


def _immediate(answer: ImmediateResponse) -> str:
    more = [*_mutation(answer.headers), *([f"details {answer.details}"] if answer.details else [])]
    return " ".join([str(answer.status.code), *more, repr(answer.body.decode("utf-8", "backslashreplace"))])


def _shown(octets: bytes) -> str:
    if len(octets) > _SHOWN_BYTES:
        return f"({len(octets)} bytes, SHA-256 {hashlib.sha256(octets).hexdigest()[:16]})"
    return json.dumps(octets.decode("utf-8", "backslashreplace"))


def families(exposed: Iterable[Metric]) -> dict[str, list[str]]:
    """Return the Go routers' metrics among others: name -> type and labels."""
    return {
        family.name: [family.type, *sorted({label for each in family.samples for label in each.labels} - {"le"})]
        for family in exposed
        if family.name.startswith(("bbr_", "ipp_")) and family.samples
    }


def counts(exposed: Iterable[Metric]) -> dict[str, float]:
    """Return the counters among metrics, and the counts of histograms: name and labels -> value."""
    return {
        f"{sample.name}{dict(sorted(sample.labels.items())) or ''}": sample.value
        for family in exposed
        for sample in family.samples
        if sample.name.startswith(("bbr_", "ipp_")) and sample.name.endswith(("_total", "_count"))
    }


def scraped(port: int) -> list[Metric]:
    """Return a server's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as reply:
        return list(text_string_to_metric_families(reply.read().decode()))


def measure(target: Target, port: int, metrics_port: int) -> Scrape:
    """Put the counted conversations to a Go router, and return what it tells of them, and of all before."""
    before = counts(scraped(metrics_port))
    ask(port, target.counted)
    after = scraped(metrics_port)
    return Scrape(families(after), {name: number - before.get(name, 0) for name, number in counts(after).items()})


@contextmanager
def theirs(target: Target) -> Iterator[tuple[int, int]]:
    """Run a Go router; give its port, and that of its metrics.

    Raises:
        GoRouterError: it does not start.
    """
    ready = Conversation("ready", target.mode, (headers(), body(FOO, end=True)))

    def is_ready(port: int) -> bool:
        return any('Base-Model-Name="qwen"' in line for line in ask(port, [ready])["ready"])

    with ExitStack() as stack:
        kube_config = stack.enter_context(go_router.api_server(DATA, target.label))
        running = go_router.started(target.program, kube_config, is_ready, streaming=target.mode == STREAMED)
        _, (port, _, metrics_port) = stack.enter_context(running)
        yield port, metrics_port


@contextmanager
def ours(target: Target, transport: str = "uv") -> Iterator[Router]:
    """Run our router as that target's replacement, with --compat."""
    flags = {"compat": target.compat} | ({"assume_body_mode": "full-duplex"} if target.mode == STREAMED else {})
    origin = configmap.origin("default", "qwen", None)
    table = Table(["kubernetes"])
    table.replace("kubernetes", [SourceObject("default/qwen", 1, lambda: configmap.parse(DATA, origin))])
    table.apply_now()
    with Background() as background:
        router = Router(background, table.registry, policies.policy(loading.load(flags, {})), transport)
        try:
            yield router
        finally:
            router.stop()


def recorded() -> dict[str, Answers]:
    """Return what the Go routers answered when they were last asked, by target."""
    found: dict[str, Answers] = _recorded("answers")
    return found


def scrapes() -> dict[str, Scrape]:
    """Return what they told of themselves then, by target."""
    return {name: Scrape(**each) for name, each in _recorded("metrics").items()}


def flags(program: go_router.Program) -> list[str]:
    """Return the flags of a Go router, as its --help has them, without dashes."""
    told = subprocess.run(
        [program.binary, "--help"],
        env=go_router.ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return re.findall(r"^ +(?:-\w, )?--([\w-]+)", told.stderr + told.stdout, re.MULTILINE)


def their_flags() -> dict[str, list[str]]:
    """Return the flags that the Go routers had when they were last asked, by target."""
    found: dict[str, list[str]] = _recorded("flags")
    return found


def tables() -> dict[str, dict[str, dict[str, str]]]:
    """Return what they took models for after each of histories.HISTORIES, by target."""
    found: dict[str, dict[str, dict[str, str]]] = _recorded("histories")
    return found


def started() -> dict[str, str]:
    """Return what the payload processor did with each of configurations.CONFIGURATIONS."""
    found: dict[str, str] = _recorded("configurations")
    return found


def programs() -> dict[str, str]:
    """Return the programs that were asked, with their versions, by target."""
    found: dict[str, str] = _recorded("programs")
    return found


def _recorded(what: str) -> Any:
    return json.loads(RECORDED.read_text("utf-8"))[what]


def record() -> None:
    """Ask the Go routers, and write down what they answer."""
    from tests.conformance.go import histories  # which stands on this module

    answers, metrics = {}, {}
    for target in TARGETS:
        with theirs(target) as (port, metrics_port):
            answers[target.name] = ask(port, target.asked)
            metrics[target.name] = measure(target, port, metrics_port)._asdict()
    versions = {target.name: f"{target.program.module}@{target.program.version}" for target in TARGETS}
    whole = {"comment": _COMMENT, "programs": versions, "metrics": metrics, "configurations": configurations.theirs()}
    whole["flags"] = {target.name: flags(target.program) for target in TARGETS}
    whole["histories"] = {target.name: histories.theirs(target) for target in histories.TARGETS}
    whole["answers"] = answers
    RECORDED.write_text(json.dumps(whole, indent=1, ensure_ascii=True) + "\n", "utf-8")


def main(words: list[str] | None = None) -> int:
    """Record, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.go.replay", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["record"])
    parser.parse_args(words)
    try:
        record()
    except go_router.GoRouterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
