"""The server's certificate and key, what it asks of clients, and the TLS context that shows and asks it.

bbr.tls.pem reads or makes them.
"""

import datetime
import importlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bbr.tls import client_names
from bbr.tls.client_names import AllowedName
from bbr.tls.session import ALPN

# The forward-secret AEAD suites for TLS 1.2: RFC 9113's appendix A forbids all others to HTTP/2. Those of TLS 1.3 are
# OpenSSL's own choice.
_TLS12_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# SSL_OP_NO_RX_CERTIFICATE_COMPRESSION of OpenSSL 3.2 and later; Python's ssl does not name it, earlier ones ignore it.
# A client that compresses its chain (RFC 8879) could have OpenSSL look at 100 KiB of certificates for the 20 KiB that a
# handshake may take (`bbr.tls.session.MAX_HANDSHAKE_BYTES`).
_NO_RX_CERTIFICATE_COMPRESSION: Final = 1 << 33


class CredentialsError(Exception):
    """A certificate or key can't be used; the message names the flag and the file, and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Which clients are let in: those that show a certificate of certain authorities, for certain names.

    Attributes:
        ca_pem: the authorities' certificates in PEM; each is trusted for itself, whoever has issued it.
        allowed: the names; none for any certificate of those authorities.
    """

    ca_pem: bytes
    allowed: tuple[AllowedName, ...] = ()

    def __post_init__(self) -> None:
        """Load at start, and not in a handshake, what reads names: it takes 0.1 s."""
        if self.allowed:
            importlib.import_module("bbr.tls.subject_names")

    def refusal(self, certificate: bytes) -> str:
        """Return why a client is not let in, fit for a log; "" if it is.

        Args:
            certificate: the client's own in DER, which has been verified.
        """
        if not self.allowed:
            return ""
        from bbr.tls.subject_names import subject_names

        return client_names.refusal(subject_names(certificate), self.allowed)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate chain, the server's own first, and its key; and what it asks of clients.

    Attributes:
        chain_pem: PEM, one certificate or several.
        key_pem: PEM, not encrypted.
        fingerprint: SHA-256 of the server's own certificate, as `openssl x509 -fingerprint -sha256` writes it.
        not_before: when that certificate's life begins.
        not_after: when it expires.
        self_signed: whether it was made at start.
        clients: who is let in; None for everyone, without a certificate.
    """

    chain_pem: bytes
    key_pem: bytes
    fingerprint: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    self_signed: bool = False
    clients: Clients | None = None


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context that serves HTTP/2: TLS 1.2 or later, ALPN h2, no renegotiation (RFC 9113, section 9.2).

    Where clients must show a certificate, a handshake without one that is verified fails. Their names are the caller's
    to check.

    Raises:
        ssl.SSLError: OpenSSL does not take the certificate or the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS12_CIPHERS)
    context.set_alpn_protocols([ALPN])
    context.options |= ssl.OP_NO_RENEGOTIATION | _NO_RX_CERTIFICATE_COMPRESSION
    # All suites are strong, so the client's order decides. Envoy and Go put AES-128 first, which takes less time than
    # OpenSSL's own first choice, AES-256.
    # A number: the inverse of a flag lacks the bits that this Python has no name for.
    context.options &= ~int(ssl.OP_CIPHER_SERVER_PREFERENCE)
    with _as_file(credentials.chain_pem + credentials.key_pem) as path:
        # Without a password function an encrypted key would be asked for at the terminal.
        context.load_cert_chain(path, password=lambda: b"")
    if credentials.clients is not None:
        context.load_verify_locations(cadata=credentials.clients.ca_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        # What issues the gateways' certificates may be an intermediate authority that is given alone. Not
        # VERIFY_X509_STRICT: neither Envoy nor Go ask for the extensions that it misses in many a private authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # A session that is resumed is not verified again, though its certificate may have expired since. TLS 1.2 can
        # still resume one without a ticket, for up to two hours and until the next change of the files.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


@contextmanager
def _as_file(octets: bytes) -> Iterator[str]:
    """Give bytes a name that OpenSSL can open: of memory where there is such a thing, so that no key is on a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("bbr-credentials", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, octets)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:  # pragma: no cover (not Linux)
        with tempfile.NamedTemporaryFile() as file:
            file.write(octets)
            file.flush()
            yield file.name
