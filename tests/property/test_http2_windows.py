"""A walk beside a model: flow control, stream states, GOAWAY, and whether h2's client takes all that we send."""

import struct
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.exceptions
import h2.settings
import pytest
from hyperframe import frame as wire
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bbr.http2.connection import Connection
from bbr.http2.events import DataReceived, RequestReceived, StreamReset
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from tests.support import h2_scripts as scripts
from tests.support.examples import examples

EXAMPLES, STEPS = 50, 60

MAX_WINDOW = (1 << 31) - 1
LIMITS = Settings(
    stream_window_bytes=65_535,
    wide_window_bytes=70_000,
    wide_streams=1,
    connection_window_bytes=100_000,
    max_concurrent_streams=5,
    max_queued_bytes=1_000,
)
STATUS = scripts.block([(b":status", b"200"), (b"content-type", b"application/grpc")])
TRAILERS = scripts.block(scripts.TRAILERS)
PATTERN = b"".join(struct.pack(">I", number) for number in range(400_000))

some = st.integers(0, 7)
sizes = st.sampled_from([0, 1, 5, 100, 16_384, 16_385, 32_768, 65_535, 70_000])


@dataclass
class Model:
    """A stream as the octets on the wire have it."""

    credit: int
    queued: int = 0  # octets that we were given to send
    sent: int = 0
    headers: bool = False
    ending: bool = False  # we were told to end it
    trailers: bool = False
    peer_ended: bool = False
    peer_sent: int = 0
    received: int = 0
    events: list[str] = field(default_factory=list)


