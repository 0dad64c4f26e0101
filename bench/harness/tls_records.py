"""TLS 1.3 records that no library would send: KeyUpdate after KeyUpdate, one octet each. Source: RFC 8446."""

import hmac
import ssl
import struct
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
# By the names of OpenSSL: the hash, and the octets of its output and of a key.
_SUITES = {"TLS_AES_256_GCM_SHA384": ("sha384", 48, 32), "TLS_AES_128_GCM_SHA256": ("sha256", 32, 16)}
_IV_BYTES = 12


class Records:
    """The client's records after its handshake.

    Args:
        secret: client_application_traffic_secret_0.
        suite: one of the two with AES-GCM.
    """

    def __init__(self, secret: bytes, suite: str) -> None:
        self._hash, self._hash_bytes, self._key_bytes = _SUITES[suite]
        self._use(secret)

    def record(self, kind: int, octets: bytes) -> bytes:
        """Return a record that carries `octets` (section 5.2)."""
        inner = octets + bytes((kind,))
        head = struct.pack(">BHH", APPLICATION_DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(_IV_BYTES, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, inner, head)

    def key_update(self) -> bytes:
        """Return a KeyUpdate that asks for none in turn (section 4.6.3); what follows has the next keys."""
        found = self.record(HANDSHAKE, b"\x18\x00\x00\x01\x00")
        self._use(self._expand(self._secret, b"traffic upd", self._hash_bytes))
        return found

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(self._expand(secret, b"key", self._key_bytes))
        self._iv = self._expand(secret, b"iv", _IV_BYTES)
        self._number = 0

    def _expand(self, secret: bytes, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label (section 7.1); one block of HKDF's is always enough here."""
        label = b"tls13 " + label
        info = struct.pack(">HB", size, len(label)) + label + b"\x00"
        return hmac.digest(secret, info + b"\x01", self._hash)[:size]


class Handshake:
    """A client's side of a handshake in memory, after which it can send such records.

    Attributes:
        tls: as from a library; nothing may be sent with it but the handshake.
        incoming: what the server sends goes there.
        outgoing: what goes to the server.
    """

    def __init__(self, context: ssl.SSLContext, host: str = "localhost") -> None:
        with tempfile.NamedTemporaryFile(prefix="keys-", delete=False) as file:
            self._keys = Path(file.name)
        context.keylog_filename = str(self._keys)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def step(self) -> bool:
        """Go on as far as what has come allows; True once it is over."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def records(self) -> Records:
        """Return what makes the records that follow."""
        lines = dict(line.split(" ", 1) for line in self._keys.read_text().splitlines() if line[:1] != "#")
        self._keys.unlink()
        secret = bytes.fromhex(lines["CLIENT_TRAFFIC_SECRET_0"].split()[-1])
        suite = self.tls.cipher()
        assert suite is not None
        return Records(secret, suite[0])
