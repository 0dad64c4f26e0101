import asyncio
import contextlib
import datetime
import logging
import os
import socket

import pytest

from bbr.config import loading
from bbr.tls import certificates
from bbr.tls.client_names import AllowedName
from bbr.tls.credentials import Clients, CredentialsError
from bench.harness.certificates import YEAR, Authority, certificates_of
from tests.support.loops import in_loop

DAY = datetime.timedelta(days=1)


class Files:
    """A mounted Secret: a certificate and the authorities of clients; `swap` changes it as a kubelet does."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority()
        self._version = 0
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")
        self.swap(self.authority.issue("localhost"), self.authority.root_pem)

    def swap(self, issued, ca_pem):
        self._version += 1
        content = self.folder / f"..version-{self._version}"
        content.mkdir()
        (content / "tls.crt").write_bytes(issued.chain_pem)
        (content / "tls.key").write_bytes(issued.key_pem)
        (content / "ca.crt").write_bytes(ca_pem)
        (self.folder / "..new").symlink_to(content.name)
        (self.folder / "..new").replace(self.folder / "..data")

    def write(self, name, octets):
        """Put a file of its own in the place of a link, in one step."""
        (self.folder / "new").write_bytes(octets)
        (self.folder / "new").replace(self.folder / name)

    def settings(self, *, clients=False, own=True):
        flags = {}
        if own:
            flags = {"tls_cert": f"{self.folder / 'tls.crt'}", "tls_key": f"{self.folder / 'tls.key'}"}
        if clients:
            flags |= {"tls_client_ca": f"{self.folder / 'ca.crt'}", "tls_client_san": "gateway.example"}
        return loading.load(flags, {})


@pytest.fixture
def files(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    return Files(tmp_path)


class Followed:
    """Certificates that are followed; `used` are those handed over, `looks` how often the files were looked at."""

    def __init__(self, settings, clock=certificates.now, poll_seconds=0.002):
        self.certificates = certificates_of(settings, poll_seconds=poll_seconds, clock=clock)
        self.used = []
        self._news = asyncio.Event()
        self._looks = 0
        look = self.certificates._warn_of_age

        def looked():
            look()
            self._looks += 1
            self._news.set()

        self.certificates._warn_of_age = looked

    async def until(self, condition):
        """Await something that a look at the files must bring about."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def looks(self, count=3):
        """Await some more looks, each whole."""
        wanted = self._looks + count
        await self.until(lambda: self._looks >= wanted)


@contextlib.asynccontextmanager
async def following(settings, **options):
    followed = Followed(settings, **options)
    followed.certificates.start(followed.used.append)
    try:
        yield followed
    finally:
        await followed.certificates.stop()


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@in_loop
async def test_the_swap_of_a_mounted_secret_is_seen(files, caplog):
    async with following(files.settings()) as followed:
        first = followed.certificates.credentials
        files.swap(files.authority.issue("localhost"), files.authority.root_pem)
        await followed.until(lambda: followed.used)
        (second,) = followed.used
        assert second.fingerprint != first.fingerprint
        assert followed.certificates.credentials is second
        await followed.looks()
        assert followed.used == [second]
    end = f"{second.not_after:%Y-%m-%d %H:%M} UTC"
    path = files.folder / "tls.crt"
    assert caplog.messages == [
        f"the certificate is that of {path}, valid until {end}: SHA-256 {each.fingerprint}" for each in (first, second)
    ]


@in_loop
async def test_a_file_that_was_only_touched_changes_nothing(files, caplog):
    async with following(files.settings(clients=True)) as followed:
        os.utime(files.folder / "tls.crt", (1, 1))
        os.utime(files.folder / "ca.crt", (1, 1))
        await followed.looks()
        assert followed.used == []
    assert len(caplog.messages) == 1


