import contextlib
import http.server
import json
import threading

import pytest

from bbr.commands.doctor import admin
from bbr.commands.doctor.admin import AdminError
from bench.harness.ports import REFUSING_PORT

GOOD = {"configs": []}


@contextlib.contextmanager
def serving(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def reply(handler, octets, status=200):
    handler.send_response(status)
    handler.send_header("content-length", str(len(octets)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(octets)


def test_fetch():
    asked = []

    def answer(handler):
        asked.append(handler.path)
        reply(handler, json.dumps(GOOD).encode())

    with serving(answer) as url:
        found = admin.fetch(url + "/")
    assert asked == list(admin.PATHS.values())
    assert found == admin.Answers(GOOD, GOOD, GOOD, GOOD)


def test_a_proxy_is_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(lambda handler: reply(handler, b'{"configs": []}')) as url:
        assert admin.fetch(url).config_dump == GOOD


@pytest.mark.parametrize(
    ("octets", "status", "why"),
    [
        (b"no", 404, "config_dump?include_eds: the answer is 404 Not Found; is this Envoy's admin port?"),
        (b"<html>", 200, "this is not JSON such as Envoy's admin interface returns"),
        (b"[]", 200, "this is not a JSON object"),
        (b"{}", 200, "this is not an answer of /config_dump: it has no list `configs`"),
        (b" " * 2000, 200, "the answer is longer than 1000 bytes"),
    ],
)
def test_an_answer_that_is_not_envoys(octets, status, why):
    with serving(lambda handler: reply(handler, octets, status)) as url, pytest.raises(AdminError) as error:
        admin.fetch(url, max_bytes=1000)
    assert why in str(error.value)
    assert url in str(error.value)


def test_nobody_there():
    with pytest.raises(AdminError, match=r"^http://127.0.0.1:\d+/config_dump\?include_eds: Connection refused$"):
        admin.fetch(f"http://127.0.0.1:{REFUSING_PORT}")


def test_an_answer_that_does_not_come():
    done = threading.Event()
    with serving(lambda _: done.wait(10)) as url:
        try:
            with pytest.raises(AdminError, match=r"no complete answer within 0\.1 s"):
                admin.fetch(url, timeout=0.1)
        finally:
            done.set()


def test_an_answer_that_comes_by_drops():
    done = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not done.wait(0.01):
                handler.wfile.write(b" ")

    with serving(drip) as url:
        try:
            with pytest.raises(AdminError, match=r"no complete answer within 0\.2 s"):
                admin.fetch(url, timeout=0.2)
        finally:
            done.set()


def test_no_http():
    with serving(lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n")) as url, pytest.raises(AdminError) as error:
        admin.fetch(url)
    assert str(error.value).startswith(f"{url}/config_dump?include_eds: ")


@pytest.mark.parametrize(
    "url",
    [
        "http://\udcff",
        "http://x:65536",
        f"http://x:{'9' * 5000}",
        "127.0.0.1:1",
        "file:///etc/passwd",
        "http://",
        "http://[::1",
        "",
        "ftp://x",
    ],
)
def test_no_url(url):
    with pytest.raises(AdminError, match=r"--envoy-admin: .* is not a URL such as http://"):
        admin.fetch(url)


def test_a_url_with_a_password():
    with pytest.raises(AdminError, match="password") as error:
        admin.fetch("http://me:secret@127.0.0.1:1")
    assert "secret" not in str(error.value)


def test_a_password_in_what_is_no_url():
    with pytest.raises(AdminError, match=r"'\[127.0.0.1:1' is not a URL") as error:
        admin.fetch("http://me:secret@[127.0.0.1:1")
    assert "secret" not in str(error.value)


def test_load(tmp_path):
    (tmp_path / "config_dump.json").write_text(json.dumps(GOOD))
    (tmp_path / "stats.json").write_text('{"stats": []}')
    assert admin.load(tmp_path) == admin.Answers(GOOD, stats={"stats": []})
    assert admin.load(tmp_path / "config_dump.json") == admin.Answers(GOOD)


def test_load_what_is_not_there(tmp_path):
    with pytest.raises(AdminError, match=r"config_dump\.json: No such file or directory"):
        admin.load(tmp_path)
    with pytest.raises(AdminError, match=r"x: No such file or directory"):
        admin.load(tmp_path / "x")


def test_load_what_is_too_long_or_no_dump(tmp_path):
    file = tmp_path / "saved.json"
    file.write_text('{"listeners": []}')
    with pytest.raises(AdminError, match=r"saved\.json: this is not an answer of /config_dump"):
        admin.load(file)
    with pytest.raises(AdminError, match="longer than 5 bytes"):
        admin.load(file, max_bytes=5)


def test_a_redirect_is_not_followed():
    asked = []

    def answer(handler):
        asked.append(handler.path)
        handler.send_response(302)
        handler.send_header("location", "/elsewhere")
        handler.end_headers()

    with serving(answer) as url, pytest.raises(AdminError, match="the answer is 302 Found; is this Envoy's admin port"):
        admin.fetch(url)
    assert asked == [admin.PATHS["config_dump"]]


def test_words_of_a_server_are_cut():
    def answer(handler):
        handler.send_response(500, "no\x1b[2J" + "x" * 10_000)
        handler.end_headers()

    with serving(answer) as url, pytest.raises(AdminError) as caught:
        admin.fetch(url)
    assert "the answer is 500 no\\x1b[2Jxxx" in str(caught.value)
    assert len(str(caught.value)) < 500
