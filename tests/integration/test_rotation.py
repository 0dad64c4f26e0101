"""A real Envoy with a certificate of its own, and the rotation of its certificate and of the router's under load."""

import asyncio
import json
import ssl
import threading
import time
import urllib.error
import urllib.request

import pytest

from bbr.config import loading
from bbr.transports.serving import ConnectionLimits
from bench.harness import envoy
from bench.harness.certificates import Authority, certificates_of, client_context, shown
from bench.harness.envoy import TYPES
from bench.harness.in_process_router import PHI, QWEN, TRANSPORTS, Router
from tests.support.tools import needs_envoy
from tests.support.waiting import until

pytestmark = needs_envoy

DEADLINE_SECONDS = 90.0
RATE = 100.0  # requests per second
THREADS = 4
AGE_SECONDS = 0.3  # of connections, so that new ones come all the time
SPIFFE = "spiffe://cluster.local/ns/gateways/sa/envoy"


class Secrets:
    """Envoy's SDS files: a certificate of its own and what it trusts, each changed in one step."""

    def __init__(self, folder):
        self.folder = folder

    def show(self, issued):
        chain, key = issued.chain_pem.decode(), issued.key_pem.decode()
        fields = {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}
        self._write("client", {"tls_certificate": fields})

    def trust(self, *roots_pem):
        names = {"san_type": "DNS", "matcher": {"exact": "router.bbr.svc"}}
        fields = {
            "trusted_ca": {"inline_string": b"".join(roots_pem).decode()},
            "match_typed_subject_alt_names": [names],
        }
        self._write("trust", {"validation_context": fields})

    def _write(self, name, fields):
        secret = {"@type": f"{TYPES}.transport_sockets.tls.v3.Secret", "name": name, **fields}
        path = self.folder / f"{name}.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"resources": [secret]}))
        new.replace(path)

    def context(self):
        """Return the transport socket of the router's cluster."""

        def by_file(name):
            source = {"path_config_source": {"path": str(self.folder / f"{name}.json")}, "resource_api_version": "V3"}
            return {"name": name, "sds_config": source}

        return {
            "name": "tls",
            "typed_config": {
                "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "router.bbr.svc",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_certificate_sds_secret_configs": [by_file("client")],
                    "validation_context_sds_secret_config": by_file("trust"),
                },
            },
        }


class Secured:
    """A router whose certificates are followed as `bbr serve` does, and the files of a mounted Secret."""

    def __init__(self, background, transport, folder, issued, ca_pem, *allowed):
        self._background = background
        self._folder = folder
        self._used = threading.Semaphore(0)
        self.write(issued, ca_pem)
        flags = {"tls_cert": str(folder / "tls.crt"), "tls_key": str(folder / "tls.key")}
        flags |= {"tls_client_ca": str(folder / "ca.crt"), "tls_client_san": ",".join(allowed)}
        self._certificates = certificates_of(loading.load(flags, {}), poll_seconds=0.02)
        limits = ConnectionLimits(max_age_seconds=AGE_SECONDS, grace_seconds=10)
        self.router = Router(background, transport=transport, credentials=self._certificates.credentials, limits=limits)
        background.run(self._start())

    def write(self, issued, ca_pem):
        for name, octets in (("tls.crt", issued.chain_pem), ("tls.key", issued.key_pem), ("ca.crt", ca_pem)):
            (self._folder / "new").write_bytes(octets)
            (self._folder / "new").replace(self._folder / name)

    def rotate(self, issued, ca_pem):
        """Write the files one by one, and return once they are all in use."""
        self.write(issued, ca_pem)
        current = None
        while current is None or (current.chain_pem, current.clients.ca_pem) != (issued.chain_pem, ca_pem):
            assert self._used.acquire(timeout=DEADLINE_SECONDS)
            current = self._certificates.credentials

    async def _start(self):
        def use(credentials):
            self.router._server.use(credentials)
            # Once the certificates know it too.
            asyncio.get_running_loop().call_soon(self._used.release)

        self._certificates.start(use)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._background.run(self._certificates.stop())
        self.router.stop()


