"""Documents that declare models: parsed by this process in steps or, if they are long, by another one.

What the other process finds comes back in frames of msgpack: a list of records, or a text that says what is wrong.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

import msgspec

from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.steps import Steps, finish
from bbr.sources.objects import LongDocument, SourceError, SourceObject

# A longer document goes to the other process. Of so many bytes the slowest that is known takes 2 ms in one go.
LONG_BYTES: Final = 16_384

# Names in a frame, which take 0.2 ms to decode.
_FRAME_NAMES: Final = 500

# Parses a document's bytes a step at a time; it may raise SourceError. It must be importable, or a partial of what is.
ParseBytes = Callable[[bytes], Steps[tuple[Declaration, ...]]]


class Record(NamedTuple):
    """A declaration on its way, without what all declarations of an object have in common.

    Attributes:
        line: of its origin.
        models: its base models. One with many adapters is several, each with some of them.
        aliases: its aliases.
        grants: its lists of who may use what.
        scope: where all this exists.
        hosts: of the scope.
    """

    line: int
    models: tuple[BaseModel, ...] = ()
    aliases: tuple[Alias, ...] = ()
    grants: tuple[Grant, ...] = ()
    scope: str = ""
    hosts: tuple[str, ...] = ()


_decoder: Final = msgspec.msgpack.Decoder(str | list[Record])


def source_object(key: str, version: bytes, origin: Origin, parse: ParseBytes, data: bytes) -> SourceObject:
    """Return a document as an object for the table.

    Args:
        key: see SourceObject.
        version: the same.
        origin: of all its declarations; the line is theirs.
        parse: parses it.
        data: its text.
    """
    long = None
    if len(data) > LONG_BYTES:
        long = LongDocument(partial(declared, parse), (data,), partial(Received, origin))
    return SourceObject(key, version, partial(parse, data), long)


def declared(parse: ParseBytes, data: bytes) -> Iterator[bytes]:
    """Parse a document and give the frames of what it declares; a job for the other process (`bbr.system.worker`)."""
    try:
        declarations = finish(parse(data))
    except SourceError as error:
        yield msgspec.msgpack.encode(str(error))
        return
    frame: list[Record] = []
    names = 0
    for record in _records(declarations):
        frame.append(record)
        names += sum(1 + len(model.adapters) for model in record.models) + len(record.aliases)
        if names >= _FRAME_NAMES:
            yield msgspec.msgpack.encode(frame)
            frame, names = [], 0
    yield msgspec.msgpack.encode(frame)


def _records(declarations: Iterable[Declaration]) -> Iterator[Record]:
    for origin, models, aliases, grants, scope, hosts, _ in declarations:
        for name, adapters in models:
            for start in range(0, len(adapters) or 1, _FRAME_NAMES):
                some = adapters[start : start + _FRAME_NAMES]
                yield Record(origin.line, (BaseModel(name, some),), scope=scope)
        if aliases or grants or hosts or not models:
            yield Record(origin.line, (), aliases, grants, scope, hosts)


class Received:
    """What the other process has found in a document of an origin."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._error = ""
        self._declarations: list[Declaration] = []

    def take(self, frame: bytes) -> None:
        """Take a frame."""
        found = _decoder.decode(frame)
        if isinstance(found, str):
            self._error = found
        else:
            origins = {line: self._origin._replace(line=line) for line in {record.line for record in found}}
            self._declarations += (
                Declaration(origins[record.line], *record[1:])  # the rest of its fields are a Record's, in order
                for record in found
            )

    def parse(self) -> Steps[tuple[Declaration, ...]]:
        """Return what the document declares, all frames having been taken.

        Raises:
            SourceError: it breaks a rule.
        """
        yield
        if self._error:
            raise SourceError(self._error)
        return tuple(self._declarations)
