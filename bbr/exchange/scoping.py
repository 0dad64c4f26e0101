"""The scope of a request: from its host, or from what the gateway says. Sans-IO.

A request in no scope sees the entries that exist for everyone. So does a request with two different values, because a
client could have sent one of them.
"""

from typing import Final

from bbr.exchange.asker import Asker
from bbr.models.registry import Registry
from bbr.pb.ext_proc_pb2 import HeaderMap, ProcessingRequest
from bbr.reading.head import find_fields

# HTTP/1 gateways other than Envoy may leave the host where HTTP/1 has it. With both, some servers go by the other one.
_HOST_FIELDS: Final = (":authority", "host")


def by_headers(registry: Registry, where: Asker | None, headers: HeaderMap | None) -> Registry:
    """Return the table for a request by its header section.

    Args:
        registry: everyone's table.
        where: the gateway names the scope; None: the host decides.
        headers: the section, if it has come.

    Raises:
        DecodeError: a field with the host is no HeaderValue.
    """
    if where is not None:
        return registry.within(_only(where.named(headers)))
    found = [] if headers is None else [find_fields(headers, name) for name in _HOST_FIELDS]
    # Two of one name: a client has sent one of them, and nobody can say by which the server will go.
    if any(len(fields) > 1 for fields in found):
        return registry.within("")
    scopes = {registry.hosts.scope_of(field) for fields in found for field in fields}
    return registry.within(_only(frozenset(scopes)))


def by_message(registry: Registry, where: Asker, message: ProcessingRequest) -> Registry:
    """Return the table for a request by a stream's first message; the same if the scope stands in a header.

    Raises:
        DecodeError: the message's metadata or attributes are none.
    """
    names = where.in_context(message)
    return registry if names is None else registry.within(_only(names))


def _only(names: frozenset[str]) -> str:
    return next(iter(names)) if len(names) == 1 else ""
