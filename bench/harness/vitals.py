"""The vitals of a router that does not run."""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from bbr.admin.vitals import Vitals
from bbr.config import loading
from bbr.config import settings as config
from bbr.exchange.ledger import Ledger
from bbr.router import Router
from bbr.telemetry.metrics import Metrics
from bbr.tls.certificates import Certificates
from bbr.transports.serving import Serving, TransportCounts
from bench.harness.certificates import certificates_of

NOT_AFTER = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)


class Port:
    """A port with given counts."""

    def __init__(self, counts: TransportCounts) -> None:
        self.given = counts

    def counts(self) -> TransportCounts:
        """Return them."""
        return self.given


def vitals(models: Path | None = None, *, counts: TransportCounts | None = None, **flags: str) -> Vitals:
    """Return vitals, over a model file's table if one is given."""
    flags = {"secure_serving": "false", **flags}
    if models is not None:
        flags["models"] = str(models)
    settings = loading.load(flags, {})
    sources = Router(settings).sources
    sources.load()
    parts: dict[str, Any] = {
        "settings": settings,
        "metrics": Metrics(),
        "sources": sources,
        "serving": Serving(ready=sources.table.synced),
        "ledger": Ledger(1000),
        "main": Port(counts or TransportCounts(1, 2, 3, {("HTTP/2", "preface"): 5}, {"refused": 6})),
        "certificates": _certificates(settings) if settings.secure_serving else None,
    }
    return Vitals(**parts, started=1_700_000_000.0)


def _certificates(settings: config.Settings) -> Certificates:
    certificates = certificates_of(settings)
    certificates.credentials = dataclasses.replace(certificates.credentials, not_after=NOT_AFTER)
    return certificates
