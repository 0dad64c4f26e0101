"""L4 and L5 of the cases: h2spec, and clients of other people, on a running server of ours."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bbr.config.policies import policy
from bbr.config.settings import Settings
from bbr.exchange.exchange import Exchange
from bbr.models.registry import Registry
from bbr.rpc import health
from bench.harness.grpc_client import PROCESS, framed
from bench.harness.processes import Bbr, serving
from bench.harness.raw_client import HEAD, REQUEST, WHOLE
from tests.support.h2_client import H2Client
from tests.support.tools import needs

DEADLINE_SECONDS = 120
FIELDS = ("content-type: application/grpc", "te: trailers")
CHECK = "/grpc.health.v1.Health/Check"


@pytest.fixture(scope="module")
def router() -> Iterator[Bbr]:
    with serving("--transport=uv") as router:
        yield router


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "exchange"
    path.write_bytes(REQUEST)
    return path


def run(*command: object) -> str:
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, timeout=DEADLINE_SECONDS, encoding="latin-1", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answer() -> bytes:
    """Return the DATA that answers REQUEST."""
    talk = Exchange(policy(Settings()), Registry())
    return b"".join(framed(each) for message in (HEAD, WHOLE) for each in talk.receive(message))


def with_fields(flag: str = "-H") -> list[str]:
    return [each for field in FIELDS for each in (flag, field)]


@needs("h2load")
def test_l5_h2load_has_no_errors_in_2000_exchanges(router, body):
    url = f"http://127.0.0.1:{router.port}{PROCESS}"
    output = run("h2load", "-n", 2000, "-c", 4, "-m", 32, "-d", body, *with_fields(), url)
    assert "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout" in output
    assert "status codes: 2000 2xx" in output
    # Every answer was a whole one.
    assert re.search(r"\((\d+)\) data", output)[1] == str(2000 * len(answer()))


@needs("h2load")
@pytest.mark.parametrize("port", ["port", "health_port"])
def test_l5_h2load_on_health_checks(router, port, tmp_path):
    request = tmp_path / "check"
    request.write_bytes(framed(b""))
    url = f"http://127.0.0.1:{getattr(router, port)}{CHECK}"
    output = run("h2load", "-n", 2000, "-c", 10, "-m", 10, "-d", request, *with_fields(), url)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in output
    assert re.search(r"\((\d+)\) data", output)[1] == str(2000 * len(framed(health.check(serving=True))))


@needs("nghttp")
@pytest.mark.parametrize("window", [16, 30])
def test_l5_nghttp(router, body, window):
    url = f"http://127.0.0.1:{router.port}{PROCESS}"
    command = ["nghttp", "-nv", "--no-dep", "-m", 20, "-w", window, "-W", window]
    output = run(*command, *with_fields("-H"), "-d", body, url)
    assert len(re.findall(r"recv \(stream_id=\d+\) :status: 200", output)) == 20
    assert len(re.findall(r"recv \(stream_id=\d+\) grpc-status: 0", output)) == 20
    assert "GOAWAY frame <" not in re.sub(r"send GOAWAY frame <", "", output)
    assert "RST_STREAM" not in output


@needs("curl")
def test_l5_curl(router, body, tmp_path):
    got = tmp_path / "answer"
    url = f"http://127.0.0.1:{router.port}{PROCESS}"
    command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--data-binary", f"@{body}"]
    head = run(*command, *with_fields(), "--dump-header", "-", "--output", got, url)
    assert head.startswith("HTTP/2 200")
    assert "grpc-status: 0" in head
    assert got.read_bytes() == answer()


@needs("curl")
def test_l5_curl_asks_for_what_is_no_call(router):
    # Without a body. If an answer overtakes one, RST_STREAM(NO_ERROR) follows (RFC 9113 section 8.1), and curl 7.88.1
    # forgets the answer, whoever the server is. If none follows, it waits for ever. The next test has a body.
    base = f"http://127.0.0.1:{router.port}"
    command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--write-out", "%{http_code}"]
    assert run(*command, f"{base}/").endswith("405")
    assert run(*command, "--data", "", f"{base}/").endswith("415")


@needs("nghttp")
def test_l5_nghttp_uploads_what_is_no_call(router, tmp_path):
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(64 << 20)  # more than all windows: the answer comes before its end
    output = run("nghttp", "-nv", "--no-dep", "-d", body, f"http://127.0.0.1:{router.port}/")
    assert re.search(r"recv \(stream_id=1\) :status: 415", output)
    assert re.search(r"recv RST_STREAM frame .*\n *\(error_code=NO_ERROR", output)


@pytest.fixture
def h2spec_port() -> Iterator[int]:
    command = [sys.executable, "-m", "tests.conformance.http2.h2spec_app", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:
        try:
            yield int(app.stdout.readline())
        finally:
            app.kill()


@needs("h2spec")
def test_l4_h2spec_passes_all_146(h2spec_port):
    output = run("h2spec", "-S", "-h", "127.0.0.1", "-p", h2spec_port, "-o", 1)
    assert "146 tests, 146 passed, 0 skipped, 0 failed" in output


def test_l4_the_app_that_h2spec_asks_answers(h2spec_port):
    with H2Client(h2spec_port) as client:
        for method in ("GET", "HEAD", "POST"):
            reply = client.request(method, "/", body=b"x" if method == "POST" else None)
            assert (reply.status, bytes(reply.body)) == (200, b"" if method == "HEAD" else b"sixteen octets.\n")