@in_loop
async def test_a_pair_that_does_not_match_keeps_the_last_good_one_and_is_told_once(files, caplog):
    async with following(files.settings()) as followed:
        issued = files.authority.issue("localhost")
        files.write("tls.crt", issued.chain_pem)
        await followed.until(lambda: warnings(caplog))
        await followed.looks(5)
        assert followed.used == []
        certificate, key = files.folder / "tls.crt", files.folder / "tls.key"
        told = f"--tls-key: {key}: is not the key of the first certificate in {certificate}; the last good certificate "
        assert warnings(caplog) == [f"{told}stays in use"]
        caplog.clear()
        files.write("tls.key", issued.key_pem)
        await followed.until(lambda: followed.used)
        assert followed.used[0].key_pem == issued.key_pem
        (line,) = caplog.messages
        assert line.startswith(f"the certificate is that of {certificate}, valid until ")
        assert line.endswith(followed.used[0].fingerprint)


@in_loop
async def test_a_half_written_file_and_another_fault_are_two_lines(files, caplog):
    async with following(files.settings()) as followed:
        pem = (files.folder / "tls.crt").read_bytes()
        files.write("tls.crt", pem[: len(pem) // 2])
        await followed.until(lambda: len(warnings(caplog)) == 1)
        files.write("tls.crt", b"")
        await followed.looks(5)
        assert len(warnings(caplog)) == 1  # the same sentence
        (files.folder / "tls.crt").unlink()
        await followed.until(lambda: len(warnings(caplog)) == 2)
        assert "No such file" in warnings(caplog)[1]


@in_loop
async def test_what_comes_back_as_it_was_is_told(files, caplog):
    async with following(files.settings(clients=True)) as followed:
        for name, told in (("tls.crt", "the certificate is that of"), ("ca.crt", "can be used again")):
            pem = (files.folder / name).read_bytes()
            files.write(name, b"")
            await followed.until(lambda: len(warnings(caplog)) == 1)
            caplog.clear()
            files.write(name, pem)
            await followed.until(lambda: caplog.messages)
            assert told in caplog.messages[0]
            caplog.clear()
        assert followed.used == []


@in_loop
async def test_files_that_change_while_they_are_read_are_read_again_without_a_word(files, caplog):
    async with following(files.settings()) as followed:
        pair = followed.certificates._pair
        read, states = pair._read, []

        def swap_while_reading():
            if not states:
                states.append("the certificate of one version, the key of the next")
                files.swap(files.authority.issue("localhost"), files.authority.root_pem)
                raise CredentialsError("a mismatch")
            return read()

        pair._read = swap_while_reading
        os.utime(files.folder / "tls.crt", (1, 1))
        await followed.until(lambda: followed.used)
        assert warnings(caplog) == []


@in_loop
async def test_reload_reads_at_once_what_does_not_seem_to_have_changed(files, caplog, monkeypatch):
    monkeypatch.setattr(certificates, "metadata", lambda _path: (1,))
    async with following(files.settings(), poll_seconds=3600) as followed:
        files.swap(files.authority.issue("localhost"), files.authority.root_pem)
        followed.certificates.reload()
        await followed.until(lambda: followed.used)
        for count in (1, 2):  # whoever asks is told again
            files.write("tls.crt", b"")
            followed.certificates.reload()
            await followed.until(lambda count=count: len(warnings(caplog)) == count)


@in_loop
async def test_authorities_are_followed_and_keep_their_last_good_content(files, caplog):
    async with following(files.settings(clients=True)) as followed:
        allowed = (AllowedName("gateway.example"),)
        assert followed.certificates.credentials.clients == Clients(files.authority.root_pem, allowed)
        files.write("ca.crt", b"nothing")
        await followed.until(lambda: warnings(caplog))
        path = files.folder / "ca.crt"
        told = f"--tls-client-ca: {path}: holds no certificate in PEM, or a broken one; the last good file stays in use"
        assert warnings(caplog) == [told]
        # A certificate is renewed all the same.
        renewed = files.authority.issue("localhost")
        files.swap(renewed, b"")
        await followed.until(lambda: followed.used)
        assert followed.used[0].clients.ca_pem == files.authority.root_pem
        other = Authority()
        files.write("ca.crt", other.root_pem)
        await followed.until(lambda: len(followed.used) == 2)
        assert followed.used[1].clients == Clients(other.root_pem, allowed)
        assert followed.used[1].fingerprint == followed.used[0].fingerprint
        assert caplog.messages[-2:] == [
            f"--tls-client-ca: {path}: can be used again",
            f"--tls-client-ca: {path}: has changed and is in use",
        ]


@in_loop
async def test_a_self_signed_certificate_stays_over_reloads(files, caplog, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "naïve")  # no name that a certificate can have
    async with following(files.settings(own=False)) as followed:
        followed.certificates.reload()
        await followed.looks()
        assert followed.used == []
        made = followed.certificates.credentials
        assert made.self_signed
        assert made.clients is None
    assert caplog.messages == [f"the certificate is self-signed, made at this start: SHA-256 {made.fingerprint}"]


@in_loop
async def test_a_self_signed_certificate_can_ask_for_clients_certificates_that_are_followed(files):
    async with following(files.settings(own=False, clients=True)) as followed:
        other = Authority()
        files.write("ca.crt", other.root_pem)
        await followed.until(lambda: followed.used)
        assert followed.used[0].clients.ca_pem == other.root_pem
        assert followed.used[0].self_signed


AGES = [
    pytest.param(YEAR, 8 * DAY, 7 * DAY, id="at most a week"),
    pytest.param(10 * DAY, 1.1 * DAY, 0.9 * DAY, id="a tenth of its life"),
]


@pytest.mark.parametrize(("life", "fresh", "old"), AGES)
@in_loop
async def test_a_certificate_near_its_end_and_past_it_is_told_once_each(files, caplog, life, fresh, old):
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + DAY
    files.swap(files.authority.issue("localhost", not_after=end, life=life), files.authority.root_pem)
    time = end - fresh
    async with following(files.settings(), clock=lambda: time) as followed:
        await followed.looks()
        assert warnings(caplog) == []
        told = f"--tls-cert: {files.folder / 'tls.crt'}: "
        time = end - old
        await followed.looks(4)
        near = f"{told}expires on {end:%Y-%m-%d %H:%M} UTC and has not been renewed"
        assert warnings(caplog) == [near]
        time = end
        await followed.looks(4)
        expired = f"{told}has expired: no gateway that verifies it will connect"
        assert warnings(caplog) == [near, expired]
        files.swap(files.authority.issue("localhost", not_after=end, life=life), files.authority.root_pem)
        await followed.until(lambda: followed.used)
        assert warnings(caplog) == [near, expired, expired]  # another one, no better


@in_loop
async def test_a_self_signed_certificate_that_expires_is_told(files, caplog):
    time = certificates.now()
    async with following(files.settings(own=False), clock=lambda: time) as followed:
        time += 3651 * DAY
        await followed.looks()
    assert warnings(caplog) == ["self-signed: has expired: no gateway that verifies it will connect"]


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_a_file_that_can_not_be_used_is_an_error_at_first(files, name):
    (files.folder / name).unlink()
    with pytest.raises(CredentialsError, match=f"/{name}: No such file or directory$"):
        certificates_of(files.settings(clients=True))


@in_loop
async def test_a_fault_of_the_moment_is_told_and_the_files_are_read_again(files, caplog):
    async with following(files.settings()) as followed:
        pair = followed.certificates._pair
        read, failures = pair._read, [ZeroDivisionError(), MemoryError()]

        def fail_twice():
            if failures:
                raise failures.pop()
            return read()

        pair._read = fail_twice
        files.swap(files.authority.issue("localhost"), files.authority.root_pem)
        await followed.until(lambda: followed.used)
        assert followed.certificates.age_seconds < 10
    assert [text.split(" in ")[0] for text in warnings(caplog)] == ["certificates: failed, and is started again"] * 2


@in_loop
async def test_what_was_never_started_can_be_stopped(files):
    await certificates_of(files.settings()).stop()
