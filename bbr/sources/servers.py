"""The model servers of one pool: when to ask each, what each said last, and the result for the pool.

It does no I/O and has no clock: the caller passes the time. Each server is asked once in an interval, and less often
while it fails. Its last answer counts until it gives another one. If a server fails or is gone, its last answer counts
for KEEP_SECONDS more, as long as another server of the pool answers. If none answers, as in an outage or in a pool with
no replicas, nothing changes.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from bbr.models.steps import Steps, sorting
from bbr.sources.served import Claims, Served, UnusableError, claims

KEEP_SECONDS: Final = 300.0

# Asked in one go. Of a larger pool the others' turn is an interval later.
MAX_ASKED: Final = 64

# Adapters of one pool; of more, those that were known before stay, and then the first by name.
MAX_NAMES: Final = 1_000

# What servers list that list different things, together: what is kept in memory of a pool, 4 MB.
MAX_LISTED: Final = 8_000

# Servers that are gone and still believed.
_MAX_GONE: Final = 256

# Servers of which one is asked this often before it counts as failing: a pod that begins or ends fails once or twice.
FAILING_AFTER: Final = 3

# A server that fails is asked after 2, 4 and then 8 intervals, and at least each minute.
_LONGEST_FACTOR: Final = 8
_LONGEST_SECONDS: Final = 60.0

_STEP_SERVERS: Final = 8


class Address(NamedTuple):
    """Where a server is; its host is an IP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class _Server:
    due: float
    gone: bool = False
    failures: int = 0
    why: str = ""
    digest: bytes = b""  # of what it listed last
    claims: Claims = field(default_factory=lambda: Claims({}))
    seen: float = -float("inf")  # when it answered last


