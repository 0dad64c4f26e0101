"""The server's certificate and key, from PEM files or made at start, and the TLS context that shows them.

Imported only where TLS is served: `cryptography` takes 0.1 s and 20 MB.
"""

import datetime
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bbr.system import files
from bbr.tls import client_names
from bbr.tls.client_names import AllowedName, SubjectName
from bbr.tls.session import ALPN

# Nobody renews a certificate that only encrypts; it lives as long as the process.
_SELF_SIGNED_LIFE: Final = datetime.timedelta(days=3650)
# Gateways whose clocks are behind.
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)

# The forward-secret AEAD suites for TLS 1.2: RFC 9113's appendix A forbids all others to HTTP/2. Those of TLS 1.3 are
# OpenSSL's own choice.
_TLS12_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# SSL_OP_NO_RX_CERTIFICATE_COMPRESSION of OpenSSL 3.2 and later; Python's ssl does not name it, earlier ones ignore it.
# A client that compresses its chain (RFC 8879) could have OpenSSL look at 100 KiB of certificates for the 20 KiB that a
# handshake may take (`bbr.tls.session.MAX_HANDSHAKE_BYTES`).
_NO_RX_CERTIFICATE_COMPRESSION: Final = 1 << 33

# All authorities that a system trusts take 250 KB. A larger file is some other file.
MAX_PEM_BYTES: Final = 1 << 20

# What `cryptography` raises for a certificate that it can't read, or not all of it; two of them are no ValueError.
_UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)

_NAME_KINDS: Final[dict[type[x509.GeneralName], str]] = {
    x509.DNSName: "DNS",
    x509.UniformResourceIdentifier: "URI",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
}


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

    def refusal(self, certificate: bytes) -> str:
        """Return why a client is not let in, fit for a log; "" if it is.

        Args:
            certificate: the client's own in DER, which has been verified.
        """
        return client_names.refusal(subject_names(certificate), self.allowed) if self.allowed else ""


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


def load(certificate: Path, key: Path) -> Credentials:
    """Read a chain and its key from PEM files, and check that they belong together; clients are asked for nothing.

    Raises:
        CredentialsError: a file is missing, unreadable or no PEM; the key is encrypted, or of another certificate.
    """
    chain = _certificates("--tls-cert", certificate)
    key_pem = _read("--tls-key", key)
    private = _private_key(key, key_pem)
    try:
        fits = _public_octets(private.public_key()) == _public_octets(chain[0].public_key())
        credentials = _credentials(chain, private)
    except _UNREADABLE as error:  # parts of a certificate are read only now: its key, of a curve that is not known, say
        raise CredentialsError(
            f"--tls-cert: {certificate}: holds a certificate that can't be used ({type(error).__name__}: {error})"
        ) from None
    if not fits:
        raise CredentialsError(f"--tls-key: {key}: is not the key of the first certificate in {certificate}")
    try:
        server_context(credentials)
    except ssl.SSLError as error:  # a key that is too short, say
        raise CredentialsError(f"--tls-cert: {certificate}: OpenSSL refuses it ({error.reason})") from None
    return credentials


def load_authorities(path: Path) -> bytes:
    """Read certificates of authorities from a PEM file, and return them in PEM, without anything else that is there.

    Raises:
        CredentialsError: the file is missing, unreadable or no PEM.
    """
    pem = _pem(_certificates("--tls-client-ca", path))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode())
    except ssl.SSLError as error:
        raise CredentialsError(f"--tls-client-ca: {path}: OpenSSL refuses it ({error.reason})") from None
    return pem


def subject_names(certificate: bytes) -> tuple[SubjectName, ...]:
    """Return the subject alternative names of a certificate in DER; none if they can't be read."""
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*_UNREADABLE, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    return tuple(SubjectName(_NAME_KINDS.get(type(name), "other"), str(name.value)) for name in names)


def self_signed(names: list[str], now: datetime.datetime) -> Credentials:
    """Make a certificate for host names, and its key (EC P-256).

    It encrypts and proves nothing: a gateway must not verify it, or must be shown this very certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bbr, self-signed")])
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in dict.fromkeys(names)])
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign"),
            *("crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _SELF_SIGNED_LIFE)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _credentials([certificate], key, self_signed=True)


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


def _certificates(flag: str, path: Path) -> list[x509.Certificate]:
    octets = _read(flag, path)
    try:
        return x509.load_pem_x509_certificates(octets)
    except _UNREADABLE:
        raise CredentialsError(f"{flag}: {path}: holds no certificate in PEM, or a broken one") from None


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def _read(flag: str, path: Path) -> bytes:
    try:
        return files.read(path, MAX_PEM_BYTES)
    except files.FileError as error:
        raise CredentialsError(f"{flag}: {path}: {error}") from None


def _private_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise CredentialsError(f"--tls-key: {path}: the key is encrypted; give it without a passphrase") from None
    except Exception as error:  # ValueError, or UnsupportedAlgorithm, which is none
        reason = "holds no private key in PEM, or a broken one"
        raise CredentialsError(f"--tls-key: {path}: {reason} ({type(error).__name__})") from None


def _public_octets(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _credentials(chain: list[x509.Certificate], key: PrivateKeyTypes, *, self_signed: bool = False) -> Credentials:
    """Write chain and key out again, so that nothing else in their files is ever shown to OpenSSL."""
    return Credentials(
        _pem(chain),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        chain[0].fingerprint(hashes.SHA256()).hex(":").upper(),
        chain[0].not_valid_before_utc,
        chain[0].not_valid_after_utc,
        self_signed,
    )


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
