"""Reads the names in a certificate.

With `cryptography`, which takes 0.1 s and 11 MB. So it is loaded only where clients are let in by name.
"""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from bbr.tls.client_names import SubjectName

# What `cryptography` raises for a certificate that it can't read, or not all of it; two of them are no ValueError.
UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)

_NAME_KINDS: Final[dict[type[x509.GeneralName], str]] = {
    x509.DNSName: "DNS",
    x509.UniformResourceIdentifier: "URI",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
}


def subject_names(certificate: bytes) -> tuple[SubjectName, ...]:
    """Return the subject alternative names of a certificate in DER; none if they can't be read."""
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*UNREADABLE, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    return tuple(SubjectName(_NAME_KINDS.get(type(name), "other"), str(name.value)) for name in names)
