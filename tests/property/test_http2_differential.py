"""The same octets to us and to python-hyper: the same class of answer, or a difference that is written down here."""

import contextlib
import re
import struct
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hyperframe import frame as wire
from hypothesis import given
from hypothesis import strategies as st

from bbr.http2.connection import Connection
from bbr.http2.events import ConnectionFailed, Event, StreamReset
from bbr.http2.frames import ErrorCode
from bbr.http2.settings import Settings
from tests.support import h2_scripts as scripts
from tests.support.examples import examples

EXAMPLES = 130

WINDOW = 65_535
OK = "ok"
STATUS = scripts.block([(b":status", b"200")])
NAMES = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS"),
    *("PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"),
)


@dataclass
class Answer:
    """What a server makes of a frame: ok, RST code or GOAWAY code; `reason` is our name of it."""

    kind: str
    reason: str = ""


class Ours:
    def __init__(self) -> None:
        self.connection = Connection(
            Settings(
                stream_window_bytes=WINDOW,
                wide_streams=0,
                connection_window_bytes=WINDOW,
                header_table_size=4096,
                max_concurrent_streams=3,
            ),
            0.0,
        )

    def receive(self, octets: bytes) -> Answer:
        events = self.connection.receive(octets, 0.0)
        self.connection.take_output()
        return next(filter(None, map(self.answer, reversed(events))), Answer(OK))

    def respond(self, stream_id: int) -> None:
        self.connection.send_headers(stream_id, STATUS)
        self.connection.send_data(stream_id, b"0123456789abcdef", end_stream=True)
        self.connection.take_output()

    def can_respond(self, stream_id: int) -> bool:
        return stream_id in self.connection.streams

    def has_reset(self, octets: bytes) -> bool:
        return int.from_bytes(octets[5:9], "big") in self.connection._table._reset_ids

    @staticmethod
    def answer(event: Event) -> Answer | None:
        if isinstance(event, ConnectionFailed):
            return Answer(f"GOAWAY {event.code.name}", event.reason)
        if isinstance(event, StreamReset) and event.reason:
            return Answer(f"RST {ErrorCode(event.code).name}", event.reason)
        return None


class Theirs:
    """With what an owner of h2's does: credit goes back at once, and who answers early resets."""

    def __init__(self) -> None:
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        codes = h2.settings.SettingCodes
        self.connection.local_settings = h2.settings.Settings(
            client=False, initial_values={codes.MAX_CONCURRENT_STREAMS: 3, codes.MAX_HEADER_LIST_SIZE: 8192}
        )
        self.connection.initiate_connection()
        self.connection.data_to_send()

    def receive(self, octets: bytes) -> Answer:
        try:
            events = self.connection.receive_data(octets)
        except h2.exceptions.ProtocolError:
            events = []
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.give_back(event.flow_controlled_length, 0)
                if event.stream_ended is None:
                    self.give_back(event.flow_controlled_length, event.stream_id)
        answer = Answer(OK)
        for frame in scripts.parsed(self.connection.data_to_send()):
            if isinstance(frame, wire.GoAwayFrame):
                return Answer(f"GOAWAY {ErrorCode(frame.error_code).name}")
            if isinstance(frame, wire.RstStreamFrame):
                answer = Answer(f"RST {ErrorCode(frame.error_code).name}")
        return answer

    def give_back(self, octets: int, stream_id: int) -> None:
        if octets:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.connection.increment_flow_control_window(octets, stream_id or None)

    def respond(self, stream_id: int) -> None:
        self.connection.send_headers(stream_id, [(b":status", b"200")])
        self.connection.send_data(stream_id, b"0123456789abcdef", end_stream=True)
        if stream_id in self.connection.streams and not self.connection.streams[stream_id].closed:
            self.connection.reset_stream(stream_id, ErrorCode.NO_ERROR)
        self.connection.data_to_send()

    def can_respond(self, stream_id: int) -> bool:
        try:
            return self.connection.local_flow_control_window(stream_id) >= 16
        except h2.exceptions.ProtocolError:
            return False


Step = bytes | int  # octets of the peer's, or the stream that both servers answer
steps = scripts.good_frames | scripts.good_frames | scripts.bad_frames | st.sampled_from([1, 3, 5])
REQUESTS = [scripts.request(1), scripts.request(3, scripts.SIZED), scripts.request(5)]
openings = st.integers(0, 3).map(lambda count: REQUESTS[:count])
dialogues = st.builds(list.__add__, openings, st.lists(steps, max_size=20))


