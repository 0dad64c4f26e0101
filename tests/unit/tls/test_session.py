import contextlib
import dataclasses
import datetime
import ssl
import time

import pytest

from bbr.tls.client_names import AllowedName
from bbr.tls.credentials import Clients, server_context
from bbr.tls.pem import self_signed
from bbr.tls.session import (
    EMPTY_RECORDS,
    KEY_UPDATE_TOKENS,
    MAX_HANDSHAKE_BYTES,
    SMALL_RECORD_BYTES,
    TlsError,
    TlsSession,
)
from bench.harness.certificates import YEAR, Authority, client_context
from bench.harness.tls_records import APPLICATION_DATA, Handshake
from tests.support.h2_cases import CHUNKS
from tests.support.steps import is_within

CREDENTIALS = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
CONTEXT = server_context(CREDENTIALS)
PLAINTEXT = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Client:
    """A TLS client joined to a session; what it sends arrives in reads of `chunk` octets."""

    def __init__(
        self,
        *alpn: str,
        chunk: int | None = None,
        context: ssl.SSLContext | None = None,
        session: TlsSession | None = None,
    ) -> None:
        self.session = session or TlsSession(CONTEXT)
        self.received = b""
        self._chunk = chunk
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context or client_context(CREDENTIALS.chain_pem, *alpn)
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.deliver()
            else:
                self.deliver()
                return

    def deliver(self) -> None:
        """Carry what the client has written to the session, and what that calls for back."""
        sent = self._outgoing.read()
        step = self._chunk or max(len(sent), 1)
        for start in range(0, len(sent), step):
            self.received += self.session.receive(sent[start : start + step])
            self._incoming.write(b"".join(self.session.send(b"")))

    def read(self, octets: bytes) -> bytes:
        """Read all of the application's octets in what the session wrote."""
        self._incoming.write(octets)
        found = []
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.tls.read(1 << 20):
                found.append(piece)
        return b"".join(found)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_both_directions_in_reads_of_any_size(chunk):
    client = Client("h2", chunk=chunk)
    assert not client.session.ready
    client.shake_hands()
    assert client.session.ready
    client.session.check_peer()
    sent = bytes(range(256)) * 400
    for start in range(0, len(sent), 40_000):
        client.tls.write(sent[start : start + 40_000])
        client.deliver()
    assert client.received == sent
    assert client.read(b"".join(client.session.send(sent))) == sent


def test_octets_for_the_application_wait_for_the_handshake():
    client = Client("h2")
    assert client.session.send(b"settings") == [b""]
    assert client.session.send(b", goaway") == [b""]
    client.shake_hands()
    assert client.read(b"".join(client.session.send(b", more"))) == b"settings, goaway, more"


def test_ten_megabytes_are_one_send():
    client = Client("h2")
    client.shake_hands()
    octets = bytes(10 << 20)
    assert client.read(b"".join(client.session.send(octets))) == octets


def test_its_buffers_grow_with_the_largest_record_and_with_what_is_written_at_a_time():
    client = Client("h2")
    client.shake_hands()
    begun = client.session.buffer_bytes
    assert 0 < begun < 16_384
    client.tls.write(bytes(16_384))
    client.deliver()
    read = client.session.buffer_bytes
    assert 16_384 * 4 // 3 < read < begun + 32_000
    client.read(b"".join(client.session.send(bytes(10 << 20))))
    written = client.session.buffer_bytes
    assert 32_768 * 4 // 3 < written - read < 64_000
    client.read(b"".join(client.session.send(bytes(100))))
    assert client.session.buffer_bytes == written


@pytest.mark.parametrize("offered", [(), ("http/1.1",)], ids=["no ALPN", "another protocol"])
def test_client_that_does_not_offer_h2_is_refused(offered):
    client = Client(*offered)
    client.shake_hands()
    with pytest.raises(TlsError, match=r"^the client did not offer HTTP/2 \(ALPN h2\)$"):
        client.session.check_peer()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(PLAINTEXT, "the client does not speak TLS here (wrong version number)", id="plaintext HTTP/2"),
        pytest.param(
            b"GET / HTTP/1.1\r\n\r\n", "the client does not speak TLS here (http request)", id="plaintext HTTP/1.1"
        ),
        pytest.param(bytes(64), "", id="octets"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "", id="a broken ClientHello"),
    ],
)
def test_what_is_no_tls_is_an_error_with_its_reason(sent, reason):
    session = TlsSession(CONTEXT)
    with pytest.raises(TlsError) as caught:
        session.receive(sent)
    assert reason in str(caught.value)
    assert str(caught.value)
    assert "_" not in str(caught.value)
    assert session.close()[:1] in (b"", b"\x15")  # nothing, or an alert


