"""Calls on a connection without sockets; the client is python-hyper/h2."""

from collections.abc import Callable, Sequence

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from bbr.http2.fields import FieldSection
from bbr.http2.settings import Settings
from bbr.rpc.calls import Handler
from bbr.rpc.connection import RpcConnection
from bbr.rpc.messages import PREFIX, frame
from bbr.rpc.running import Services
from bbr.rpc.status import OK, Status, StatusCode
from bench.harness.rpc_client import Simple

PATH = "/test.Echo/Talk"
DATA_ON_1 = b"\x00\x00\x01\x00\x00\x00\x00\x00\x01x"
ABORTED = Status(StatusCode.FAILED_PRECONDITION, "no more")


class Echo(Simple):
    """Sends each message back; "end" ends the call, "fail" is a fault of ours."""

    def __init__(self) -> None:
        self.end: Status | None = None
        self.patience_seconds: float | None = None
        self.at_half_close: Status | None = OK

    def receive(self, message: bytes) -> Sequence[bytes]:
        if message == b"fail":
            raise RuntimeError("ours")
        if message == b"fail later":
            self.finish = self._fail  # type: ignore[method-assign]
        if message == b"end":
            self.end = ABORTED
        return () if message == b"quiet" else (message,)

    def expire(self) -> Sequence[bytes]:
        if self.patience_seconds == 7:
            raise RuntimeError("ours")
        if self.patience_seconds == 8:
            return ()
        self.end = ABORTED
        return (b"too late",)

    def finish(self) -> Status | None:
        return self.at_half_close

    def _fail(self) -> Status | None:
        raise RuntimeError("ours")


class Peers:
    """A client and a server joined without sockets, on a clock that only the test moves."""

    def __init__(
        self,
        new_handler: Callable[[], Simple] = Echo,
        *,
        window: int = 65_535,
        clock: Callable[[], float] = lambda: 0.0,
        **limits: int,
    ) -> None:
        self.begun: list[tuple[Simple, FieldSection]] = []
        self.failed: list[Exception] = []
        self._new_handler = new_handler
        services = Services({PATH.encode(): self._begin}, 100_000, self.failed.append, clock=clock)
        self.now = 100.0
        self.server = RpcConnection(Settings(**limits), services, self.now)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.got: list[h2.events.Event] = []
        self.exchange()

    def _begin(self, call: FieldSection) -> Handler:
        handler = self._new_handler()
        self.begun.append((handler, call))
        return handler

    @property
    def ended(self) -> list[Simple]:
        """Return the handlers whose call is over, which each of them was told once."""
        assert all(each.overs <= 1 for each, _ in self.begun)
        return [each for each, _ in self.begun if each.overs]

    def exchange(self) -> None:
        """Carry octets both ways until neither side has any."""
        while True:
            up, down = self.client.data_to_send(), self.server.take_output()
            if not up and not down:
                return
            self.server.receive(up, self.now)
            self.got += self.client.receive_data(down)

    def call(self, *messages: bytes, end: bool = False, path: str = PATH, method: str = "POST", **more: str) -> int:
        stream = self.client.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
        extra = {"content-type": "application/grpc", "te": "trailers"} | {
            k.replace("_", "-"): v for k, v in more.items()
        }
        octets = frame(messages)
        self.client.send_headers(stream, [*fields, *extra.items()], end_stream=end and not octets)
        if octets:
            self.client.send_data(stream, octets, end_stream=end)
        self.exchange()
        return stream

    def only(self, kind: type, stream: int) -> list:
        return [event for event in self.got if isinstance(event, kind) and event.stream_id == stream]

    def answer(self, stream: int) -> tuple[bytes, str | None]:
        """Return the DATA of a stream's answer, and its grpc-status wherever it stands."""
        data = b"".join(event.data for event in self.only(h2.events.DataReceived, stream))
        heads = self.only(h2.events.ResponseReceived, stream) + self.only(h2.events.TrailersReceived, stream)
        return data, next(
            (dict(head.headers)["grpc-status"] for head in heads if "grpc-status" in dict(head.headers)), None
        )


def test_messages_are_answered_and_the_end_is_ok() -> None:
    peers = Peers()
    stream = peers.call(b"a", b"b", end=True)
    assert peers.answer(stream) == (frame([b"a", b"b"]), "0")
    assert len(peers.ended) == 1
    assert not peers.server.calls


