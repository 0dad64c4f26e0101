"""What an operator may see of a running router: for metrics, debug pages and the status page."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bbr.config.settings import Settings
from bbr.exchange.ledger import Ledger
from bbr.sources.sources import Sources
from bbr.telemetry.metrics import Metrics
from bbr.telemetry.observed import clock
from bbr.transports.serving import Serving, TransportCounts

if TYPE_CHECKING:
    from bbr.tls.certificates import Certificates


class Counting(Protocol):
    """A server on a port."""

    def counts(self) -> TransportCounts:
        """Return what it has counted so far."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """The parts of a process that have something to tell, all of them alive.

    Attributes:
        main: the ext_proc port.
        started: when the process began to serve, in seconds since the epoch.
        began: the same in seconds of `clock`, which no change of the system's time moves.
    """

    settings: Settings
    metrics: Metrics
    sources: Sources
    serving: Serving
    ledger: Ledger
    main: Counting
    certificates: "Certificates | None"
    started: float = field(default_factory=time.time)
    began: float = field(default_factory=clock)

    def why_not_ready(self) -> str:
        """Return in words why this replica takes no requests; "" if it does."""
        if self.serving.stopping:
            return "it is shutting down: running requests are let finish"
        if not self.serving.now:
            return str(self.sources)
        return ""
