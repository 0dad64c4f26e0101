import itertools
from dataclasses import dataclass

import pytest

from bbr.exchange import phases
from bbr.exchange.exchange import Exchange
from bbr.exchange.phases import DECIDING, DONE, FLUSHING, KINDS, PASSING, READING, START, STREAMING, Act, PhaseTable
from bbr.exchange.policy import BodyMode
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from bbr.rpc.status import StatusCode
from bench.harness import messages
from bench.harness.conversation import (
    BODY,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    echoed,
    exchange,
    kinds,
)
from bench.harness.messages import parse, request_body, request_headers, request_trailers

FDS, BUFFERED, GRPC_MODE = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED, BodyMode.GRPC
UNREAD = {"content-type": "audio/wav"}
LONG = b'{"x":"' + b"y" * 300 + b'","model":"qwen"}'
EARLY = b'{"model":"qwen","x":"' + b"y" * 300


@dataclass
class Machine:
    """A table, and how to bring an exchange of it to each of its phases."""

    table: PhaseTable
    mode: BodyMode
    told: bool
    ways: dict[str, list[bytes]]

    def at(self, phase: str) -> Exchange:
        """Return an exchange in a phase, with all of its work done that does not lead out of it."""
        more = {} if self.told else {"assume_body_mode": self.mode}
        talk = exchange(stream_threshold_bytes=200, **more)
        for message in self.ways[phase]:
            while talk.pending:
                talk.work()
            talk.receive(self._first(message) if message is self.ways[phase][0] else message)
        while talk.pending and phase == STREAMING:
            talk.work()
        assert talk._request.phase == phase
        return talk

    def send(self, talk: Exchange, phase: str, kind: str | None) -> list[ProcessingResponse]:
        """Send a message of a kind, and return the answers."""
        message = MESSAGES[kind]
        return [parse(answer) for answer in talk.receive(message if self.ways[phase] else self._first(message))]

    def _first(self, message: bytes) -> bytes:
        request = ProcessingRequest.FromString(message)
        if self.told:
            request.protocol_config.request_body_mode = int(self.mode)
        return request.SerializeToString()


MESSAGES: dict[str | None, bytes] = {
    "request_headers": request_headers(),
    "request_body": request_body(BODY, end_of_stream=True),
    "request_trailers": request_trailers(),
    "response_headers": messages.response_headers(),
    "response_body": messages.response_body(b"data"),
    "response_trailers": messages.response_trailers(),
    None: b"",
}
HEADERS, WHOLE = MESSAGES["request_headers"], MESSAGES["request_body"]
DUPLEX_WAYS = {
    START: [],
    READING: [HEADERS],
    DECIDING: [HEADERS, request_body(LONG, end_of_stream=True)],
    STREAMING: [HEADERS, request_body(EARLY)],
    FLUSHING: [HEADERS, request_body(EARLY), request_body(b'"}', end_of_stream=True)],
    PASSING: [request_headers(UNREAD)],
    DONE: [HEADERS, WHOLE],
}
AWAITED_WAYS = {phase: way for phase, way in DUPLEX_WAYS.items() if phase not in (STREAMING, FLUSHING)}
GRPC_WAYS = {START: [], PASSING: [HEADERS], DONE: [request_headers(end_of_stream=True)]}
MACHINES = {
    "duplex": Machine(phases.DUPLEX, FDS, True, DUPLEX_WAYS),
    "awaited": Machine(phases.AWAITED, BUFFERED, True, AWAITED_WAYS),
    "assumed": Machine(phases.ASSUMED, BUFFERED, False, AWAITED_WAYS),
    "grpc": Machine(phases.GRPC, GRPC_MODE, True, GRPC_WAYS),
}
CELLS = [
    pytest.param(machine, phase, kind, act, id=f"{name}: {phase}, {kind}: {act}")
    for name, machine in MACHINES.items()
    for phase, row in machine.table.items()
    for kind, act in zip(KINDS, row, strict=True)
]
FAULTS = {
    Act.HEADERS_TWICE: StatusCode.FAILED_PRECONDITION,
    Act.BODY_TWICE: StatusCode.FAILED_PRECONDITION,
    Act.TRAILERS_EARLY: StatusCode.FAILED_PRECONDITION,
    Act.UNKNOWN: StatusCode.UNIMPLEMENTED,
}