def test_client_that_does_not_trust_us_is_an_error_that_says_so():
    client = Client(context=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.shake_hands()
    with pytest.raises(TlsError, match=r"^the client does not trust the router.s certificate \(unknown ca\)$"):
        client.deliver()


def test_record_that_was_changed_on_its_way_is_an_error():
    client = Client("h2")
    client.shake_hands()
    client.tls.write(b"octets")
    record = client._outgoing.read()
    with pytest.raises(TlsError):
        client.session.receive(record[:-1] + bytes([record[-1] ^ 1]))


def test_end_of_the_clients_sending_is_told_after_its_last_octets():
    client = Client("h2")
    client.shake_hands()
    client.tls.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert not client.session.ended
    client.deliver()
    assert (client.received, client.session.ended) == (b"last", True)


def test_close_tells_the_client_and_needs_no_answer():
    client = Client("h2")
    client.shake_hands()
    octets = b"".join(client.session.send(b"goaway")) + client.session.close()
    assert client.read(octets) == b"goaway"
    client.tls.unwrap()  # would raise if no close_notify had come


def test_close_before_the_handshake_says_nothing():
    assert TlsSession(CONTEXT).close() == b""


AUTHORITY = Authority()
CLIENTS = Clients(AUTHORITY.root_pem, (AllowedName("gateway.example"),))


def asking_client(*alpn, shows=None, version=ssl.TLSVersion.TLSv1_3):
    """Return a client of a session that demands a certificate for gateway.example."""
    context = client_context(CREDENTIALS.chain_pem, *alpn, shows=shows)
    context.maximum_version = version
    server = server_context(dataclasses.replace(CREDENTIALS, clients=CLIENTS))
    return Client(context=context, session=TlsSession(server, CLIENTS.refusal))


versions = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name
)
REFUSED = {
    "no certificate": (lambda: None, "the client showed no certificate"),
    "of another authority": (
        lambda: Authority().issue("gateway.example"),
        "the client's certificate: unable to get local issuer certificate",
    ),
    "expired": (
        lambda: AUTHORITY.issue("gateway.example", not_after=datetime.datetime.now(datetime.UTC)),
        "the client's certificate: certificate has expired",
    ),
    "not yet valid": (
        lambda: AUTHORITY.issue("gateway.example", life=YEAR / 2),
        "the client's certificate: certificate is not yet valid",
    ),
    "a server's": (lambda: AUTHORITY.issue("gateway.example", server_only=True), "the client's certificate: un"),
}