class Walk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.connection = Connection(LIMITS, 0.0)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.peer = h2.connection.H2Connection(config)
        self.open: dict[int, Model] = {}
        self.closed: set[int] = set()
        self.credit = 65_535  # for our DATA, on the connection
        self.initial = 65_535
        self.peer_credit = 65_535  # for the peer's
        self.peer_stream_credit: dict[int, int] = {}
        self.frame_size = 16_384
        self.last_id = MAX_WINDOW
        self.refusing = False
        self.held = False

    @initialize(initial=st.sampled_from([0, 1_000, 65_535]), increment=st.sampled_from([1, 1_000_000]))
    def hands_shake(self, initial: int, increment: int) -> None:
        self.peer.initiate_connection()
        self.exchange()
        self.peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: initial})
        self.peer.increment_flow_control_window(increment)
        self.exchange()

    # The wire.

    def exchange(self) -> None:
        for _ in range(4):
            self.take_output()
            octets = self.peer.data_to_send()
            if not octets:
                return
            self.deliver(octets)

    def deliver(self, octets: bytes) -> None:
        self.note_peer(octets.removeprefix(scripts.PREFACE))
        self.receive(octets)

    def receive(self, octets: bytes) -> None:
        for event in self.connection.receive(octets, 0.0):
            if isinstance(event, DataReceived):
                self.open[event.stream_id].received += len(event.data)
            elif isinstance(event, RequestReceived):
                assert not self.refusing
                assert event.stream_id <= self.last_id
            elif isinstance(event, StreamReset):
                assert event.stream_id not in self.connection.streams

    def note_peer(self, octets: bytes) -> None:
        for frame in scripts.parsed(octets):
            number = frame.stream_id
            stream = self.open.get(number)
            if isinstance(frame, wire.WindowUpdateFrame):
                if not number:
                    self.credit += frame.window_increment
                elif stream:
                    stream.credit += frame.window_increment
            elif isinstance(frame, wire.SettingsFrame) and 4 in frame.settings:
                for each in self.open.values():
                    each.credit += frame.settings[4] - self.initial
                self.initial = frame.settings[4]
            elif isinstance(frame, wire.HeadersFrame) and stream is None and number not in self.closed:
                self.open[number] = Model(self.initial)
                self.peer_stream_credit[number] = LIMITS.stream_window_bytes
            elif isinstance(frame, wire.DataFrame):
                self.peer_credit -= frame.flow_controlled_length
                self.peer_stream_credit[number] -= frame.flow_controlled_length
            elif isinstance(frame, wire.RstStreamFrame):
                self.close(number)
            if "END_STREAM" in frame.flags and number in self.open:
                self.open[number].peer_ended = True

    def take_output(self) -> None:
        for frame in scripts.parsed(self.connection.take_output()):
            self.note_ours(frame)
            # After a GOAWAY h2's client takes nothing more at all. And one by one: for the rest of a read it goes on
            # with the MAX_FRAME_SIZE from before our acknowledgement.
            if not isinstance(frame, wire.GoAwayFrame):
                self.peer.receive_data(frame.serialize())

    def note_ours(self, frame: wire.Frame) -> None:
        number = frame.stream_id
        if number:
            assert number in self.open, f"{frame} on a stream that is closed"
        if isinstance(frame, wire.WindowUpdateFrame):
            if number:
                self.peer_stream_credit[number] += frame.window_increment
            else:
                self.peer_credit += frame.window_increment
        elif isinstance(frame, wire.GoAwayFrame):
            assert frame.last_stream_id <= self.last_id
            assert frame.error_code == ErrorCode.NO_ERROR
            self.last_id = frame.last_stream_id
        elif isinstance(frame, wire.RstStreamFrame):
            self.close(number)
        elif isinstance(frame, wire.DataFrame):
            self.note_data(self.open[number], frame)
        if "END_STREAM" in frame.flags:
            stream = self.open[number]
            assert stream.ending
            assert stream.sent == stream.queued
            assert isinstance(frame, wire.HeadersFrame) == stream.trailers
            if stream.peer_ended:
                self.close(number)

    def note_data(self, stream: Model, frame: wire.DataFrame) -> None:
        size = len(frame.data)
        assert size <= self.frame_size
        assert size or "END_STREAM" in frame.flags
        assert not (self.held and size)
        self.credit -= size
        stream.credit -= size
        assert not size or min(self.credit, stream.credit) >= 0
        assert frame.data == PATTERN[stream.sent : stream.sent + size]
        stream.sent += size

    def close(self, number: int) -> None:
        if self.open.pop(number, None) is not None:
            self.closed.add(number)

    def pick(self, choice: int) -> int:
        return sorted(self.open)[choice % len(self.open)]

    # The peer.

    @rule(end_stream=st.booleans())
    def peer_opens(self, end_stream: bool) -> None:
        if self.peer.open_outbound_streams < LIMITS.max_concurrent_streams:
            self.peer.send_headers(self.peer.get_next_available_stream_id(), scripts.POST, end_stream=end_stream)
            self.exchange()

    @rule(choice=some, size=sizes, padding=st.none() | st.integers(0, 255), end_stream=st.booleans())
    @precondition(lambda self: self.open)
    def peer_sends(self, choice: int, size: int, padding: int | None, end_stream: bool) -> None:
        number = self.pick(choice)
        if self.open[number].peer_ended:
            return
        size = min(size, self.peer.local_flow_control_window(number) - (padding or 0) - 1, 16_000)
        if size >= 0:
            self.peer.send_data(number, bytes(size), end_stream=end_stream, pad_length=padding)
            self.exchange()

    @rule(choice=some)
    @precondition(lambda self: self.open)
    def peer_fills_window(self, choice: int) -> None:
        number = self.pick(choice)
        while not self.open[number].peer_ended and (window := self.peer.local_flow_control_window(number)):
            before = self.peer_stream_credit[number]
            self.peer.send_data(number, bytes(min(window, 16_384)))
            self.exchange()
            if number not in self.open or self.peer_stream_credit[number] > before - 16_384:
                return

    @rule(choice=some)
    @precondition(lambda self: self.open)
    def peer_sends_trailers(self, choice: int) -> None:
        number = self.pick(choice)
        if not self.open[number].peer_ended:
            self.peer.send_headers(number, scripts.TRAILERS, end_stream=True)
            self.exchange()

    @rule(choice=some)
    @precondition(lambda self: self.open)
    def peer_resets(self, choice: int) -> None:
        self.peer.reset_stream(self.pick(choice))
        self.exchange()

    @rule(choice=some, increment=st.sampled_from([1, 10, 5_000, 100_000]))
    @precondition(lambda self: self.open)
    def peer_gives_stream_credit(self, choice: int, increment: int) -> None:
        number = self.pick(choice)
        try:
            self.peer.increment_flow_control_window(increment, number)
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            # h2 gives none on a stream that we have ended; we may receive it.
            self.deliver(scripts.window_update(number, increment))
        self.exchange()

    @rule(increment=st.sampled_from([1, 10, 5_000, 100_000]))
    def peer_gives_credit(self, increment: int) -> None:
        self.peer.increment_flow_control_window(increment)
        self.exchange()

    @rule(initial=st.sampled_from([0, 1, 10, 20_000, 65_535, 200_000]), frame_size=st.sampled_from([16_384, 20_000]))
    def peer_changes_settings(self, initial: int, frame_size: int) -> None:
        codes = h2.settings.SettingCodes
        self.frame_size = max(self.frame_size, frame_size)
        self.peer.update_settings({codes.INITIAL_WINDOW_SIZE: initial, codes.MAX_FRAME_SIZE: self.frame_size})
        self.exchange()

    @rule(choice=some, kind=st.sampled_from(["update 0", "overflow", "priority", "content after the end"]))
    @precondition(lambda self: self.open)
    def peer_is_at_fault(self, choice: int, kind: str) -> None:
        number = self.pick(choice)
        stream = self.open[number]
        if kind == "content after the end" and not stream.peer_ended:
            return
        if kind == "overflow" and stream.queued > stream.sent:
            return  # the first half would let it go
        octets = {
            "update 0": scripts.window_update(number, 0),
            "overflow": scripts.window_update(number, MAX_WINDOW) * 2,
            "priority": scripts.frame(scripts.PRIORITY, 0, number, bytes(4)),
            "content after the end": scripts.request(number, scripts.TRAILERS, end_stream=True),
        }[kind]
        self.receive(octets)
        self.take_output()
        assert number in self.closed

    # Us.

    @rule(choice=some, size=sizes, end_stream=st.booleans())
    @precondition(lambda self: self.open)
    def we_send(self, choice: int, size: int, end_stream: bool) -> None:
        number = self.pick(choice)
        stream = self.open[number]
        if stream.ending or stream.queued + size > len(PATTERN):
            return
        # Section 6.9.1 allows an empty DATA that ends a stream at any window. h2 takes none at one that SETTINGS have
        # brought below 0.
        if end_stream and stream.credit < 0 and stream.queued + size == stream.sent:
            return
        self.send_first(number, stream)
        octets = PATTERN[stream.queued : stream.queued + size]
        stream.queued += size
        stream.ending = end_stream
        self.connection.send_data(number, octets, end_stream=end_stream)
        self.exchange()

    @rule(choice=some)
    @precondition(lambda self: self.open)
    def we_send_trailers(self, choice: int) -> None:
        number = self.pick(choice)
        stream = self.open[number]
        if not stream.ending:
            self.send_first(number, stream)
            stream.ending = stream.trailers = True
            self.connection.send_headers(number, TRAILERS, end_stream=True)
            self.exchange()

    def send_first(self, number: int, stream: Model) -> None:
        if not stream.headers:
            stream.headers = True
            self.connection.send_headers(number, STATUS)

    @rule(choice=some)
    @precondition(lambda self: self.open)
    def we_reset(self, choice: int) -> None:
        self.connection.reset(self.pick(choice), ErrorCode.INTERNAL_ERROR)
        self.exchange()

    @rule()
    @precondition(lambda self: self.closed)
    def we_write_to_the_dead(self) -> None:
        for number in self.closed:
            self.connection.send_headers(number, STATUS)
            self.connection.send_data(number, b"x", end_stream=True)
            self.connection.reset(number, ErrorCode.CANCEL)
        assert self.connection.take_output() == b""

    @rule(held=st.booleans())
    def we_hold(self, held: bool) -> None:
        if held:
            self.take_output()
        self.held = held
        self.connection.hold(held)
        self.exchange()

    @rule(refuse=st.sampled_from([False, False, False, True]))
    def we_shut_down(self, refuse: bool) -> None:
        self.connection.shut_down(refuse=refuse)
        self.refusing = self.refusing or refuse
        self.exchange()
        assert self.last_id >= max(self.open, default=0)

    # What always holds.

    @invariant()
    def both_sides_agree(self) -> None:
        connection = self.connection
        assert not connection.closed
        assert set(connection.streams) == set(self.open)
        for number, stream in connection.streams.items():
            model = self.open[number]
            assert not stream.local_closed
            assert stream.remote_closed == model.peer_ended
            assert stream.send_window.available == model.credit
            assert stream.queued_bytes == sum(map(len, stream.queue or ())) == model.queued - model.sent
            assert bool(stream.queue) == (model.queued > model.sent or (model.ending and not model.trailers))

    @invariant()
    def nothing_waits_without_reason(self) -> None:
        for model in self.open.values():
            if not self.held:
                assert model.sent == model.queued or min(self.credit, model.credit) <= 0
                assert model.sent < model.queued or not model.ending

    @invariant()
    def credit_is_conserved(self) -> None:
        whole = self.connection._receiver._window
        assert whole.available == self.peer_credit
        assert whole.available + whole.unsent == whole.size == LIMITS.connection_window_bytes
        for number, stream in self.connection.streams.items():
            window = stream.receive_window
            assert window.available == self.peer_stream_credit[number] >= 0
            if not stream.remote_closed:
                assert window.available + window.unsent + stream.withheld_bytes == window.size
            if stream.queued_bytes == 0:
                assert stream.withheld_bytes == 0 or stream.remote_closed

    def teardown(self) -> None:
        self.held = False
        self.connection.hold(False)
        self.deliver(scripts.window_update(0, MAX_WINDOW - self.credit))
        self.take_output_unfed()
        for number in list(self.open):
            if number in self.open and self.open[number].credit < 1 << 30:
                self.deliver(scripts.window_update(number, 1 << 30))
                self.take_output_unfed()
        assert all(model.sent == model.queued and not model.ending for model in self.open.values())

    def take_output_unfed(self) -> None:
        for frame in scripts.parsed(self.connection.take_output()):
            self.note_ours(frame)


