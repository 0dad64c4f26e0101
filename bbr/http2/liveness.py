"""Checks whether a peer is still there and finishes what it has begun: the timeouts of a connection.

It has no clock. The owner calls it about once a second, so each timeout may come a second late.
"""

from collections.abc import Iterable

from bbr.http2 import faults
from bbr.http2.faults import Fault
from bbr.http2.settings import Settings
from bbr.http2.streams import Stream


class Wait:
    """How long something has been waited for, as exactly as looks now and then can measure it."""

    __slots__ = ("_since", "_what")

    def __init__(self) -> None:
        self._what: object = None
        self._since = 0.0

    def seconds(self, what: object, now: float) -> float:
        """Return for how long each look has found this very object; 0 for None."""
        # By identity: an equal frame that comes later is another one, and its wait begins anew.
        if what is not self._what:
            self._what, self._since = what, now
        return 0.0 if what is None else now - self._since


class Liveness:
    """The waits of one connection."""

    __slots__ = ("_asked_at", "_heard_at", "_settings", "_started", "_unfinished")

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        # The handshake is timed from the connection's start: a peer that says nothing must not keep it.
        self._started = now
        self._heard_at = now
        self._asked_at: float | None = None  # when a PING of ours left that nothing has answered yet
        self._unfinished = Wait()

    def heard(self, now: float) -> None:
        """Note that bytes have come: whatever they are, the peer is there."""
        # Any bytes do, not only the ACK of our PING: a peer that sends a large body may have its ACK far behind it.
        self._heard_at = now
        self._asked_at = None

    def overdue(self, now: float, *, preface_received: bool, acknowledged: bool, unfinished: object) -> Fault | None:
        """Return what the peer owes for too long; None if there is nothing.

        Args:
            now: in seconds.
            preface_received: its preface has come.
            acknowledged: our SETTINGS have been acknowledged.
            unfinished: what stands for a frame, or a field block of several frames, that has begun and not ended.
        """
        settings = self._settings
        waited = now - self._started
        # A byte of it now and then is no sign of life.
        # Slowloris: each byte would restart a wait that is counted from the last one.
        standing = self._unfinished.seconds(unfinished, now)
        if not preface_received and waited > settings.preface_seconds:
            return faults.PREFACE_TIMEOUT
        # Until the ACK our header table size is not in force, and every block takes the slow decoder (section 6.5.3).
        if not acknowledged and waited > settings.settings_seconds:
            return faults.SETTINGS_TIMEOUT
        if standing > settings.frame_seconds:
            return faults.FRAME_TIMEOUT
        # Last: the faults above name better what the peer has failed to do.
        if self._asked_at is not None and now - self._asked_at > settings.keepalive_timeout_seconds:
            return faults.KEEPALIVE_TIMEOUT
        return None

    def must_ask(self, now: float) -> bool:
        """Tell whether the peer has been silent for so long that it has to be asked with a PING, and note that it is.

        One PING may be under way at a time.
        """
        # From silence only. A busy connection proves itself, and some peers count PINGs as abuse (gRPC:
        # too_many_pings).
        if self._asked_at is None and now - self._heard_at > self._settings.keepalive_seconds:
            self._asked_at = now
            return True
        return False


def stalled(waiting: Iterable[Stream], settings: Settings, now: float) -> list[Stream]:
    """Return the streams of whose queues less than `min_progress_bytes` have left in `stall_seconds`.

    It sees progress only when it is called.
    """
    overdue = []
    for stream in waiting:
        # What has come since counts as waiting from the start, so new answers cannot hide that the old ones stand
        # still.
        left = stream.stalled_bytes - stream.queued_bytes
        if stream.stalled_at is None or left >= settings.min_progress_bytes:
            stream.stalled_at = now
            stream.stalled_bytes = stream.queued_bytes
        # Slow read: credit for a byte now and then is progress by the protocol, so we ask for a least amount (section
        # 10.5).
        elif now - stream.stalled_at > settings.stall_seconds:
            overdue.append(stream)
    return overdue
