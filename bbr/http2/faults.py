"""What a peer can do wrong: every fault by its name, with the error code that answers it and the section it breaks.

A fault ends a stream (section 5.4.2) or the connection (section 5.4.1); who meets it decides which. Sections are those
of RFC 9113 unless said otherwise. Section 10.5 forbids nothing by itself: it lets a server end what costs more than it
should, and the limits are ours (bbr.http2.budgets, bbr.http2.settings).
"""

from typing import Final

from bbr.http2.frames import ErrorCode


class Fault:
    """One of them.

    Attributes:
        code: of the RST_STREAM or GOAWAY.
        reason: stable name in kebab case: the GOAWAY's debug data, and a metric's label. Faults of one kind share it.
        section: of RFC 9113: the rule that was broken, or that allows the limit.
    """

    __slots__ = ("code", "reason", "section")

    def __init__(self, code: ErrorCode, reason: str, section: str) -> None:
        self.code = code
        self.reason = reason
        self.section = section


class ConnectionFault(Exception):  # noqa: N818 (a fault of the peer's, not an error of ours)
    """The connection must end for a fault. It never leaves Connection."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


def malformed(reason: str) -> Fault:
    """Return the fault of a request that is malformed; `reason` is of bbr.http2.fields, or of the constants there."""
    return Fault(ErrorCode.PROTOCOL_ERROR, reason, "8.1.1")


# Frames and their order.
PREFACE: Final = Fault(ErrorCode.PROTOCOL_ERROR, "preface", "3.4")
NO_SETTINGS_FIRST: Final = Fault(ErrorCode.PROTOCOL_ERROR, "no-settings-first", "3.4")
FRAME_TOO_LONG: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-too-long", "4.2")
CONTINUATION_EXPECTED: Final = Fault(ErrorCode.PROTOCOL_ERROR, "continuation-expected", "4.3")
CONTINUATION: Final = Fault(ErrorCode.PROTOCOL_ERROR, "continuation", "6.10")
PADDING: Final = Fault(ErrorCode.PROTOCOL_ERROR, "padding", "6.1")
PUSH_PROMISE: Final = Fault(ErrorCode.PROTOCOL_ERROR, "push-promise", "8.4")
HEADERS_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.2")
PRIORITY_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.3")
RST_STREAM_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.4")
SETTINGS_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.5")
PING_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.7")
GOAWAY_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.8")
WINDOW_UPDATE_SIZE: Final = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "6.9")

# Streams, by their state (bbr.http2.states).
EVEN_STREAM: Final = Fault(ErrorCode.PROTOCOL_ERROR, "stream-id", "5.1.1")
PRIORITY_ON_CONNECTION: Final = Fault(ErrorCode.PROTOCOL_ERROR, "stream-id", "6.3")
CONNECTION_FRAME_ON_STREAM: Final = Fault(ErrorCode.PROTOCOL_ERROR, "stream-id", "6.5")  # and 6.7, 6.8
IDLE_STREAM: Final = Fault(ErrorCode.PROTOCOL_ERROR, "idle-stream", "5.1")
DATA_AFTER_END: Final = Fault(ErrorCode.STREAM_CLOSED, "data-after-end", "5.1")
DATA_ON_CLOSED_STREAM: Final = Fault(ErrorCode.STREAM_CLOSED, "data-on-closed-stream", "5.1")
HEADERS_AFTER_END: Final = Fault(ErrorCode.STREAM_CLOSED, "headers-after-end", "5.1")
HEADERS_ON_CLOSED_STREAM: Final = Fault(ErrorCode.STREAM_CLOSED, "headers-on-closed-stream", "5.1")
HEADERS_ON_SKIPPED_STREAM: Final = Fault(ErrorCode.PROTOCOL_ERROR, "headers-on-closed-stream", "5.1.1")
REFUSED: Final = Fault(ErrorCode.REFUSED_STREAM, "refused", "5.1.2")
GOING_AWAY: Final = Fault(ErrorCode.REFUSED_STREAM, "going-away", "6.8")
# RFC 9113 has deprecated priorities, and this rule with them; RFC 7540 has it in section 5.3.1, and h2spec tests it.
SELF_DEPENDENCY: Final = Fault(ErrorCode.PROTOCOL_ERROR, "self-dependency", "5.3.1")

# Requests.
CONTENT_LENGTH: Final = malformed("content-length")
TRAILERS: Final = malformed("trailers")
HPACK: Final = Fault(ErrorCode.COMPRESSION_ERROR, "hpack", "4.3")
HPACK_TABLE_SIZE: Final = Fault(ErrorCode.COMPRESSION_ERROR, "hpack-table-size", "4.3.1")

# Flow control.
CONNECTION_WINDOW: Final = Fault(ErrorCode.FLOW_CONTROL_ERROR, "connection-window", "6.9.1")
STREAM_WINDOW: Final = Fault(ErrorCode.FLOW_CONTROL_ERROR, "stream-window", "6.9.1")
WINDOW_OVERFLOW: Final = Fault(ErrorCode.FLOW_CONTROL_ERROR, "window-overflow", "6.9.1")
INITIAL_WINDOW_OVERFLOW: Final = Fault(ErrorCode.FLOW_CONTROL_ERROR, "window-overflow", "6.9.2")
WINDOW_INCREMENT: Final = Fault(ErrorCode.PROTOCOL_ERROR, "window-increment", "6.9")

# Settings.
INITIAL_WINDOW_SIZE: Final = Fault(ErrorCode.FLOW_CONTROL_ERROR, "initial-window-size", "6.5.2")
MAX_FRAME_SIZE: Final = Fault(ErrorCode.PROTOCOL_ERROR, "max-frame-size", "6.5.2")
ENABLE_PUSH: Final = Fault(ErrorCode.PROTOCOL_ERROR, "enable-push", "6.5.2")

# What takes too long.
PREFACE_TIMEOUT: Final = Fault(ErrorCode.PROTOCOL_ERROR, "preface-timeout", "3.4")
SETTINGS_TIMEOUT: Final = Fault(ErrorCode.SETTINGS_TIMEOUT, "settings-timeout", "6.5.3")
FRAME_TIMEOUT: Final = Fault(ErrorCode.PROTOCOL_ERROR, "frame-timeout", "10.5")
KEEPALIVE_TIMEOUT: Final = Fault(ErrorCode.NO_ERROR, "keepalive-timeout", "9.1")
STREAM_STALLED: Final = Fault(ErrorCode.CANCEL, "stream-stalled", "10.5")
CONNECTION_STALLED: Final = Fault(ErrorCode.FLOW_CONTROL_ERROR, "connection-stalled", "10.5")

# What costs too much.
FIELD_SECTION_BOMB: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "field-section-bomb", "10.5.1")
CONTINUATION_FLOOD: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "continuation-flood", "10.5")
SETTINGS_FLOOD: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "settings-flood", "10.5")
CONTROL_FLOOD: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "control-flood", "10.5")
UNREAD_CONTROL_FRAMES: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "unread-control-frames", "10.5")
RAPID_RESET: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "rapid-reset", "10.5")
FAULTS: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "faults", "10.5")
QUEUED_BYTES: Final = Fault(ErrorCode.ENHANCE_YOUR_CALM, "queued-bytes", "10.5")