class Servers:
    """The servers of one pool, known by their addresses.

    Args:
        base_models: those that the pool serves.
        interval: seconds from one question to the next; up to a quarter more, at random.
        max_model_bytes: a longer name is refused.
        jitter: a number from 0 to 1, at random.

    Attributes:
        changes: how often what they say, or whether they answer, has changed.
        left_out: how many adapters of the pool are over MAX_NAMES.
    """

    def __init__(
        self, base_models: frozenset[str], interval: float, max_model_bytes: int, jitter: Callable[[], float]
    ) -> None:
        self.base_models = base_models
        self.changes = self.left_out = 0
        self._interval = interval
        self._max_model_bytes = max_model_bytes
        self._jitter = jitter
        self._servers: dict[Address, _Server] = {}
        self._known: frozenset[str] = frozenset()

    def rebase(self, base_models: frozenset[str], now: float) -> None:
        """Take other base models for those of the pool: all servers are asked again."""
        self.base_models = base_models
        self.changes += 1
        for server in self._servers.values():
            server.due, server.digest = now, b""
            kept = {base: names for base, names in server.claims.adapters.items() if base in base_models}
            server.claims = Claims(kept)

    def present(self, addresses: Iterable[Address], now: float) -> None:
        """Take the addresses at which there are servers now."""
        there = frozenset(addresses)
        if there != {address for address, each in self._servers.items() if not each.gone}:
            self.changes += 1
        for address, server in self._servers.items():
            if server.gone and address in there:
                server.due = now
            server.gone = address not in there
        for address in sorted(there - self._servers.keys()):
            self._servers[address] = _Server(now)
        self._forget(now)

    def due(self, now: float) -> list[Address]:
        """Return which servers are to be asked now, those that have waited longest first."""
        due = sorted(
            (each.due, address) for address, each in self._servers.items() if not each.gone and each.due <= now
        )
        return [address for _, address in due[:MAX_ASKED]]

    def pause(self, now: float) -> float:
        """Return in how many seconds the next one is to be asked, having asked those that were due."""
        dues = [each.due for each in self._servers.values() if not each.gone]
        over = sum(due <= now for due in dues)
        return self._interval if over or not dues else max(min(dues) - now, 0.05)

    def answered(self, address: Address, served: Served, now: float) -> str:
        """Take an answer; return why it can't be used, or "".

        One that can't be used counts as none.
        """
        server = self._servers.get(address)
        if server is None:
            return ""
        digest = hashlib.blake2b(msgspec.msgpack.encode(served), digest_size=16).digest()
        if digest != server.digest:
            try:
                server.claims = self._claims(digest, served)
            except UnusableError as error:
                self.failed(address, str(error), now)
                return str(error)
            server.digest = digest
            self.changes += 1
        if _doubtful(server):
            self.changes += 1
        server.failures, server.why, server.seen = 0, "", now
        server.due = now + self._interval * (1 + self._jitter() / 4)
        return ""

    def _claims(self, digest: bytes, served: Served) -> Claims:
        """Return what a list claims; servers that list the same share it."""
        known = {id(each.claims): each.claims for each in self._servers.values()}
        for each in self._servers.values():
            if each.digest == digest:
                return each.claims
        found = claims(served, self.base_models, self._max_model_bytes)
        if sum(each.names for each in (found, *known.values())) > MAX_LISTED:
            raise UnusableError(f"the servers of its pool list more than {MAX_LISTED} adapters, each its own")
        return found

    def failed(self, address: Address, why: str, now: float) -> None:
        """Note that a server gave no answer that can be used."""
        server = self._servers.get(address)
        if server is None:
            return
        server.failures += 1
        self.changes += 1
        server.why = why
        longest = max(self._interval, _LONGEST_SECONDS)
        pause = min(self._interval * min(2**server.failures, _LONGEST_FACTOR), longest)
        server.due = now + pause * (1 + self._jitter() / 4)

    def claimed(self, now: float) -> Steps[dict[str, frozenset[str]]]:
        """Return the adapters of the pool, by base model, a step at a time."""
        self._forget(now)
        found: dict[str, set[str]] = {}
        for number, server in enumerate(list(self._servers.values()), 1):
            for base, names in server.claims.adapters.items():
                found.setdefault(base, set()).update(names)
            if number % _STEP_SERVERS == 0:
                yield
        several = [(name not in self._known, name, base) for base, names in found.items() for name in names]
        self.left_out = max(len(several) - MAX_NAMES, 0)
        if self.left_out:
            several = (yield from sorting(several, lambda each: each))[:MAX_NAMES]
            found = {}
            for _, name, base in several:
                found.setdefault(base, set()).add(name)
        self._known = frozenset(name for _, name, _ in several)
        return {base: frozenset(names) for base, names in found.items()}

    @property
    def expires(self) -> float | None:
        """When what some server said last counts no longer, if it goes on like this; None if nothing does."""
        if not self._anybody:
            return None
        ends = [each.seen + KEEP_SECONDS for each in self._servers.values() if each.claims.adapters and _doubtful(each)]
        return min(ends, default=None)

    @property
    def asked(self) -> bool:
        """Whether each server that is there has been asked once."""
        return all(each.failures or each.seen > -float("inf") for each in self._servers.values() if not each.gone)

    @property
    def count(self) -> int:
        """How many servers there are."""
        return sum(not each.gone for each in self._servers.values())

    @property
    def failing(self) -> dict[str, str]:
        """Why servers give no answer, by address: those that have failed several times."""
        return {
            str(address): each.why
            for address, each in self._servers.items()
            if not each.gone and each.failures >= FAILING_AFTER
        }

    @property
    def refused(self) -> list[str]:
        """Sentences about adapters that servers list and that can't be used."""
        several = (each.claims.refused for each in self._servers.values() if not each.gone)
        return sorted({sentence for refused in several for sentence in refused})

    @property
    def _anybody(self) -> bool:
        """Whether some server of the pool answers."""
        return any(not _doubtful(each) for each in self._servers.values())

    def _forget(self, now: float) -> None:
        """Let go of what is believed no longer."""
        if self._anybody:
            for each in self._servers.values():
                if _doubtful(each) and now - each.seen >= KEEP_SECONDS and each.claims.adapters:
                    each.claims, each.digest = Claims({}), b""
        gone = sorted((each.seen, address) for address, each in self._servers.items() if each.gone)
        excess = len(gone) - _MAX_GONE
        for number, (_, address) in enumerate(gone):
            if number < excess or not self._servers[address].claims.adapters:
                del self._servers[address]


def _doubtful(server: _Server) -> bool:
    return server.gone or server.failures > 0 or server.seen == -float("inf")