def test_headers_leave_with_the_first_message_k6() -> None:
    peers = Peers()
    stream = peers.call(b"quiet")
    assert not peers.only(h2.events.ResponseReceived, stream)
    peers.client.send_data(stream, frame([b"loud"]))
    peers.exchange()
    assert len(peers.only(h2.events.ResponseReceived, stream)) == 1


def test_end_without_a_message_is_trailers_only() -> None:
    peers = Peers()
    stream = peers.call(end=True)
    (head,) = peers.only(h2.events.ResponseReceived, stream)
    assert dict(head.headers) == {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}
    assert peers.only(h2.events.StreamEnded, stream)


def test_trailers_end_a_request_too() -> None:
    peers = Peers()
    stream = peers.call(b"a")
    peers.client.send_headers(stream, [("x-checksum", "1")], end_stream=True)
    peers.exchange()
    assert peers.answer(stream) == (frame([b"a"]), "0")


def test_handler_may_go_on_after_half_close_until_ended_from_outside() -> None:
    peers = Peers()

    def new() -> Echo:
        echo = Echo()
        echo.at_half_close = None
        return echo

    peers = Peers(new)
    stream = peers.call(b"a", end=True)
    (call,) = peers.server.calls.values()
    peers.server.push(call, b"later")
    peers.server.end(call, OK)
    peers.exchange()
    assert peers.answer(stream) == (frame([b"a", b"later"]), "0")


def test_handler_ends_the_call_and_the_client_is_told_to_stop_h8() -> None:
    peers = Peers()
    stream = peers.call(b"end")
    assert peers.answer(stream) == (frame([b"end"]), "9")
    (reset,) = peers.only(h2.events.StreamReset, stream)
    assert reset.error_code == 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"path": "/test.Echo/Other"}, "12"),
        ({"grpc_timeout": "soon"}, "13"),
    ],
)
def test_calls_that_never_begin(arguments: dict[str, str], status: str) -> None:
    peers = Peers()
    stream = peers.call(b"a", end=True, **arguments)
    assert peers.answer(stream) == (b"", status)
    assert not peers.ended


@pytest.mark.parametrize(("arguments", "status"), [({"method": "GET"}, "405"), ({"content_type": "text/plain"}, "415")])
def test_what_is_no_grpc_h5(arguments: dict[str, str], status: str) -> None:
    peers = Peers()
    stream = peers.call(end=True, **arguments)
    assert dict(peers.only(h2.events.ResponseReceived, stream)[0].headers)[":status"] == status


def test_end_inside_of_a_message_h3() -> None:
    peers = Peers()
    stream = peers.call()
    peers.client.send_data(stream, frame([b"abc"])[:-1], end_stream=True)
    peers.exchange()
    assert peers.answer(stream) == (b"", "13")


def test_too_long_a_message_h2() -> None:
    peers = Peers()
    stream = peers.call()
    peers.client.send_data(stream, b"\x00\xff\xff\xff\xff")
    peers.exchange()
    assert peers.answer(stream) == (b"", "8")
    for late in (
        bytes(9),
        b"\x00\x00\x00\x00\x01\x00\x00\x00\x01",
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x01",
    ):
        peers.server.receive(late.replace(bytes(9), DATA_ON_1), peers.now)  # was under way
    assert not peers.server.closed


def test_rest_of_a_refused_request_in_the_same_read_comes_to_nothing() -> None:
    peers = Peers()
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/other")]
    peers.client.send_headers(1, [*fields, ("content-type", "application/grpc")])
    peers.client.send_data(1, frame([b"a"]))
    peers.client.send_headers(1, [("x-checksum", "1")], end_stream=True)
    peers.exchange()
    assert peers.answer(1) == (b"", "12")
    assert not peers.server.closed


def test_client_that_cancels_h9() -> None:
    peers = Peers()
    stream = peers.call(b"quiet")
    peers.client.reset_stream(stream, 8)
    peers.exchange()
    assert len(peers.ended) == 1
    assert peers.answer(stream) == (b"", None)


