"""What a peer can do wrong beyond one stream."""

from bbr.http2.frames import ErrorCode


class ConnectionFault(Exception):  # noqa: N818 (a fault of the peer's, not an error of ours)
    """The connection must end (RFC 9113, section 5.4.1). It never leaves Connection.

    Attributes:
        code: the GOAWAY's code.
        reason: stable name in kebab case; the GOAWAY's debug data, and a metric's label.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
