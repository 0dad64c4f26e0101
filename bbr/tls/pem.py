"""Reads certificates and keys in PEM, and makes a self-signed certificate.

With `cryptography`, which takes 0.1 s and 11 MB. So a router has it done by another process: see bbr.tls.apart.
"""

import datetime
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bbr.system import files
from bbr.tls.credentials import Credentials, CredentialsError, server_context
from bbr.tls.subject_names import UNREADABLE

# Nobody renews a certificate that only encrypts; it lives as long as the process.
_SELF_SIGNED_LIFE: Final = datetime.timedelta(days=3650)
# Gateways whose clocks are behind.
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)

# All authorities that a system trusts take 250 KB. A larger file is some other file.
MAX_PEM_BYTES: Final = 1 << 20


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
    except UNREADABLE as error:  # parts of a certificate are read only now: its key, of a curve that is not known, say
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


def _certificates(flag: str, path: Path) -> list[x509.Certificate]:
    octets = _read(flag, path)
    try:
        return x509.load_pem_x509_certificates(octets)
    except UNREADABLE:
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