Walk.TestCase.settings = examples(EXAMPLES, STEPS)
TestWalk = Walk.TestCase  # "L2 walk beside a model"


STUCK = scripts.settings((4, 0)) + scripts.window_update(0, 200_000) + scripts.request(1)


def stuck(size: int) -> Connection:
    connection = Connection(LIMITS, 0.0)
    connection.receive(scripts.PREFACE + STUCK, 0.0)
    connection.send_data(1, bytes(size))
    assert connection.streams[1].queued_bytes == size
    connection.take_output()
    return connection


@pytest.mark.parametrize("credit", [scripts.window_update(1, 50_000), scripts.settings((4, 50_000))])
def test_either_kind_of_credit_lets_a_stream_go(credit: bytes) -> None:
    connection = stuck(50_000)
    connection.receive(credit, 0.0)
    sent = [len(frame.data) for frame in scripts.parsed(connection.take_output()) if isinstance(frame, wire.DataFrame)]
    assert sent == [16_384] * 3 + [848]


def test_withheld_credit_comes_back_once() -> None:
    connection = stuck(5_000)
    window = connection.streams[1].receive_window
    for given in (5_000, 2_000):
        connection.receive(scripts.frame(scripts.DATA, 0, 1, bytes(10_000)) * 2, 0.0)
        assert connection.streams[1].withheld_bytes == 20_000
        connection.receive(scripts.window_update(1, given), 0.0)
        assert connection.streams[1].withheld_bytes == 0
        assert window.available + window.unsent == window.size
        connection.send_data(1, bytes(2_000))