@versions
@pytest.mark.parametrize(("issue", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_client_that_is_not_verified_never_gets_an_octet(version, issue, reason):
    client = asking_client("h2", shows=issue(), version=version)
    assert client.session.send(b"settings") == [b""]
    with pytest.raises(TlsError, match=f"^{reason}"):
        client.shake_hands()  # by TLS 1.3 the client is done with it as soon as it has sent its certificate
    assert not client.session.ready
    client._incoming.write(client.session.close())
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        client.read(b"")


def far_below(authority: Authority, levels: int) -> Authority:
    for _ in range(levels):
        authority = authority.intermediate()
    return authority


@versions
def test_what_a_client_says_in_its_handshake_is_bounded(version):
    """Without an option, OpenSSL 3.2 and later accept the same chain compressed, in fewer bytes than the limit."""
    client = asking_client("h2", shows=far_below(AUTHORITY, 3).issue("gateway.example"), version=version)
    client.shake_hands()
    client.session.check_peer()
    for authority in (Authority(), AUTHORITY):  # a chain is not looked at, whether it is trusted or not
        client = asking_client("h2", shows=far_below(authority, 60).issue("gateway.example"), version=version)
        with pytest.raises(TlsError, match=f"^a handshake of more than {MAX_HANDSHAKE_BYTES >> 10} KiB$"):
            client.shake_hands()


@versions
def test_a_client_is_let_in_by_its_certificates_name(version):
    client = asking_client("h2", shows=AUTHORITY.issue("gateway.example"), version=version)
    assert client.session.send(b"settings") == [b""]
    client.shake_hands()
    client.session.check_peer()
    assert client.read(b"".join(client.session.send(b""))) == b"settings"


@versions
def test_a_client_with_another_name_is_closed_without_an_octet(version):
    client = asking_client("h2", shows=AUTHORITY.issue("a.example", "spiffe://b/c"), version=version)
    assert client.session.send(b"settings") == [b""]
    # No `deliver`, which sends: the connection checks before it does.
    while not client.session.ready:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        assert client.session.receive(client._outgoing.read()) == b""
        if not client.session.ready:
            client._incoming.write(b"".join(client.session.send(b"")))
    why = "--tls-client-san allows none of the names in the client's certificate: DNS:a.example, URI:spiffe://b/c"
    with pytest.raises(TlsError) as caught:
        client.session.check_peer()
    assert str(caught.value) == why
    client._incoming.write(client.session.close())
    with contextlib.suppress(ssl.SSLZeroReturnError):
        client.tls.do_handshake()
        assert client.tls.read(100) == b""


class Rogue:
    """A client whose records are its own, joined to a session that has shaken hands."""

    def __init__(self) -> None:
        self.now = 0.0
        self.session = TlsSession(CONTEXT, clock=lambda: self.now)
        hands = Handshake(client_context(CREDENTIALS.chain_pem, "h2"))
        while not (hands.step() and self.session.ready):
            self.session.receive(hands.outgoing.read())
            hands.incoming.write(b"".join(self.session.send(b"")))
        self.records = hands.records()

    def data(self, octets: bytes) -> bytes:
        return self.records.record(APPLICATION_DATA, octets)


class TestRecordsThatCarryNothing:
    """One call of OpenSSL's goes through all KeyUpdates that there are; a budget bounds them, and what is tiny."""

    def test_key_updates_now_and_then_are_no_fault(self):
        rogue = Rogue()
        for _ in range(1000):
            assert rogue.session.receive(rogue.records.key_update() + rogue.data(b"octets"), rogue.now) == b"octets"
            rogue.now += 0.1

    @pytest.mark.parametrize(
        ("tokens", "make"),
        [
            (KEY_UPDATE_TOKENS, lambda rogue: rogue.records.key_update()),
            (1 - 1 / SMALL_RECORD_BYTES, lambda rogue: rogue.data(b"x")),
        ],
        ids=["KeyUpdate", "an octet each"],
    )
    def test_too_many_end_the_connection(self, tokens, make):
        rogue = Rogue()
        most = int(EMPTY_RECORDS / tokens)
        for _ in range(most - 1):  # the handshake has cost something too
            rogue.session.receive(make(rogue), 0.0)
        octets = make(rogue) + make(rogue) + make(rogue)
        with pytest.raises(TlsError, match="too many records that carry nothing"):
            rogue.session.receive(octets, 0.0)

    def test_as_many_as_a_read_holds_end_it_in_no_time(self):
        def seconds():
            rogue = Rogue()
            octets = b"".join(rogue.records.key_update() for _ in range(10_000))
            began = time.thread_time()
            with pytest.raises(TlsError, match="carry nothing"):
                rogue.session.receive(octets, 0.0)
            return time.thread_time() - began

        assert is_within(50, seconds)  # all 10,000 of them take 90 ms and more

    def test_records_of_a_frame_cost_nothing(self):
        rogue = Rogue()
        before = rogue.session._budget.tokens
        for _ in range(3000):
            assert rogue.session.receive(rogue.data(b"12345678"), 0.0) == b"12345678"
        assert rogue.session._budget.tokens == before

    def test_a_handshake_in_tiny_records_is_no_way_around_it(self):
        session = TlsSession(CONTEXT)
        with pytest.raises(TlsError, match="carry nothing"):
            session.receive(b"\x16\x03\x01\x00\x01\x01" * 40_000)


class TestTurns:
    def test_no_record_is_begun_after_the_time(self):
        rogue = Rogue()
        octets = b"".join(rogue.data(b"%08d" % place) for place in range(5))
        ticks = iter(range(100))
        rogue.session._clock = lambda: next(ticks)
        assert rogue.session.receive(octets, 0.0, 1) == b"0000000000000001"
        assert rogue.session.more
        assert rogue.session.receive(b"", 0.0, 0) == b"00000002"  # one at least
        assert rogue.session.receive(rogue.data(b"00000005"), 0.0) == b"000000030000000400000005"
        assert not rogue.session.more

    def test_octets_may_be_looked_at_later(self):
        rogue = Rogue()
        rogue.session.hold(rogue.data(b"12345678"))
        assert rogue.session.more
        assert rogue.session.receive(b"") == b"12345678"
        assert not rogue.session.more

    def test_after_the_end_there_is_no_more(self):
        client = Client("h2")
        client.shake_hands()
        client.tls.write(b"last")
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        assert client.session.receive(client._outgoing.read() + b"\x17\x03\x03\x00\x01x") == b"last"
        assert (client.session.ended, client.session.more) == (True, False)
