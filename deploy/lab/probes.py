"""A container's probes, asked as kubelet asks: gRPC health, HTTP and TCP."""

import asyncio
import functools
import ssl
from collections.abc import Mapping
from typing import Any, Final

import grpc
import httpx

_CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
# All of the lab shares one machine, which may do other things as well: a probe waits so many times as long as it says.
_PATIENCE: Final = 4


async def succeeds(probe: Mapping[str, Any], container: Mapping[str, Any], address: str) -> str:
    """Ask once; return "" or why it failed."""
    seconds = float(probe.get("timeoutSeconds", 1)) * _PATIENCE
    try:
        async with asyncio.timeout(seconds):
            if "grpc" in probe:
                return await _grpc(probe["grpc"], address, _port(probe["grpc"]["port"], container))
            if "httpGet" in probe:
                return await _http(probe["httpGet"], address, _port(probe["httpGet"]["port"], container), seconds)
            if "tcpSocket" in probe:
                _, writer = await asyncio.open_connection(address, _port(probe["tcpSocket"]["port"], container))
                writer.close()
                return ""
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except (OSError, grpc.aio.AioRpcError, httpx.HTTPError) as error:
        return f"{type(error).__name__}: {error}"
    return f"a probe of a kind that the lab does not know: {', '.join(probe)}"


def _port(port: int | str, container: Mapping[str, Any]) -> int:
    if isinstance(port, int):
        return port
    return int(next(each["containerPort"] for each in container["ports"] if each.get("name") == port))


async def _grpc(wanted: Mapping[str, Any], address: str, port: int) -> str:
    service = wanted.get("service", "").encode()
    question = b"\x0a" + bytes([len(service)]) + service if service else b""
    async with grpc.aio.insecure_channel(f"{address}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        answer = await channel.unary_unary(_CHECK)(question)
    return "" if answer == _SERVING else f"health is {answer!r}"


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Return what takes any certificate, as kubelet does; it is costly to make."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _http(wanted: Mapping[str, Any], address: str, port: int, seconds: float) -> str:
    scheme = wanted.get("scheme", "HTTP").lower()
    url = f"{scheme}://{address}:{port}{wanted.get('path', '/')}"
    headers = {each["name"]: each["value"] for each in wanted.get("httpHeaders", [])}
    async with httpx.AsyncClient(verify=_unverified(), trust_env=False, timeout=seconds) as client:
        answer = await client.get(url, headers=headers)
    return "" if 200 <= answer.status_code < 400 else f"HTTP {answer.status_code}"
