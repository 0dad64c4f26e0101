"""The limits of a connection, the settings that it sends to its peer, and the settings that the peer sends."""

from dataclasses import dataclass
from typing import Final

from bbr.http2 import faults, frames
from bbr.http2.faults import ConnectionFault
from bbr.http2.frames import MAX_WINDOW, SettingId

DEFAULT_WINDOW_BYTES: Final = 65_535

# Of one SETTINGS frame; there are six settings.
_MAX_ENTRIES: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits of one connection; docs/design/http2.md has the formula of the memory that follows from them.

    Attributes:
        stream_window_bytes: what a peer may send on a stream before it is read, 65,535 to 2^31-1. Envoy lets a request
            wait until all that other streams have credit for has left, so this is small.
        wide_window_bytes: the same for a stream that has sent nearly as much, so that one upload is not slow.
        wide_streams: so many of a connection at a time.
        connection_window_bytes: for all streams together. Not small: a stream that waits for it waits for all others.
        max_concurrent_streams: further ones are refused. Envoy's own limit is 1,024 for each of its workers.
        header_table_size: of our decoder. With 0 equal field blocks mean the same, and are decoded once.
        max_field_section_bytes: names, values and 32 bytes for each field. A larger request is refused; twice as much
            ends the connection.
        max_fields: the same for their number.
        max_continuations: CONTINUATION frames of one field block (nghttp2: 8).
        max_queued_bytes: answer bytes that may wait for a stream's window before its peer gets no more credit.
        max_connection_queued_bytes: the same for all streams of the connection together: a stream whose answer finds no
            room any more is reset.
        max_queued_control_frames: answers to PING and SETTINGS that a peer may leave unread (nghttp2, Envoy: 1,000).
        preface_seconds: until the client's preface is complete.
        settings_seconds: until our SETTINGS are acknowledged.
        frame_seconds: until a frame, or a field block in several frames, that has begun is complete.
        stall_seconds: how long an answer may wait for its peer's credit with less than `min_progress_bytes` leaving.
            Then its stream is reset; if the whole connection stood still, it is closed.
        min_progress_bytes: the same.
        keepalive_seconds: of silence until the peer is asked with a PING whether it is there.
        keepalive_timeout_seconds: that it has to answer with anything.
    """

    stream_window_bytes: int = 128 << 10
    wide_window_bytes: int = 1 << 20
    wide_streams: int = 4
    connection_window_bytes: int = 16 << 20
    max_concurrent_streams: int = 1000
    # No dynamic table: an HPACK bomb (CVE-2016-6581) needs one, and equal blocks can then be decoded once.
    header_table_size: int = 0
    max_field_section_bytes: int = 8 << 10
    max_fields: int = 128
    max_continuations: int = 8
    max_queued_bytes: int = 1 << 20
    max_connection_queued_bytes: int = 64 << 20
    max_queued_control_frames: int = 1000
    preface_seconds: float = 10.0
    settings_seconds: float = 10.0
    frame_seconds: float = 60.0
    stall_seconds: float = 60.0
    min_progress_bytes: int = 4 << 10
    keepalive_seconds: float = 60.0
    keepalive_timeout_seconds: float = 20.0

    def __post_init__(self) -> None:
        for name in ("stream_window_bytes", "connection_window_bytes"):
            # Not below the default: a client may use 65,535 bytes before it has read our SETTINGS (section 6.9.2).
            if not DEFAULT_WINDOW_BYTES <= getattr(self, name) <= MAX_WINDOW:
                raise ValueError(f"{name} is not between {DEFAULT_WINDOW_BYTES} and {MAX_WINDOW}")

    def wire(self) -> list[tuple[SettingId, int]]:
        """Return what goes into our SETTINGS frame."""
        # No ENABLE_PUSH, which a server may only send as 0 (section 6.5.2). MAX_FRAME_SIZE stays at its default: it
        # bounds what one unfinished frame holds.
        return [
            (SettingId.HEADER_TABLE_SIZE, self.header_table_size),
            (SettingId.MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (SettingId.INITIAL_WINDOW_SIZE, self.stream_window_bytes),
            (SettingId.MAX_HEADER_LIST_SIZE, self.max_field_section_bytes),
        ]


def read_peer_settings(payload: bytes, window: int, max_frame_size: int) -> tuple[int, int]:
    """Return the peer's initial window and largest frame after a SETTINGS frame; before it they were as given.

    Raises:
        ConnectionFault: a value is out of its range, or the payload is no list of settings, or too long a one.
    """
    if len(payload) % frames.SETTING.size:
        raise ConnectionFault(faults.SETTINGS_SIZE)
    # A frame of 16 KiB holds 2,730 settings, each of which we would have to look at (section 10.5).
    if len(payload) > _MAX_ENTRIES * frames.SETTING.size:
        raise ConnectionFault(faults.SETTINGS_FLOOD)
    # In the order in which they stand, the last value wins; unknown ones are ignored (sections 6.5.2 and 6.5.3).
    for identifier, value in frames.SETTING.iter_unpack(payload):
        if identifier == SettingId.INITIAL_WINDOW_SIZE:
            # This one alone is a FLOW_CONTROL_ERROR; the others are PROTOCOL_ERROR (section 6.5.2).
            if value > MAX_WINDOW:
                raise ConnectionFault(faults.INITIAL_WINDOW_SIZE)
            window = value
        elif identifier == SettingId.MAX_FRAME_SIZE:
            if not frames.MIN_MAX_FRAME_SIZE <= value <= frames.MAX_MAX_FRAME_SIZE:
                raise ConnectionFault(faults.MAX_FRAME_SIZE)
            max_frame_size = value
        elif identifier == SettingId.ENABLE_PUSH and value > 1:
            raise ConnectionFault(faults.ENABLE_PUSH)
    return window, max_frame_size
