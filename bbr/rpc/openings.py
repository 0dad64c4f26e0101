"""How calls begin: what a request's header section says about its call. Equal sections are checked only once."""

from collections.abc import Mapping, Sequence
from typing import Final

from bbr.http2.fields import Entry, FieldSection
from bbr.rpc import calls
from bbr.rpc.calls import NewHandler
from bbr.rpc.status import Status, StatusCode

# The text does not repeat the path: it is the client's, of any length, and a status is cached and logged.
_UNIMPLEMENTED: Final = Status(StatusCode.UNIMPLEMENTED, "no such method")
# Refused, not ignored: a call without its deadline could last longer than its client believes.
_BAD_TIMEOUT: Final = Status(StatusCode.INTERNAL, "grpc-timeout is malformed")


class Opening:
    """How a call begins.

    Attributes:
        refusal: the field block that refuses it, if `new_handler` is None.
        new_handler: makes its handler.
        seconds: its timeout; None without one.
        encoding: of its messages; None if it names none.
    """

    __slots__ = ("encoding", "new_handler", "refusal", "seconds")

    def __init__(
        self,
        refusal: bytes,
        new_handler: NewHandler | None = None,
        seconds: float | None = None,
        encoding: bytes | None = None,
    ) -> None:
        self.refusal = refusal
        self.new_handler = new_handler
        self.seconds = seconds
        self.encoding = encoding


class Openings:
    """Reads the header sections of one connection.

    Args:
        methods: path -> what makes a new call's handler.
    """

    __slots__ = ("_last", "_last_entries", "_methods")

    def __init__(self, methods: Mapping[bytes, NewHandler]) -> None:
        self._methods = methods
        self._last = Opening(b"")
        # By identity, not by value: to compare a dozen fields for each call would cost what the memo saves.
        self._last_entries: Sequence[Entry] | None = None

    def of(self, section: FieldSection) -> Opening:
        """Return how the call of a section begins."""
        # Field blocks that are alike share their entries (bbr.http2.fields), and a gateway's are alike.
        if section.entries is not self._last_entries:
            self._last = self._read(section)
            self._last_entries = section.entries
        return self._last

    def _read(self, section: FieldSection) -> Opening:
        # First whether it is gRPC at all: only a gRPC client can read the refusals below.
        refusal = calls.http_refusal(section)
        if refusal is not None:
            return Opening(refusal)
        # The path is an exact name by the specification: case counts, and nothing is decoded or normalised.
        new_handler = self._methods.get(section.get(b":path") or b"")
        if new_handler is None:
            return Opening(calls.trailers(_UNIMPLEMENTED, alone=True))
        timeout = section.get(b"grpc-timeout")
        # No grpc-timeout means no deadline: the specification has a server assume infinity.
        seconds = None if timeout is None else calls.timeout_seconds(timeout)
        if timeout is not None and seconds is None:
            return Opening(calls.trailers(_BAD_TIMEOUT, alone=True))
        # The encoding only names what messages may use; a call without compressed ones is fine whatever it says.
        return Opening(b"", new_handler, seconds, section.get(b"grpc-encoding"))