@pytest.mark.parametrize(("machine", "phase", "kind", "act"), CELLS)
def test_cell(machine: Machine, phase: str, kind: str | None, act: str) -> None:
    talk = machine.at(phase)
    late = talk.verdict.late_bodies
    answers = machine.send(talk, phase, kind)
    after = talk._request.phase
    if act in FAULTS:
        assert (answers, after, talk.verdict.outcome, talk.verdict.reason) == ([], DONE, Outcome.FAULT, act)
        assert talk.end is not None
        assert talk.end.code is FAULTS[act]
        assert talk.receive(HEADERS) == ()
    elif act == Act.UNSEEN:
        assert_refused(answers, 500, "headers-not-sent")
    elif act == Act.DROP:
        assert (answers, after, talk.verdict.late_bodies) == ([], phase, late + 1)
    else:
        assert talk.end is None
        CHECKS[act](machine, talk, phase, answers)
    assert talk.verdict.late_bodies == late + (act == Act.DROP)


def opened(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert talk._request.phase == (PASSING if machine.mode is GRPC_MODE else READING)
    if machine.mode is FDS:
        assert answers == []
    else:
        assert_strips(*answers)


def begun(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert_routes(*answers, "qwen", "qwen")
    assert talk._request.phase == DONE


def read(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    if phase == STREAMING:  # it is long
        assert (answers, talk._request.phase, talk.pending) == ([], FLUSHING, True)
        return
    assert_routes(answers[0], "qwen", "qwen")
    assert talk._request.phase == DONE
    if machine.mode is FDS:
        assert echoed(answers[1:]) == (BODY, [True])


def passed(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    if machine.mode is FDS:
        assert (echoed(answers), talk._request.phase) == ((BODY, [True]), DONE)
    else:
        assert_strips(*answers)
        assert talk._request.phase == PASSING


def went_back(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert (echoed(answers), talk._request.phase) == ((BODY, [True]), phase)


def ended(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    if phase == STREAMING:
        assert (answers, talk._request.phase) == ([], FLUSHING)
        return
    assert kinds(answers)[-1] == "request_trailers"
    assert_strips(answers[0]) if machine.mode is FDS else None
    assert talk._request.phase == DONE


def finished(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert (kinds(answers), talk._request.phase) == (["request_trailers"], DONE)


def answered(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert kinds(answers)[0] in ("response_headers", "response_trailers")
    assert (len(answers), talk._request.phase) == (1, phase)


def without_body(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert (kinds(answers), talk._request.phase) == (["response_headers"], PASSING)
    assert (talk.verdict.outcome, talk.pending) == (Outcome.NO_BODY, False)


def responded(machine: Machine, talk: Exchange, phase: str, answers: list[ProcessingResponse]) -> None:
    assert (kinds(answers), talk._request.phase) == (["response_body"], phase)


CHECKS = {
    Act.OPEN: opened,
    Act.BEGIN: begun,
    Act.READ: read,
    Act.PASS: passed,
    Act.ECHO: went_back,
    Act.END: ended,
    Act.FINISH: finished,
    Act.ANSWER: answered,
    Act.NO_BODY: without_body,
    Act.RESPONSE: responded,
}


def test_every_act_is_walked() -> None:
    acts = {value for name, value in vars(Act).items() if not name.startswith("_")}
    assert acts == {each.values[3] for each in CELLS} == {*CHECKS, *FAULTS, Act.UNSEEN, Act.DROP}


def test_each_table_has_the_phases_that_its_exchanges_come_to() -> None:
    sent = [request_headers(UNREAD), request_headers(end_of_stream=True), request_body(LONG), *MESSAGES.values()]
    sent += [request_body(EARLY), request_body(b'"}', end_of_stream=True)]
    for machine in MACHINES.values():
        assert machine.table.keys() == machine.ways.keys()
        for script in itertools.product(sent, repeat=3):
            talk = exchange(stream_threshold_bytes=200, assume_body_mode=machine.mode)
            converse(talk, *(machine._first(each) if each is script[0] else each for each in script))
            assert talk._request.phase in machine.table
