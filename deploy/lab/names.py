"""The cluster's DNS: answers A questions for Services, in UDP, from what the API server says.

A stand-in for CoreDNS. It knows no pods' names and no SRV records.
"""

import asyncio
import ipaddress
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from deploy.lab.network import DOMAIN, NODE_ADDRESS

PORT: Final = 53
_KEPT_SECONDS: Final = 0.5
_TTL_SECONDS: Final = 1
_HEADER: Final = struct.Struct(">HHHHHH")
_ANSWER: Final = 0x8580  # a response, authoritative, recursion desired and available
_NO_SUCH_NAME: Final = 3
_A: Final = 1
SERVICE_PREFIX: Final = "10.96."

# Returns the objects of a list of the API server's, by its path.
Items = Callable[[str], Awaitable[list[dict[str, Any]]]]


class Names(asyncio.DatagramProtocol):
    """The answers."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._table: dict[str, list[str]] = {}
        self._read_at = float("-inf")
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on the node's address."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(NODE_ADDRESS, PORT))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # Python 3.11's transport of datagrams is no subclass of DatagramTransport.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """See asyncio."""
        task = asyncio.get_running_loop().create_task(self._reply(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, data: bytes, addr: tuple[str, int]) -> None:
        if time.monotonic() - self._read_at > _KEPT_SECONDS:
            self._read_at = time.monotonic()
            slices = await self._items("/apis/discovery.k8s.io/v1/endpointslices")
            self._table = table(await self._items("/api/v1/services"), slices)
        found = answer(data, self._table)
        if found is not None and self._transport is not None:
            self._transport.sendto(found, addr)


def table(services: list[dict[str, Any]], slices: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the Services' addresses by their full names: of a headless one, those of its ready endpoints."""
    found: dict[str, list[str]] = {}
    for service in services:
        address = service["spec"].get("clusterIP")
        meta = service["metadata"]
        found[f"{meta['name']}.{meta['namespace']}.svc.{DOMAIN}"] = [address] if address and address != "None" else []
    for each in slices:
        meta = each["metadata"]
        name = f"{meta.get('labels', {}).get('kubernetes.io/service-name')}.{meta['namespace']}.svc.{DOMAIN}"
        if name in found and not any(address.startswith(SERVICE_PREFIX) for address in found[name]):
            for endpoint in each.get("endpoints") or ():
                if endpoint.get("conditions", {}).get("ready"):
                    found[name] += endpoint["addresses"]
    return found


def answer(question: bytes, table: dict[str, list[str]]) -> bytes | None:
    """Return the reply to a question of one name; None for what is no question.

    Source: RFC 1035, section 4.
    """
    if len(question) < _HEADER.size:
        return None
    labels, at = [], _HEADER.size
    while at < len(question) and question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]])
        at += question[at] + 1
    if at + 5 > len(question):
        return None
    (kind,) = struct.unpack_from(">H", question, at + 1)
    addresses = table.get(b".".join(labels).decode("ascii", "replace").lower())
    # The name is a pointer to the question's.
    record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, _TTL_SECONDS, 4)
    records = [record + ipaddress.ip_address(each).packed for each in addresses or () if kind == _A]
    flags = _ANSWER | (0 if addresses is not None else _NO_SUCH_NAME)
    header = _HEADER.pack(int.from_bytes(question[:2], "big"), flags, 1, len(records), 0, 0)
    return header + question[_HEADER.size : at + 5] + b"".join(records)
