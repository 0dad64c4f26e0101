"""Which certificates model servers may show that are asked over HTTPS.

Pods are asked by their addresses, which hardly any certificate names. So the name can be given.
"""

import ssl
from pathlib import Path
from typing import Final

from bbr.system import files
from bbr.system.watch import in_thread

# All authorities that a system trusts take 250 KB. A larger file is some other file.
MAX_CA_BYTES: Final = 1 << 20


class AuthorityError(Exception):
    """The authorities' file can't be used; the message names the flag and the file, and says what is wrong."""


class ServerTls:
    """TLS to model servers, which have to show a certificate.

    Args:
        ca_file: authorities to trust, in PEM, instead of the system's. It is read for each question, since authorities
            change.
        name: that the certificate is for; "" for the address that is asked.
    """

    def __init__(self, ca_file: Path | None = None, name: str = "") -> None:
        self._ca_file = ca_file
        self._name = name
        self._pem = b""
        self._context: ssl.SSLContext | None = None

    def name_of(self, host: str) -> str:
        """Return the name or address that the certificate of a server has to be for."""
        return self._name or host

    async def context(self) -> ssl.SSLContext:
        """Return what connections are made by; the same one as long as the file says the same.

        Raises:
            AuthorityError: the file can't be used.
        """
        if self._ca_file is None:
            if self._context is None:
                self._context = await in_thread(ssl.create_default_context)
            return self._context
        pem = await in_thread(self._read)
        if self._context is None or pem != self._pem:
            self._context, self._pem = await in_thread(lambda: self._trusting(pem)), pem
        return self._context

    def _read(self) -> bytes:
        assert self._ca_file is not None  # noqa: S101 (asked for only with a file)
        try:
            return files.read(self._ca_file, MAX_CA_BYTES)
        except files.FileError as error:
            raise self._unusable(str(error)) from None

    def _trusting(self, pem: bytes) -> ssl.SSLContext:
        # Not create_default_context, which takes the system's authorities for an empty text.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=pem.decode("ascii"))
        except UnicodeDecodeError:
            raise self._unusable("it is not PEM") from None
        except (ssl.SSLError, ValueError):
            raise self._unusable("it holds no certificate that can be read") from None
        return context

    def _unusable(self, why: str) -> AuthorityError:
        return AuthorityError(f"--discover-ca: {self._ca_file}: {why}")


def why_not(error: ssl.SSLError) -> str:
    """Return why there is no TLS with a server, in OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    reason = getattr(error, "reason", None) or "no reason given"  # those that Python makes itself have none
    reason = reason.replace("_", " ").lower()
    return f"no TLS with it: {reason}"