def test_timeout_h6() -> None:
    peers = Peers()
    stream = peers.call(b"quiet", grpc_timeout="2S")
    peers.now += 1.9
    peers.server.expire(peers.now)
    peers.exchange()
    assert peers.answer(stream) == (b"", None)
    peers.now += 0.2
    peers.server.expire(peers.now)
    peers.exchange()
    assert peers.answer(stream) == (b"", "4")


def test_a_piece_of_a_message_is_no_sign_of_life() -> None:
    def patient() -> Echo:
        echo = Echo()
        echo.patience_seconds = 3.0
        return echo

    peers = Peers(patient)
    stream = peers.call()
    for octet in frame([b"slow"])[:4]:
        peers.client.send_data(stream, bytes((octet,)))
        peers.exchange()
        peers.now += 1.0
        peers.server.expire(peers.now)
    peers.exchange()
    assert peers.answer(stream) == (frame([b"too late"]), "9")


@pytest.mark.parametrize(
    ("patience", "answer"), [(3.0, (frame([b"too late"]), "9")), (8.0, (b"", None)), (7.0, (b"", "13"))]
)
def test_patience(patience: float, answer: tuple[bytes, str | None]) -> None:
    def new() -> Echo:
        echo = Echo()
        echo.patience_seconds = patience
        return echo

    peers = Peers(new)
    stream = peers.call(b"quiet")
    for _ in range(2):
        peers.now += patience
        peers.server.expire(peers.now)
        peers.client.send_data(stream, frame([b"quiet"]))  # whoever is heard of is waited for
        peers.exchange()
    peers.now += patience + 0.1
    peers.server.expire(peers.now)
    peers.exchange()
    assert peers.answer(stream) == answer
    assert len(peers.failed) == (patience == 7)


@pytest.mark.parametrize("message", [b"fail", b"fail later"])
def test_fault_of_ours_ends_its_call_alone_j5(message: bytes) -> None:
    peers = Peers()
    other = peers.call(b"quiet")
    stream = peers.call(message, end=True)
    assert peers.answer(stream)[1] == "13"
    assert [str(error) for error in peers.failed] == ["ours"]
    peers.client.send_data(other, frame([b"still here"]), end_stream=True)
    peers.exchange()
    assert peers.answer(other) == (frame([b"still here"]), "0")


class Broken(Echo):
    """Fails where no handler may."""

    where = ""

    @property
    def pending(self) -> bool:  # type: ignore[override]
        if self.where == "pending":
            raise RuntimeError("ours")
        return self.where == "work"

    def receive(self, message: bytes) -> Sequence[bytes]:
        if message == b"work":
            self.where = "work"
        return ()

    def work(self) -> Sequence[bytes]:
        self.where = "pending"
        return ()

    @property
    def patience_seconds(self) -> float | None:  # type: ignore[override]
        if self.where == "expire":
            raise RuntimeError("ours")
        return None

    @patience_seconds.setter
    def patience_seconds(self, _seconds: float | None) -> None:
        pass


@pytest.mark.parametrize("where", ["receive", "expire", "work"])
def test_fault_of_ours_outside_of_any_call_ends_the_connection_j5(where: str) -> None:
    broken = Broken()
    peers = Peers(lambda: broken)
    stream = peers.call(b"work" if where == "work" else b"")
    if where == "work":
        peers.server.work(peers.now)
    elif where == "expire":
        broken.where = "expire"
        peers.server.expire(peers.now)
    else:
        broken.where = "pending"
        peers.client.send_data(stream, frame([b""]))
        peers.server.receive(peers.client.data_to_send(), peers.now)
    assert [str(error) for error in peers.failed] == ["ours"]
    assert (peers.server.closed, peers.server.fault) == (True, "internal-error")
    assert len(peers.ended) == 1
    *_, end = peers.client.receive_data(peers.server.take_output())
    assert isinstance(end, h2.events.ConnectionTerminated)
    assert (end.error_code, end.additional_data) == (2, b"internal-error")


def test_fault_of_ours_after_the_end_is_told_and_no_more() -> None:
    peers = Peers()
    peers.server._abandon(RuntimeError("ours"), peers.now)
    octets = peers.server.take_output()
    peers.server._abandon(RuntimeError("ours"), peers.now)
    assert octets
    assert not peers.server.take_output()
    assert len(peers.failed) == 2


