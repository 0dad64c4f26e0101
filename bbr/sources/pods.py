"""The addresses of a pool's pods that are ready."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, Self

import msgspec

from bbr.sources.answers import Metadata
from bbr.sources.kept import Kept
from bbr.sources.servers import Address

# Of one pool. Each port of a pod is one.
MAX_SERVERS: Final = 256


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct, rename={"pod_ip": "podIP"}):
    pod_ip: str = ""
    conditions: list[_Condition] | None = None


class Pod(msgspec.Struct):
    """What is read of a pod."""

    metadata: Metadata
    status: _Status | None = None

    def reduced(self) -> Self:
        """Return itself: nothing else is read of it."""
        return self

    @property
    def host(self) -> str:
        """Its address; "" if it is not ready."""
        if self.status is None or not _ready(self.status):
            return ""
        try:
            address = ip_address(self.status.pod_ip)
        except ValueError:
            return ""
        # No pod is there, and a cloud's metadata server may be.
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            return ""
        return str(address)


def _ready(status: _Status) -> bool:
    return any((each.type, each.status) == ("Ready", "True") for each in status.conditions or ())


class KeptPods(Kept[str]):
    """Where the pods of a pool are."""

    def read(self, found: Pod) -> str:
        """Return where a pod is; "" if it is not ready."""
        return found.host

    def addresses(self, ports: Iterable[int]) -> list[Address]:
        """Return the addresses of the servers, the first MAX_SERVERS."""
        hosts = sorted({host for host in (self.objects or {}).values() if host})
        return [Address(host, port) for port in ports for host in hosts][:MAX_SERVERS]
