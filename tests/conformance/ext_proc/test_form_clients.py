"""What real clients send as forms: built by them, with no server, and read as python-multipart reads it."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests

from bbr.reading.multipart import MultipartReader, boundary
from tests.support.bodies import pieces, read_form
from tests.support.multiparts import by_python_multipart

URL = "http://127.0.0.1/v1/audio/transcriptions"
RECORDING = b"RIFF\r\n--\r\n" + bytes(range(256)) * 40
MODELS = ("whisper-1", "Qwen/Qwen3-ASR 1.7B", "modèle-ü", 'a"b\\c%22;=&+')
FILE_NAMES = ("speech.wav", 'my "best" model name.wav', "C:\\audio\\é.wav", "a%22;b.wav")

Sent = tuple[str, bytes]


def by_requests(model: str, file_name: str) -> Sent:
    files = {"file": (file_name, RECORDING, "audio/wav")}
    data = {"model": model, "timestamp_granularities[]": ["word", "segment"]}
    request = requests.Request("POST", URL, data=data, files=files).prepare()
    assert isinstance(request.body, bytes)
    return str(request.headers["content-type"]), request.body


def by_httpx(model: str, file_name: str) -> Sent:
    files = [("file", (file_name, RECORDING, "audio/wav"))]
    request = httpx.Request("POST", URL, data={"model": model, "n": "1"}, files=files)
    return request.headers["content-type"], request.read()


class Collected(aiohttp.abc.AbstractStreamWriter):
    """Keeps what aiohttp writes."""

    def __init__(self) -> None:
        self.octets = b""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.octets += chunk

    async def write_eof(self, chunk: bytes = b"") -> None:
        self.octets += chunk

    async def drain(self) -> None:
        pass

    def enable_compression(self, *_: object, **__: object) -> None:
        pass

    def enable_chunking(self) -> None:
        pass

    async def write_headers(self, *_: object) -> None:
        pass


def by_aiohttp(model: str, file_name: str) -> Sent:
    async def build() -> Sent:
        form = aiohttp.FormData()
        form.add_field("file", RECORDING, filename=file_name, content_type="audio/wav")
        form.add_field("model", model)
        payload = form()
        collected = Collected()
        await payload.write(collected)
        return payload.content_type, collected.octets

    return asyncio.run(build())


CLIENTS: dict[str, Callable[[str, str], Sent]] = {"requests": by_requests, "httpx": by_httpx, "aiohttp": by_aiohttp}


def read(sent: Sent, size: int) -> str | None:
    content_type, body = sent
    mark = boundary([content_type.encode()])
    reader = MultipartReader(mark)
    for piece in pieces(body, size):
        assert reader.feed(piece) == len(piece)
    model = reader.end()
    assert [model] == [value.decode() for value in by_python_multipart(body, mark)]
    return model


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize("file_name", FILE_NAMES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("client", CLIENTS)
def test_multipart(client: str, model: str, file_name: str, size: int) -> None:
    assert read(CLIENTS[client](model, file_name), size) == model


@pytest.mark.parametrize("model", MODELS)
def test_urlencoded(model: str) -> None:
    for body in (
        requests.Request("POST", URL, data={"prompt": "a&model=b;c", "model": model}).prepare().body,
        httpx.Request("POST", URL, data={"prompt": "a&model=b;c", "model": model}).read(),
    ):
        assert read_form([body.encode() if isinstance(body, str) else body or b""]) == model


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("model", MODELS)
def test_curl(model: str, tmp_path: Path) -> None:
    recording = tmp_path / 'my "best" model.wav'
    recording.write_bytes(RECORDING)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(90)
        port = server.getsockname()[1]
        command = ["curl", "-s", "--max-time", "90", "-H", "Expect:", "--form-string", f"model={model}"]
        quoted = str(recording).replace("\\", "\\\\").replace('"', '\\"')
        command += ["-F", f'file=@"{quoted}";type=audio/wav', f"http://127.0.0.1:{port}/v1/audio/transcriptions"]
        with subprocess.Popen(command) as curl:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                fields = dict(line.rstrip().split(b": ", 1) for line in list(iter(stream.readline, b"\r\n"))[1:])
                names = {name.lower(): value.decode() for name, value in fields.items()}
                body = stream.read(int(names[b"content-length"]))
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            assert curl.wait(90) == 0
    assert read((names[b"content-type"], body), 1000) == model
