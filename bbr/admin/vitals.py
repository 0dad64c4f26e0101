"""What an operator can see of a running router: the common source of metrics, debug pages and the status page."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from bbr.config.settings import Settings
from bbr.exchange.ledger import Ledger
from bbr.sources.sources import Sources
from bbr.system.supervisor import Supervisor
from bbr.telemetry.field_counts import FieldCounts
from bbr.telemetry.genai import GenAi
from bbr.telemetry.metrics import Metrics
from bbr.telemetry.observed import clock
from bbr.transports.serving import Serving, TransportCounts

if TYPE_CHECKING:
    from bbr.tls.certificates import Certificates


# Files are looked at every second. An API server says about every minute that nothing has changed.
STALE_SECONDS: Final = 150.0


class Counting(Protocol):
    """A server on a port."""

    def counts(self) -> TransportCounts:
        """Return what it has counted so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """The parts of a running process that an operator can look at; they go on changing.

    Attributes:
        main: the ext_proc port.
        genai: counts by OpenTelemetry's conventions, with --genai-metrics.
        supervisor: of the tasks that never end.
        started: when the process began to serve, in seconds since the epoch.
        began: the same in seconds of `clock`, which no change of the system's time moves.
        body_fields: counts of the fields whose values go into headers, with --body-field.
    """

    settings: Settings
    metrics: Metrics
    sources: Sources
    serving: Serving
    ledger: Ledger
    main: Counting
    certificates: "Certificates | None"
    genai: GenAi | None = None
    supervisor: Supervisor = field(default_factory=Supervisor)
    started: float = field(default_factory=time.time)
    began: float = field(default_factory=clock)
    body_fields: FieldCounts | None = None

    def why_not_ready(self) -> str:
        """Return in words why this replica takes no requests; "" if it does."""
        if self.serving.stopping:
            return "it is shutting down: running requests may finish"
        if not self.serving.now:
            return str(self.sources)
        return ""

    def troubles(self) -> list[str]:
        """Return sentences about what is not followed as it should be; requests are answered all the same."""
        unfollowed = {what: why for what, why in self.sources.failing().items() if why}
        stale = [
            f"{what}: not seen for {age:.0f} s{_because(unfollowed.get(what))}; the last known content stays in use"
            for what, age in self.ages().items()
            if age > STALE_SECONDS or what in unfollowed
        ]
        failing = [
            f"{name}: it keeps failing ({task.failing}) and is restarted each time"
            for name, task in self.supervisor.failures.items()
            if task.failing
        ]
        return stale + failing

    def ages(self) -> dict[str, float]:
        """Return how many seconds ago each thing that the process follows was last seen; see Sources.ages."""
        found = self.sources.ages()
        return found | {"certificates": self.certificates.age_seconds} if self.certificates else found


def _because(why: str | None) -> str:
    return f" ({why})" if why else ""