def ask(port, model=QWEN):
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 1000}], "model": model}).encode()
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as reply:  # noqa: S310
            reply.read()
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class Load:
    """Requests at a steady rate, whatever becomes of each."""

    def __init__(self, port):
        self.statuses = []
        self._port = port
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(THREADS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._end.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)

    def _run(self, index):
        due = time.monotonic() + index / RATE
        while not self._end.wait(max(0.0, due - time.monotonic())):
            self.statuses.append(ask(self._port))
            due += THREADS / RATE

    def go_on(self, count):
        """Await some more answers."""
        wanted = len(self.statuses) + count
        until(lambda: len(self.statuses) >= wanted)


def gateway_for(router, upstreams, secrets):
    configuration = envoy.configuration([envoy.router_filter()], router.port, upstreams.ports)
    configuration["node"] = {"id": "gateway", "cluster": "gateways"}  # which SDS asks for, even by files
    cluster = next(each for each in configuration["static_resources"]["clusters"] if each["name"] == "bbr")
    cluster["transport_socket"] = secrets.context()
    return envoy.gateway(configuration)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["other.example", "gateway.example"])
def test_envoy_is_let_in_by_its_certificates_name(background, upstreams, transport, tmp_path, name):
    ours, theirs = Authority(), Authority()
    secrets = Secrets(tmp_path)
    secrets.trust(ours.root_pem)
    secrets.show(theirs.issue(name))
    issued = ours.issue("router.bbr.svc")
    (tmp_path / "router").mkdir()
    with (
        Secured(background, transport, tmp_path / "router", issued, theirs.root_pem, "gateway.example") as secured,
        gateway_for(secured.router, upstreams, secrets) as gateway,
    ):
        assert ask(gateway.port, PHI) == (200 if name == "gateway.example" else 500)
        assert [each.verdict.base_model for each in secured.router.exchanges] == [PHI] * (name == "gateway.example")
    upstreams.forget()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_certificates_and_both_authorities_rotate_under_load_and_no_request_is_lost(
    background, upstreams, transport, tmp_path
):
    ours, theirs, our_next, their_next = (Authority() for _ in range(4))
    first, second = ours.issue("router.bbr.svc", "localhost"), our_next.issue("router.bbr.svc", "localhost")
    secrets = Secrets(tmp_path)
    secrets.trust(ours.root_pem)
    secrets.show(theirs.issue(SPIFFE))
    (tmp_path / "router").mkdir()
    with (
        Secured(background, transport, tmp_path / "router", first, theirs.root_pem, SPIFFE) as secured,
        gateway_for(secured.router, upstreams, secrets) as gateway,
    ):

        def stat(name):
            return gateway.stats(f"cluster.bbr.{name}")[f"cluster.bbr.{name}"]

        def new_handshakes():
            before = stat("ssl.handshake")
            until(lambda: stat("ssl.handshake") >= before + 2)

        def updated(change, *arguments):
            before = stat("client_ssl_socket_factory.ssl_context_update_by_sds")
            change(*arguments)
            until(lambda: stat("client_ssl_socket_factory.ssl_context_update_by_sds") > before)
            new_handshakes()

        with Load(gateway.port) as load:
            load.go_on(50)
            # Whoever verifies learns of the new authority first, then the other shows its new certificate, then the old
            # authority goes.
            updated(secrets.trust, ours.root_pem, our_next.root_pem)
            secured.rotate(second, theirs.root_pem + their_next.root_pem)
            new_handshakes()
            updated(secrets.show, their_next.issue(SPIFFE))
            updated(secrets.trust, our_next.root_pem)
            secured.rotate(second, their_next.root_pem)
            new_handshakes()
            load.go_on(50)
        assert stat("ssl.fail_verify_error") == stat("ssl.connection_error") == 0
        assert set(load.statuses) == {200}
        assert len(load.statuses) > 100
        raw = client_context(our_next.root_pem, "h2", shows=their_next.issue(SPIFFE))
        leaf = second.chain_pem.decode()
        assert shown(secured.router.port, raw) == ssl.PEM_cert_to_DER_cert(leaf)
    upstreams.forget()
