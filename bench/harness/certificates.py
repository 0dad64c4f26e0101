"""An authority of a test's own, and certificates that it issues."""

import dataclasses
import datetime
import ipaddress
import itertools
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bbr.config.settings import Settings
from bbr.tls import pem
from bbr.tls.certificates import Certificates
from bbr.tls.client_names import AllowedName
from bbr.tls.credentials import Clients, Credentials
from bbr.tls.pem import load

DEADLINE_SECONDS = 90.0


def certificates_of(settings: Settings, **options: Any) -> Certificates:
    """What a server with these settings shows and asks for; without another process."""
    names = settings.tls_client_san or ()
    options = {"pem": lambda function, *arguments: getattr(pem, function)(*arguments)} | options
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca, names, **options)


_NUMBERS = itertools.count(1)
YEAR = datetime.timedelta(days=365)

# The use of an authority's key: to sign.
_NO_OTHER_USE = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)
_SIGNS = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **_NO_OTHER_USE)


def client_context(root_pem: bytes, *alpn: str, shows: "Issued | None" = None) -> ssl.SSLContext:
    """Return a client's context that trusts one root, offers protocols, and shows a certificate if it is given one."""
    context = ssl.create_default_context(cadata=root_pem.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if shows is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(shows.chain_pem + shows.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Issued(NamedTuple):
    """A chain without its root, and the key of its first certificate."""

    chain_pem: bytes
    key_pem: bytes


class Authority:
    """Issues certificates; `root_pem` is what verifies them."""

    def __init__(self, above: "Authority | None" = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        # Names of their own: by two of the same name a verifier would not know which of them has issued what.
        name = f"{'intermediate' if above else 'root'} {next(_NUMBERS)}"
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = above or self
        self._certificate = _signed(self._name, self._key, issuer, datetime.datetime.now(datetime.UTC) + YEAR, ca=True)
        self._chain_pem = above._chain_pem + _pem(self._certificate) if above else b""
        self.root_pem: bytes = above.root_pem if above else _pem(self._certificate)

    def intermediate(self) -> "Authority":
        """Return an authority below this one."""
        return Authority(self)

    def issue(
        self,
        *names: str,
        key: Any = None,
        not_after: datetime.datetime | None = None,
        life: datetime.timedelta = 2 * YEAR,
        server_only: bool = False,
    ) -> Issued:
        """Return a certificate for host names, addresses and URIs.

        Args:
            names: what has :// in it is a URI.
            key: its own, if it is not to be an EC key.
            not_after: its end, in a year if it is not given.
            life: from its begin to its end.
            server_only: let it serve as a server's alone.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        end = not_after or datetime.datetime.now(datetime.UTC) + YEAR
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "router")])
        certificate = _signed(subject, key, self, end, names=names, life=life, server_only=server_only)
        plain = serialization.NoEncryption()
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return Issued(_pem(certificate) + self._chain_pem, key_pem)


def _signed(
    subject: x509.Name,
    key: Any,
    issuer: Authority,
    end: datetime.datetime,
    *,
    ca: bool = False,
    names: tuple[str, ...] = (),
    life: datetime.timedelta = 2 * YEAR,
    server_only: bool = False,
) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer._name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(end - life).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    # A client of Python 3.13 or later is strict (VERIFY_X509_STRICT): it wants these, as RFC 5280 does.
    holder = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer._key.public_key())
    builder = builder.add_extension(holder, critical=False).add_extension(signer, critical=False)
    if ca:
        builder = builder.add_extension(_SIGNS, critical=True)
    if server_only:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer._key, hashes.SHA256())


def credentials(issued: Issued, ca_pem: bytes = b"", *allowed: str) -> Credentials:
    """Return what a server shows, by way of files; with authorities it asks clients for their certificates."""
    with tempfile.TemporaryDirectory() as scratch:
        certificate, key = Path(scratch, "tls.crt"), Path(scratch, "tls.key")
        certificate.write_bytes(issued.chain_pem)
        key.write_bytes(issued.key_pem)
        clients = Clients(ca_pem, tuple(map(AllowedName, allowed))) if ca_pem else None
        return dataclasses.replace(load(certificate, key), clients=clients)


def shown(port: int, client: ssl.SSLContext) -> bytes:
    """Return the certificate, in DER, that a server on this machine shows as localhost's."""
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