def described(octets: bytes) -> str:
    """Name a step by its first frame; a HEADERS brings its CONTINUATIONs along."""
    kind, payload = octets[3], octets[9:]
    if kind >= len(NAMES):
        return "ALTSVC" if kind == 10 else "unknown"
    name = NAMES[kind]
    if kind == scripts.WINDOW_UPDATE and not int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF:
        return f"{name} of 0"
    if kind == scripts.WINDOW_UPDATE and payload[:1] >= b"\x80":
        return f"{name} with the reserved bit"
    if kind == scripts.SETTINGS and any(
        identifier == 8 for identifier, _ in struct.iter_unpack(">HI", payload[: len(payload) // 6 * 6])
    ):
        return f"{name} of ENABLE_CONNECT_PROTOCOL"
    length = int.from_bytes(octets[:3], "big")
    if kind == scripts.HEADERS and octets[4] & scripts.PADDED and length and payload[0] == length - 1:
        return f"{name} of padding alone"
    if not octets[4] & scripts.END_HEADERS and kind == scripts.HEADERS:
        return f"{name} in fragments"
    return name


def first_difference(dialogue: list[Step]) -> str | None:
    ours, theirs = Ours(), Theirs()
    for step in (scripts.PREFACE + scripts.settings(), *dialogue):
        if isinstance(step, int):
            if ours.can_respond(step) and theirs.can_respond(step):
                ours.respond(step)
                theirs.respond(step)
            continue
        late = " after our reset" if ours.has_reset(step) else ""
        our, their = ours.receive(step), theirs.receive(step)
        if our.kind != their.kind:
            return f"{described(step)}{late}: {our.kind} ({our.reason}) / {their.kind}"
        if our.kind.startswith("GOAWAY") or step[3] == scripts.GOAWAY:
            break  # h2 takes nothing more after the peer's either
    return None


# Why we differ from python-hyper: "frame: ours (our reason) / theirs", where both sides are right or we are.
WANTED = {
    r"[\w ]+: RST (\w+) \([\w-]+\) / GOAWAY (\1|PROTOCOL_ERROR)": (
        "A stream error (8.1.1, 5.4.2, 5.1.2). h2 ends the connection for most of them."
    ),
    r"[\w ]+: GOAWAY COMPRESSION_ERROR \(hpack[\w-]*\) / GOAWAY PROTOCOL_ERROR": "4.3 names COMPRESSION_ERROR.",
    r"[\w ]+: GOAWAY FRAME_SIZE_ERROR \(frame-too-long\) / ok": "B5: we look at the header, h2 waits for the payload.",
    r"[\w ]+: GOAWAY (PROT|FRAME|STREAM)\w+ \([\w-]+\) / GOAWAY (PROT|FRAME|STREAM)\w+": (
        "A frame with two faults: hyperframe looks at its form first, we at its place."
    ),
    r"[\w ]+: GOAWAY STREAM_CLOSED \([\w-]+\) / RST STREAM_CLOSED": "C3, C4: the strict side of a MAY (5.1).",
    r"(DATA|HEADERS)[\w ]* after our reset: ok \(\) / (RST STREAM_CLOSED|GOAWAY \w+)": (
        "C5: in flight when we reset; RST is not said twice (5.1)."
    ),
    r"RST_STREAM: GOAWAY PROTOCOL_ERROR \(idle-stream\) / ok": "6.4 demands it; h2 lets it pass.",
    r"HEADERS[\w ]*: RST PROTOCOL_ERROR \(content-length\) / ok": "8.1.1; h2 counts DATA frames only.",
    r"(HEADERS in fragments|PUSH_PROMISE)[\w ]*: GOAWAY PROTOCOL_ERROR \([\w-]+\) / ok": "We do not wait for the rest.",
    r"HEADERS of padding alone[\w ]*: (ok|RST \w+) \([\w-]*\) / GOAWAY PROTOCOL_ERROR": (
        "6.2 allows it; hyperframe leaves the pad length's own octet out."
    ),
    r"SETTINGS of ENABLE_CONNECT_PROTOCOL: ok \(\) / GOAWAY PROTOCOL_ERROR": "6.5.2: ignored.",
    r"WINDOW_UPDATE of 0[\w ]*: ok \(\) / GOAWAY PROTOCOL_ERROR": "D14: on a closed stream it is nothing.",
    r"WINDOW_UPDATE with the reserved bit[\w ]*: (ok|RST \w+) \([\w-]*\) / GOAWAY PROTOCOL_ERROR": "6.9: ignored.",
    r"ALTSVC[\w ]*: ok \(\) / GOAWAY FRAME_SIZE_ERROR": "B1: a type that RFC 9113 does not define is passed over.",
    r"HEADERS[\w ]*: GOAWAY PROTOCOL_ERROR \(headers-on-closed-stream\) / RST STREAM_CLOSED": (
        "5.1.1: after ids were left out, we do not remember which of the lower ones were open. h2 does."
    ),
}


@examples(EXAMPLES)
@given(dialogue=dialogues)
def test_l1_frames_get_the_same_class_of_answer(dialogue: list[Step]) -> None:
    difference = first_difference(dialogue)
    assert difference is None or any(re.fullmatch(pattern, difference) for pattern in WANTED)


@pytest.mark.parametrize(
    ("pattern", "steps"),
    [
        (0, [scripts.request(1, scripts.MALFORMED[0])]),
        (1, [scripts.frame(scripts.HEADERS, scripts.END_HEADERS, 1, b"\x80")]),
        (2, [scripts.frame(scripts.DATA, 0, 1, bytes(16_385))[:9]]),
        (3, [scripts.frame(scripts.PUSH_PROMISE, 0, 2)]),
        (4, [scripts.request(5), scripts.frame(scripts.DATA, 0, 1, b"x")]),
        (5, [*REQUESTS[:1], 1, scripts.frame(scripts.DATA, 0, 1, b"x")]),
        (6, [scripts.request(1), scripts.frame(scripts.RST_STREAM, 0, 7, bytes(4))]),
        (7, [scripts.request(1, scripts.SIZED, end_stream=True)]),
        (8, [scripts.frame(scripts.HEADERS, 0, 2)]),
        (9, [scripts.frame(scripts.HEADERS, scripts.PADDED, 1, scripts.padded(b"", 3))]),
        (10, [scripts.settings((8, 2))]),
        (11, [scripts.request(5), scripts.window_update(1, 0)]),
        (12, [scripts.request(1), scripts.frame(scripts.WINDOW_UPDATE, 0, 1, b"\x80\x00\x00\x09")]),
        (13, [scripts.frame(10, 0, 0)]),
        (14, [REQUESTS[0], scripts.frame(scripts.RST_STREAM, 0, 1, bytes(4)), REQUESTS[2], REQUESTS[0]]),
    ],
)
def test_l1_the_wanted_differences_are_there(pattern: int, steps: list[Step]) -> None:
    difference = first_difference(steps)
    assert difference is not None
    assert re.fullmatch(list(WANTED)[pattern], difference)
