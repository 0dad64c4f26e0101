"""What a connection holds, measured from outside: the one place in the tests that knows where it is kept."""

import gc
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from bbr.http2.connection import Connection

_SHARED = (type, types.FunctionType, types.MethodType, types.ModuleType, types.BuiltinFunctionType, types.CodeType)


class Held(NamedTuple):
    """What a connection holds for its peer now, or at most.

    Attributes:
        streams: that are live.
        queued: octets of output: not taken yet, or waiting for credit.
        input: octets received of what is not whole yet: a frame, a field block.
    """

    streams: int
    queued: int
    input: int

    def most(self, other: "Held") -> "Held":
        """Return the larger of each."""
        return Held(*map(max, self, other))


def held(connection: Connection) -> Held:
    """Return what a connection holds."""
    sender = connection._sender
    output = sum(map(len, sender._out))
    waiting = sum(stream.queued_bytes for _, stream in connection.streams.items())  # a test counts values()
    block = connection._receiver.block.size if connection._receiver.block else 0
    return Held(len(connection.streams), output + waiting, sum(map(len, connection._reader._parts)) + block)


def octets_held(root: object) -> int:
    """Return the octets of all buffers that can be reached from an object, each counted once.

    Classes, functions and what belongs to them are shared by all connections, and not followed.
    """
    return sum(map(len, _buffers(root)))


def _buffers(root: object) -> Iterator[Any]:
    seen = {id(root)}
    todo = [root]
    while todo:
        each: Any = todo.pop()
        if isinstance(each, memoryview):
            each = each.obj  # a view keeps all of its buffer
            if id(each) in seen:
                continue
            seen.add(id(each))
        if isinstance(each, bytes | bytearray):
            yield each
            continue
        for inner in gc.get_referents(each):
            if id(inner) not in seen and not isinstance(inner, _SHARED):
                seen.add(id(inner))
                todo.append(inner)
