import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bbr.tls.client_names import SubjectName
from bbr.tls.subject_names import subject_names

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)


def of_kinds(*names):
    """Return a self-signed certificate in DER for names of any kind; without names it has no such extension."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway.example")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + datetime.timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_names_of_a_certificate():
    certificate = of_kinds(
        x509.DNSName("gateway.example"),
        x509.UniformResourceIdentifier("spiffe://a/b"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.RFC822Name("gateway@example.org"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    )
    names = subject_names(certificate)
    assert names[:4] == (
        SubjectName("DNS", "gateway.example"),
        SubjectName("URI", "spiffe://a/b"),
        SubjectName("IP", "10.0.0.1"),
        SubjectName("email", "gateway@example.org"),
    )
    assert [name.kind for name in names[4:]] == ["other"]


def test_a_common_name_is_no_name():
    assert subject_names(of_kinds()) == ()


@pytest.mark.parametrize("octets", [b"", b"octets", bytes(64)])
def test_names_that_can_not_be_read_are_none(octets):
    assert subject_names(octets) == ()
