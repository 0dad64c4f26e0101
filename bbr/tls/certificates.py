"""The certificate of the ext_proc port, the authorities for clients' certificates, and their files, which are followed.

Imported only if TLS is served.
"""

import dataclasses
import datetime
import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from bbr.system.supervisor import Supervised, Supervisor
from bbr.system.watch import POLL_SECONDS, Poll, in_thread, metadata
from bbr.tls import apart
from bbr.tls.client_names import AllowedName
from bbr.tls.credentials import Clients, Credentials, CredentialsError

T = TypeVar("T")

log = logging.getLogger(__name__)

# What issues certificates renews them long before: cert-manager with a third of their life left, SPIRE with half. One
# that gets so old is renewed by nobody, or by hand; a week is time enough for that.
_OLD_AGE_SHARE: Final = 10
_MAX_OLD_AGE: Final = datetime.timedelta(days=7)


def now() -> datetime.datetime:
    """Return the time, which certificates expire by."""
    return datetime.datetime.now(datetime.UTC)


class Certificates:
    """The credentials in use, and what keeps them up to date.

    Certificate and key are one thing, the clients' authorities another: each keeps its last good content while its
    files can't be used, as they may be in the middle of a change.

    Attributes:
        credentials: those in use; `not_after` is when their certificate expires.
    """

    def __init__(
        self,
        cert: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
        client_names: tuple[AllowedName, ...] = (),
        *,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], datetime.datetime] = now,
        pem: Callable[..., Any] = apart.call,
    ) -> None:
        """Read the files, or make a self-signed certificate.

        Args:
            cert: the certificate and its chain, in PEM; None: a self-signed one is made.
            key: its private key.
            client_ca: the authorities of clients' certificates; None: clients need none.
            client_names: the names of clients to let in; empty: all that an authority has signed.
            poll_seconds: how often to look at the files, and at the certificate's age.
            clock: gives the time.
            pem: calls a function of bbr.tls.pem by its name.

        Raises:
            CredentialsError: a file can't be used.
        """
        self._cert = cert
        self._client_ca = client_ca
        self._client_names = client_names
        self._clock = clock
        self._poll = Poll(poll_seconds)
        self._pair: _Files[Credentials]
        if cert and key:
            self._pair = _Files("certificate", (cert, key), partial(pem, "load", cert, key))
        else:
            own = pem("self_signed", _own_names(), clock())
            self._pair = _Files("certificate", (), lambda: own)
        self._authorities = (
            _Files("file", (client_ca,), partial(pem, "load_authorities", client_ca)) if client_ca else None
        )
        self.credentials = self._current()
        self._warned = ("", "")  # the certificate of the last warning, and its words
        self._looked = time.monotonic()
        self._task: Supervised | None = None

    def start(self, use: Callable[[Credentials], None], supervisor: Supervisor | None = None) -> None:
        """Log the certificate in use, and follow the files; `use` is called with each new one."""
        self._log_certificate()
        self._warn_of_age()
        supervisor = supervisor or Supervisor()
        self._task = supervisor.start("certificates", partial(self._follow, use))

    async def stop(self) -> None:
        """Follow the files no longer."""
        if self._task is not None:
            await self._task.stop()

    @property
    def age_seconds(self) -> float:
        """How long ago the files were last looked at; a file system that hangs makes it grow."""
        return time.monotonic() - self._looked

    def reload(self) -> None:
        """Read the files anew, whether they seem to have changed or not."""
        self._poll.ask()

    async def _follow(self, use: Callable[[Credentials], None]) -> None:
        while True:
            asked = await self._poll.wait()
            recovered = await in_thread(partial(self._look, asked=asked))
            before, current = self.credentials, self._current()
            if current != before:
                use(current)
                self.credentials = current
            if recovered or current.fingerprint != before.fingerprint:
                self._log_certificate()
            if current.clients != before.clients:
                log.info("--tls-client-ca: %s: has changed and is in use", self._client_ca)
            self._warn_of_age()
            self._looked = time.monotonic()

    def _look(self, *, asked: bool) -> bool:
        """Look at the files; True if the certificate's were unusable and no more are."""
        if self._authorities is not None and self._authorities.look(asked=asked):
            log.info("--tls-client-ca: %s: can be used again", self._client_ca)
        return self._pair.look(asked=asked)

    def _current(self) -> Credentials:
        if self._authorities is None:
            return self._pair.content
        clients = Clients(self._authorities.content, self._client_names)
        return dataclasses.replace(self._pair.content, clients=clients)

    def _log_certificate(self) -> None:
        credentials = self.credentials
        if credentials.self_signed:
            log.info("the certificate is self-signed, made at this start: SHA-256 %s", credentials.fingerprint)
            return
        log.info(
            "the certificate is that of %s, valid until %s: SHA-256 %s",
            self._cert,
            _written(credentials.not_after),
            credentials.fingerprint,
        )

    def _warn_of_age(self) -> None:
        """Warn, once of each certificate, that it will soon expire, and that it has."""
        credentials = self.credentials
        left = credentials.not_after - self._clock()
        old_age = min((credentials.not_after - credentials.not_before) / _OLD_AGE_SHARE, _MAX_OLD_AGE)
        if left > old_age:
            return
        what = "has expired: no gateway that verifies it will connect"
        if left > datetime.timedelta(0):
            what = f"expires on {_written(credentials.not_after)} and has not been renewed"
        if self._warned != (credentials.fingerprint, what):
            self._warned = (credentials.fingerprint, what)
            log.warning("%s: %s", "self-signed" if credentials.self_signed else f"--tls-cert: {self._cert}", what)


class _Files(Generic[T]):
    """Something read from files together, if there are any, and its last good content.

    Attributes:
        content: the last good one.
    """

    def __init__(self, what: str, files: tuple[Path, ...], read: Callable[[], T]) -> None:
        self._what = what
        self._files = files
        self._read = read
        self._fault = ""  # why the files can't be used
        self._seen = self._metadata()
        self.content = read()

    def look(self, *, asked: bool) -> bool:
        """Read anew what has changed or could not be used; True if it could not and now can.

        A fault is logged once, and again if the look was `asked` for.
        """
        seen = self._metadata()
        if not asked and not self._fault and seen == self._seen:
            return False
        try:
            self.content = self._read()
        except CredentialsError as error:
            self._seen = seen
            if seen != self._metadata():  # they are just being changed: the next look will decide
                return False
            fault = str(error)
            if asked or fault != self._fault:
                log.warning("%s; the last good %s stays in use", fault, self._what)
            self._fault = fault
            return False
        self._seen = seen  # not before: what failed for want of memory has to be read again
        recovered, self._fault = bool(self._fault), ""
        return recovered

    def _metadata(self) -> list[tuple[int, ...]]:
        return [metadata(path) for path in self._files]


def _own_names() -> list[str]:
    """Return the names of this machine, as far as a certificate can have them."""
    return [name for name in ("localhost", socket.gethostname()) if name.isascii() and name]


def _written(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