def test_fault_of_ours_at_the_beginning_and_at_the_end() -> None:
    def broken() -> Simple:
        raise RuntimeError("ours")

    peers = Peers(broken)
    assert peers.answer(peers.call(b"a", end=True)) == (b"", "13")

    class BadEnd(Echo):
        def over(self) -> None:
            raise RuntimeError("ours")

    peers = Peers(BadEnd)
    assert peers.answer(peers.call(b"a", end=True)) == (frame([b"a"]), "13")
    assert len(peers.failed) == 1


def test_lost_connection_ends_all_calls() -> None:
    peers = Peers()
    peers.call(b"quiet")
    peers.call(b"quiet")
    peers.server.lost()
    assert len(peers.ended) == 2
    assert not peers.server.calls


def test_failed_connection_ends_all_calls_and_says_why() -> None:
    peers = Peers()
    peers.call(b"quiet")
    peers.server.receive(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", peers.now)
    assert peers.server.closed
    assert peers.server.fault == "window-increment"
    assert len(peers.ended) == 1


def test_a_handler_is_made_with_the_header_section_of_its_call() -> None:
    peers = Peers()
    peers.call(b"hi")
    ((handler, section),) = peers.begun
    assert handler is peers.server.calls[1].handler
    assert section.get(b"content-type") == b"application/grpc"


def test_connection_that_never_begins() -> None:
    services = Services({}, 10, failed=lambda error: None)
    server = RpcConnection(Settings(preface_seconds=5), services, 0.0)
    server.expire(6.0)
    assert (server.closed, server.fault) == (True, "preface-timeout")


def test_shutting_down_refuses_new_calls_only() -> None:
    peers = Peers()
    stream = peers.call(b"quiet")
    peers.server.shut_down(refuse=False)
    peers.server.shut_down(refuse=True)
    peers.client.send_data(stream, frame([b"last"]), end_stream=True)
    peers.server.receive(peers.client.data_to_send(), peers.now)
    peers.server.receive(b"\x00\x00\x01\x01\x05\x00\x00\x00\x03\x83", peers.now)
    octets = peers.server.take_output()  # python-hyper/h2 takes nothing more after a GOAWAY
    assert octets.count(b"\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff") == 1
    assert octets.count(b"\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01") == 1
    assert frame([b"last"]) in octets
    assert b"\x03\x00\x00\x00\x00\x03\x00\x00\x00\x07" in octets  # RST_STREAM(REFUSED_STREAM) on stream 3


def test_ended_call_is_not_idle_while_its_answer_waits_for_credit() -> None:
    peers = Peers()
    assert peers.server.idle
    body = b"x" * 70_000  # more than a default window
    stream = peers.client.get_next_available_stream_id()
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", PATH)]
    peers.client.send_headers(stream, [*fields, ("content-type", "application/grpc")])
    octets = frame([body])
    for start in range(0, len(octets), 10_000):
        peers.client.send_data(stream, octets[start : start + 10_000], end_stream=start + 10_000 >= len(octets))
    peers.exchange()
    assert not peers.server.calls
    assert not peers.server.idle
    peers.client.increment_flow_control_window(100_000)
    peers.client.increment_flow_control_window(100_000, stream)
    peers.exchange()
    assert peers.answer(stream) == (octets, "0")
    assert peers.server.idle


def test_held_connection_produces_nothing_until_it_goes_on() -> None:
    peers = Peers()
    peers.server.hold(True)
    stream = peers.call(b"a")
    assert peers.answer(stream) == (b"", None)
    peers.server.hold(False)
    peers.exchange()
    assert peers.answer(stream)[0] == frame([b"a"])


class Worker(Simple):
    """Owes as many answers as it was sent octets, and works on one of them at a time."""

    def __init__(self) -> None:
        self.end: Status | None = None
        self.left = 0
        self.expected: list[int] = []
        self.fails = False

    @property
    def pending(self) -> bool:  # type: ignore[override]
        return self.left > 0

    def receive(self, message: bytes) -> Sequence[bytes]:
        self.left += len(message)
        return ()

    def work(self) -> Sequence[bytes]:
        if self.fails:
            raise RuntimeError("ours")
        self.left -= 1
        return (b"%d" % self.left,)

    def expect(self, size: int) -> Sequence[bytes]:
        self.expected.append(size)
        if size > 100_000:
            self.end = ABORTED
            return (b"too large",)
        return ()

    def expire(self) -> Sequence[bytes]:
        raise AssertionError

    def finish(self) -> Status | None:
        return OK


class TestWork:
    def test_pending_calls_take_turns(self) -> None:
        peers = Peers(Worker)
        one, other = peers.call(b"xx"), peers.call(b"xx")
        assert peers.server.pending
        peers.server.work(0.0)
        peers.server.work(0.0)
        peers.exchange()
        assert [peers.answer(each)[0] for each in (one, other)] == [frame([b"1"])] * 2
        while peers.server.pending:
            peers.server.work(0.0)
        peers.exchange()
        assert peers.answer(other)[0] == frame([b"1", b"0"])

    def test_half_close_waits_for_the_work(self) -> None:
        peers = Peers(Worker)
        stream = peers.call(b"xx", end=True)
        assert peers.answer(stream)[1] is None
        while peers.server.pending:
            peers.server.work(0.0)
        peers.exchange()
        assert peers.answer(stream) == (frame([b"1", b"0"]), "0")

    def test_a_fault_in_work_ends_its_call_alone(self) -> None:
        peers = Peers(Worker)
        one, other = peers.call(b"x"), peers.call(b"x")
        handlers = [call.handler for call in peers.server.calls.values()]
        handlers[0].fails = True  # type: ignore[attr-defined]
        while peers.server.pending:
            peers.server.work(0.0)
        peers.exchange()
        assert peers.answer(one)[1] == str(StatusCode.INTERNAL.value)
        assert peers.answer(other)[0] == frame([b"0"])
        assert len(peers.failed) == 1

    def test_a_call_that_has_ended_has_no_work(self) -> None:
        peers = Peers(Worker)
        peers.call(b"x")
        (call,) = peers.server.calls.values()
        peers.server.end(call, ABORTED)
        assert peers.server.pending
        peers.server.work(0.0)
        assert not peers.server.pending
        assert call.handler.left == 1  # type: ignore[attr-defined]

    def test_a_stuck_call_does_not_work_until_its_answer_has_left(self) -> None:
        peers = Peers(Worker, window=0, max_queued_bytes=100)
        stream = peers.call(b"xxx")
        other = peers.call(b"x")
        for _ in range(3):
            peers.server.work(0.0)  # the first answer of each waits, and a queue's entry counts 256 octets
        assert not peers.server.pending
        assert [call.handler.left for call in peers.server.calls.values()] == [2, 0]  # type: ignore[attr-defined]
        peers.client.increment_flow_control_window(1000, other)
        peers.exchange()
        assert not peers.server.pending
        peers.client.increment_flow_control_window(1000, stream)
        peers.exchange()
        while peers.server.pending:
            peers.server.work(0.0)
        peers.exchange()
        assert peers.answer(stream)[0] == frame([b"2", b"1", b"0"])

    def test_a_call_that_is_stuck_for_others_goes_on_when_these_are_reset(self) -> None:
        peers = Peers(Worker, window=0, max_connection_queued_bytes=800)
        first, second = peers.call(b"xx"), peers.call(b"xx")
        for _ in range(4):
            peers.server.work(0.0)
        assert not peers.server.pending
        peers.client.reset_stream(first, 8)
        peers.exchange()
        assert peers.server.pending
        peers.server.work(0.0)
        assert peers.server.calls[second].handler.left == 0  # type: ignore[attr-defined]

    def test_a_call_that_is_stuck_for_others_goes_on_when_these_have_stalled(self) -> None:
        limits = {"max_connection_queued_bytes": 800, "stall_seconds": 10, "min_progress_bytes": 1}
        peers = Peers(Worker, window=0, **limits)
        _, second = peers.call(b"xx"), peers.call(b"xx")
        for _ in range(4):
            peers.server.work(100.0)
        peers.server.expire(100.0)
        peers.client.increment_flow_control_window(3, second)
        peers.exchange()
        peers.server.expire(105.0)
        assert not peers.server.pending
        peers.server.expire(111.0)
        assert list(peers.server.calls) == [second]
        assert peers.server.pending

    def test_of_calls_that_are_reset_together_the_one_that_is_left_goes_on(self) -> None:
        peers = Peers(Worker, window=0, max_connection_queued_bytes=800)
        first, second, third = (peers.call(b"xx") for _ in range(3))
        while peers.server.pending:
            peers.server.work(0.0)
        peers.client.reset_stream(first, 8)
        peers.client.reset_stream(second, 8)
        peers.exchange()
        assert list(peers.server.calls) == [third]
        assert peers.server.pending

    def test_a_long_message_is_told_at_its_prefix(self) -> None:
        for size, refused in ((70_000, False), (100_001, True)):
            peers = Peers(Worker)
            stream = peers.call(b"")
            peers.client.send_data(stream, PREFIX.pack(0, size))
            peers.exchange()
            (handler,) = peers.ended or [call.handler for call in peers.server.calls.values()]
            assert handler.expected == [size]  # type: ignore[attr-defined]
            assert peers.answer(stream)[1] == (str(ABORTED.code.value) if refused else None)


class Ticking:
    """A clock that moves on each time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class TestTurns:
    """What a turn has no time for waits for the next one."""

    def test_frame_by_frame(self) -> None:
        peers = Peers(clock=Ticking())
        streams = [peers.client.get_next_available_stream_id() + 2 * place for place in range(5)]
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", PATH)]
        for stream in streams:
            peers.client.send_headers(stream, [*fields, ("content-type", "application/grpc")])
            peers.client.send_data(stream, frame([b"a"]), end_stream=True)
        peers.server.receive(peers.client.data_to_send(), peers.now, peers.server._clock() + 2.0)
        assert peers.server.more
        assert len(peers.ended) == 1
        turns = 0
        while peers.server.more:
            before = len(peers.ended)
            peers.server.receive(b"", peers.now, peers.server._clock() + 2.0)
            assert len(peers.ended) - before <= 1
            turns += 1
        assert turns >= 4
        peers.exchange()
        assert [peers.answer(stream) for stream in streams] == [(frame([b"a"]), "0")] * 5

    def test_message_by_message_and_all_is_answered_in_order(self) -> None:
        peers = Peers(clock=Ticking())
        stream = peers.call()
        messages = [b"%d" % place for place in range(10)]
        peers.client.send_data(stream, frame(messages), end_stream=True)
        peers.client.ping(b"pingping")
        octets = peers.client.data_to_send()
        turns = 0
        output = b""
        while octets or peers.server.more:
            peers.server.receive(octets, peers.now, 0.0)  # no time at all: one message or frame in each turn
            octets = b""
            output += peers.server.take_output()
            turns += 1
        assert turns == 10 + 1 + 1  # in the last it turns out that nothing is left
        assert output.index(frame([b"9"])) < output.index(b"pingping")
        peers.got += peers.client.receive_data(output)
        assert peers.answer(stream) == (frame(messages), "0")

    @pytest.mark.parametrize("how", ["its call ends", "the connection fails"])
    def test_what_is_left_goes_with(self, how: str) -> None:
        peers = Peers(clock=Ticking())
        stream = peers.call()
        peers.client.send_data(stream, frame([b"quiet"] * 10))
        peers.server.receive(peers.client.data_to_send(), peers.now, 0.0)
        (call,) = peers.server.calls.values()
        assert peers.server.more
        if how == "its call ends":
            peers.server.end(call, ABORTED)
            peers.server.receive(b"", peers.now)
        else:
            peers.server.expire(peers.now + 1000.0)
            peers.server.expire(peers.now + 2000.0)
            assert peers.server.closed
        assert not peers.server.more


def test_long_messages_of_several_calls_keep_no_read_in_memory() -> None:
    peers = Peers(window=1 << 20)
    one, other = peers.call(), peers.call()
    first, second = frame([b"1" * 30_000]), frame([b"2" * 30_000])
    for start in range(0, len(first), 16_000):
        peers.client.send_data(one, first[start : start + 16_000])
        peers.client.send_data(other, second[start : start + 16_000])
        peers.server.receive(peers.client.data_to_send(), peers.now)
        assert not peers.server._viewing
        held = [part for call in peers.server.calls.values() for part in call.reader._parts]
        assert all(type(part) is bytes for part in held)
    peers.exchange()
    assert [peers.answer(each)[0] for each in (one, other)] == [first, second]
